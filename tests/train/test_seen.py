"""A teacher out of a run folder is asked about images like those it was trained on, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fractionate.config.run import Network
from fractionate.data import Normalization, SmallImages
from fractionate.models import Description, create, save_exported
from fractionate.runs.checkpoint import save_weights
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.train.build import Training, prepare
from fractionate.train.pixels import check_order, check_seen, normalised_as_trained
from tests.train.runs import tiny

HERE = {"classes": ["cat", "dog", "eel"], "mean": [0.3], "std": [0.2]}


def training(folder: Path, summary: Any) -> Training:
    save_weights(create("convnet_8_16", num_classes=3), folder / "student.safetensors")
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    pixels, rule = torch.zeros(12, 1, 8, 8, dtype=torch.uint8), Normalization((0.3,), (0.2,))
    source = SmallImages(pixels, torch.arange(12) % 3, 3, rule, batch_size=4, classes=("cat", "dog", "eel"))
    teacher = Network("convnet_8_16", checkpoint=str(folder / "student.safetensors"))
    return prepare(tiny("kd", teacher=teacher), train=source, test=source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["dog", "cat", "eel"]}, "class 0 is 'dog' in .* and 'cat' here"),
        ({"classes": ["cat", "dog"]}, "class 2 is none in .* and 'eel' here"),
        ({"classes": ["cat", "dog", "eel", "fox"]}, "class 3 is 'fox' in .* and none here"),
        ({"mean": [0.32]}, r"mean 0.320 and std 0.200 in .*, 0.300 and 0.200 here"),
        ({"std": [0.25]}, "normalised in another way"),
    ],
)
def test_another_order_or_normalisation_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    made = training(tmp_path, {"images": HERE | change})
    with pytest.raises(ValueError, match=message):
        check_seen(made)


@pytest.mark.parametrize(
    "summary",
    [
        None,
        {},
        [],
        {"images": None},
        {"images": HERE},
        {"images": HERE | {"classes": []}},
        {"images": HERE | {"mean": [0.305], "std": [0.205]}},
        {"images": {"classes": 3, "mean": ["a"], "std": None}},
    ],
)
def test_the_same_images_and_folders_that_do_not_tell_are_taken(summary: Any, tmp_path: Path) -> None:
    check_seen(training(tmp_path, summary))


NAMES = ("cat", "dog", "eel")
UNNAMED = [(), ("0", "1", "2"), ("class 1", "class 2", "class 3")]


def exported(folder: Path, classes: tuple[str, ...]) -> Path:
    described = Description("convnet_8_16", 3, (1, 8, 8), mean=(0.3,), std=(0.2,), classes=classes)
    save_exported(create("convnet_8_16", num_classes=3), described, folder)
    return folder / "model.safetensors"


def test_a_teacher_out_of_an_export_in_another_order_is_refused(tmp_path: Path) -> None:
    made = training(tmp_path, None)
    for name, classes in (("same", NAMES), ("other", ("cat", "eel", "dog"))):
        weights = exported(tmp_path / name, classes)
        assert made.run.teacher is not None
        made.run = replace(made.run, teacher=replace(made.run.teacher, checkpoint=str(weights)))
        if name == "same":
            check_seen(made)
    with pytest.raises(ValueError, match=r"the teacher was .* class 1 is 'eel' in .*config.json and 'dog' here; train"):
        check_seen(made)


@pytest.mark.parametrize("theirs", UNNAMED)
def test_where_names_are_unknown_or_numbers_stand_in_for_them_nothing_is_said(
    theirs: tuple[str, ...], tmp_path: Path
) -> None:
    check_order(exported(tmp_path / "out", theirs), NAMES, "student", "x")
    check_order(exported(tmp_path / "named", NAMES), theirs, "student", "x")


def test_a_teacher_of_numbered_classes_does_not_teach_named_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"class 0 is '0' in .* and 'cat' here; train it on these images"):
        check_seen(training(tmp_path, {"images": HERE | {"classes": ["0", "1", "2"]}}))


def test_classes_that_numbers_name_have_an_order_too(tmp_path: Path) -> None:
    weights = exported(tmp_path / "out", ("1", "10", "2"))  # folders by name, and by number
    with pytest.raises(ValueError, match=r"the student was .* class 1 is '10' in .* and '2' here; x"):
        check_order(weights, ("1", "2", "10"), "student", "x")


def test_weights_of_unknown_origin_are_taken(tmp_path: Path) -> None:
    exported(tmp_path, ("cat", "eel", "dog")).rename(tmp_path / "weights.safetensors")  # beside the export's config
    for weights in (None, tmp_path / "weights.safetensors", tmp_path / "nowhere.pth"):
        check_order(weights, NAMES, "student", "x")


def test_a_run_records_what_it_saw(tmp_path: Path) -> None:
    run = replace(tiny("ce"), epochs=1)
    run_in_folder(run, tmp_path)
    images, rule = RunFolder(tmp_path).summary()["images"], prepare(run).train.normalization  # type: ignore[attr-defined]
    assert (images["mean"], images["std"]) == (list(rule.mean), list(rule.std))


def test_weights_in_a_run_s_folder_are_measured_on_images_normalised_as_in_that_run(tmp_path: Path) -> None:
    images = torch.zeros(2, 1, 4, 5, dtype=torch.uint8)
    source = SmallImages(images, torch.arange(2), 2, Normalization((0.5,), (0.25,)), batch_size=2)
    weights = str(tmp_path / "student.safetensors")
    assert normalised_as_trained(source, weights) == (source, None)
    for mean, told in ((0.505, False), (0.9, True)):
        (tmp_path / "summary.json").write_text(json.dumps({"images": {"mean": [mean], "std": [0.25]}}))
        found, said = normalised_as_trained(source, weights)
        assert said is not None if told else said is None
        expected = torch.full((2, 1, 4, 5), -mean / 0.25)
        torch.testing.assert_close(next(iter(found.batches(1))).images, expected)
