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
from fractionate.models import create
from fractionate.runs.checkpoint import save_weights
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.train.build import Training, prepare
from fractionate.train.pixels import check_seen, normalised_as_trained
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
