"""Properties that small changes of the code had slipped past: looking at pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fractionate.pictures import plan
from fractionate.pictures.layout import found_in
from fractionate.pictures.plan import Networks, planned
from fractionate.pictures.survey import _check_counts


@pytest.mark.parametrize(
    ("gpu", "small", "side"), [(False, True, 48), (True, True, 64), (False, False, 96), (True, False, 224)]
)
def test_the_size_suits_the_networks_and_the_machine(
    gpu: bool, small: bool, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for n in range(5):
            Image.new("RGB", (300, 300), (10 * n, 9, 9)).save(tmp_path / label / f"{n}.png")
    monkeypatch.setattr(plan, "has_gpu", lambda: gpu)
    networks = Networks("resnet20", "resnet8") if small else Networks("timm:resnet18", "timm:resnet10t")
    assert planned(tmp_path, networks).survey.size == side


def test_a_class_without_a_training_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no image of class 'dog'"):
        _check_counts([3, 0], ["cat", "dog"], tmp_path)


def test_pictures_beside_the_folders_of_the_classes_are_counted_and_named(tmp_path: Path) -> None:
    for place in ("cat/1", "cat/2", "dog/1", "dog/2", "loose"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / f"{place}.png")
    with pytest.warns(UserWarning, match=r"1 picture lies beside the folders .* left out \(loose\.png\)"):
        found_in(tmp_path)
