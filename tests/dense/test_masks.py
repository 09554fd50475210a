"""Masks as people have them: what cannot be labels is refused, and none is turned against its image."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fractionate.config.data import Data
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run
from fractionate.config.task import Segmentation
from fractionate.data.dense.layouts import listed
from fractionate.data.dense.pairs import ready
from fractionate.probe.predict import predict_pictures
from fractionate.runs.folder import RunFolder

ORIENTATION = 0x0112
Draw = Callable[[np.ndarray], np.ndarray]


def thing(square: bool = False) -> np.ndarray:
    """A mask with a mark in one corner."""
    mask = np.zeros((8, 8 if square else 12), np.uint8)
    mask[:2, :3] = 1
    return mask


def pairs(root: Path, mask: np.ndarray, *, ending: str = ".png", names: str = "", orientation: int = 1) -> Path:
    """Six images, bright where a mask's thing is, with what ``mask`` holds as their masks."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    bright = np.repeat(200 * thing(mask.shape[0] == mask.shape[1])[..., None], 3, 2).astype(np.uint8)
    for i in range(6):
        Image.fromarray(bright).save(root / "images" / f"{i}.png", exif=exif)
        Image.fromarray(mask).save(root / "masks" / f"{i}{ending}")
    if names:
        (root / "classes.txt").write_text(names)
    return root


def seen(root: Path) -> bool:
    """Whether the thing of the first image lies where its mask says."""
    image, mask = ready(listed("masks", root, "train"), "the training images")[0]
    return bool(((image[0] > 100) == (mask == 1)).all())


@pytest.mark.parametrize(
    ("change", "given", "words"),
    [
        (lambda m: 255 * m, {}, r"one label alone, 0 and 255, which is void"),
        (lambda m: 255 * m, {"names": "ground\nthing\n"}, r"number 'thing' 1, not 255"),
        (lambda m: 128 * m, {}, r"2 labels up to 128"),
        (lambda m: m, {"ending": ".jpg"}, r"which JPEG changes"),
    ],
)
def test_masks_that_are_no_labels_are_refused(change: Draw, given: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        seen(pairs(tmp_path / "set", change(thing()), **given))


def test_labels_with_a_gap_are_taken_where_the_classes_have_names(tmp_path: Path) -> None:
    root = pairs(tmp_path, 3 * thing(), names="ground\na\nb\nthing\n")
    assert ready(listed("masks", root, "train"), "the training images").classes[3] == "thing"


@pytest.mark.parametrize("drawn_on", ["the file", "the turned image"])
def test_a_mask_lies_on_its_image_as_the_size_says_it_was_drawn(drawn_on: str, tmp_path: Path) -> None:
    mask = thing() if drawn_on == "the file" else np.rot90(thing(), -1).copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert seen(pairs(tmp_path, mask, orientation=6))


@pytest.mark.parametrize(("orientation", "square"), [(3, False), (6, True), (2, False)])
def test_where_a_mask_cannot_say_how_its_image_is_turned_that_is_said(
    orientation: int, square: bool, tmp_path: Path
) -> None:
    turn = {3: lambda m: np.rot90(m, 2), 6: lambda m: np.rot90(m, -1), 2: np.fliplr}[orientation]
    with pytest.warns(UserWarning, match="turned by a mark of their camera"):
        assert seen(pairs(tmp_path, turn(thing(square)).copy(), orientation=orientation))


def test_a_mask_that_has_changed_within_its_size_changes_the_digest(tmp_path: Path) -> None:
    root = pairs(tmp_path, thing(), ending=".bmp")
    before = listed("masks", root, "train").listing()
    for path in (root / "masks").iterdir():
        Image.fromarray(1 - thing()).save(path)
    assert listed("masks", root, "train").listing() != before


def test_pictures_are_predicted_by_runs_that_know_classes_of_whole_pictures(tmp_path: Path) -> None:
    picture, run = (
        tmp_path / "a.png",
        Run(
            student=Network("mine:net"),
            method=MethodSpec.parse("ce"),
            data=Data("masks", root="x"),
            task=Segmentation(),
        ),
    )
    Image.new("RGB", (4, 4)).save(picture)
    with (
        patch.object(RunFolder, "summary", return_value={}),
        patch.object(RunFolder, "config", return_value=run),
        pytest.raises(ValueError, match="trained for segmentation"),
    ):
        predict_pictures(tmp_path, [picture], Console())
    with pytest.raises(ValueError, match="top is a number of classes of at least 1, got 0"):
        predict_pictures(tmp_path, [picture], Console(), top=0)
