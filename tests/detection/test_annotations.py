"""Annotations that seem right and are not: boxes in other forms, two files for one part, pictures that were changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fractionate.data.boxes import BoxImages, annotated
from tests.detection import trees

Change = Callable[[list[float]], list[float]]


def with_boxes(root: Path, changed: Change) -> Path:
    """The set with every bbox in another form."""

    def change(part: str, said: dict[str, Any]) -> None:
        for one in said["annotations"]:
            one["bbox"] = changed(one["bbox"])

    return trees.coco(root, train=12, change=change)


def corners(box: list[float]) -> list[float]:
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def shares(box: list[float]) -> list[float]:
    return [box[0] / 64, box[1] / 48, box[2] / 64, box[3] / 48]


def centres(box: list[float]) -> list[float]:
    return [box[0] + box[2] / 2, box[1] + box[3] / 2, 2 * box[2], 2 * box[3]]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (
            corners,
            r"\d+ of \d+ boxes reach beyond .*must be \[left, top, width, height\] in pixels; .*take",
        ),
        (centres, r"\d+ of \d+ boxes reach beyond .*must be \[left, top, width, height\] in pixels$"),
        (shares, r"no bbox of \d+ has a number above 1.*must be \[left, top, width, height\] in pixels; multiply"),
    ],
)
def test_boxes_in_another_form_are_refused_with_the_one_of_coco(form: Change, said: str, tmp_path: Path) -> None:
    root = with_boxes(tmp_path / "coco", form)
    with pytest.raises(ValueError, match=said) as caught:
        annotated(str(root), "train")
    assert "\n" not in str(caught.value)


def test_a_few_boxes_beyond_the_edge_and_rounded_edges_are_cut_as_before(tmp_path: Path) -> None:
    rounded = with_boxes(tmp_path / "rounded", lambda box: [box[0], box[1], 64 - box[0] + 1.0, 48 - box[1] + 1.0])
    assert len(annotated(str(rounded), "train")) == 11
    left = [[-9.0, -9.0, 30.0, 30.0], [-9.0, -9.0, 31.0, 31.0]]  # the first two boxes
    few = with_boxes(tmp_path / "few", lambda box: left.pop() if left else box)
    assert len(annotated(str(few), "train")) == 11


@pytest.mark.parametrize("more", ["instances_train-mini.json", "train.json", "instances_val2014.json"])
def test_two_files_of_annotations_for_one_part_are_refused(more: str, tmp_path: Path) -> None:
    root = trees.coco(tmp_path / "coco")
    part = "train" if "train" in more else "val"
    shutil.copy(root / "annotations" / f"instances_{part}2017.json", root / "annotations" / more)
    with pytest.raises(ValueError, match=rf"{more} and|and annotations/{more}, both for the .*; keep one of them"):
        annotated(str(root), "train")


def test_bins_and_thumbnails_beside_the_set_in_a_folder_are_passed_over(tmp_path: Path) -> None:
    trees.coco(tmp_path / "coco")
    for name in ("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"):
        (tmp_path / name).mkdir()
    assert len(annotated(str(tmp_path), "test")) == 4


def test_pictures_that_are_not_kept_are_known_by_their_bytes(tmp_path: Path) -> None:
    root = trees.coco(tmp_path / "coco")

    def known() -> str:
        found = BoxImages(annotated(str(root), "train"), 3, 80, (24, 36), training=True).read()
        assert not found.kept
        return found.fingerprint()

    before = known()
    assert known() == before
    first = min((root / "train2017").iterdir())
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(first)
    assert known() != before


def test_two_categories_of_one_name_are_refused_with_their_ids(tmp_path: Path) -> None:
    def change(part: str, said: dict[str, Any]) -> None:
        said["categories"][-1]["name"] = said["categories"][0]["name"]

    root = trees.coco(tmp_path / "coco", change=change)
    with pytest.raises(ValueError, match=rf"categories {trees.IDS[0]} and {trees.IDS[-1]} have one name, .*rename"):
        annotated(str(root), "train")


@pytest.mark.parametrize("said", ["0", "1", 0, 1, True, None, "false", 1.0])
def test_a_crowd_is_one_however_its_number_is_written(said: Any, tmp_path: Path) -> None:
    def change(part: str, found: dict[str, Any]) -> None:
        found["annotations"][0]["iscrowd"] = said

    first = annotated(str(trees.coco(tmp_path / "coco", change=change)), "train").found[0]
    assert bool(first.boxes[0, 6]) is (said in ("1", 1))


def test_a_mark_of_a_crowd_that_is_none_is_refused(tmp_path: Path) -> None:
    root = trees.coco(tmp_path / "coco", change=lambda part, said: said["annotations"][0].update(iscrowd="maybe"))
    with pytest.raises(ValueError, match="annotation 1 has iscrowd maybe; expected 0 or 1"):
        annotated(str(root), "train")


def fractions(part: str, said: dict[str, Any], everywhere: bool = True) -> None:
    """Ids as pandas writes them."""
    for one in said["annotations"]:
        one["image_id"], one["category_id"] = float(one["image_id"]), float(one["category_id"])
    for one in (*said["images"], *said["categories"]) if everywhere else ():
        one["id"] = float(one["id"])


@pytest.mark.parametrize("everywhere", [True, False])
def test_ids_that_a_tool_wrote_with_a_point_are_the_whole_numbers_they_are(everywhere: bool, tmp_path: Path) -> None:
    change = partial(fractions, everywhere=everywhere)
    plain, pointed = trees.coco(tmp_path / "plain"), trees.coco(tmp_path / "pointed", change=change)
    for part in ("train", "test"):
        one, two = annotated(str(plain), part), annotated(str(pointed), part)
        assert one.classes == two.classes
        assert [p.place.name for p in one.found] == [p.place.name for p in two.found]
        assert all(torch.equal(a.boxes, b.boxes) for a, b in zip(one.found, two.found, strict=True))


@pytest.mark.parametrize(
    ("where", "key", "said"),
    [
        ("categories", "id", "a category has the id 1.5; expected a whole number"),
        ("images", "id", "an image has the id 1.5; expected a whole number"),
        ("annotations", "category_id", "annotation 1 names the category 1.5, which is not in the list"),
        ("annotations", "image_id", "annotation 1 names the image 1.5, which is not in the list"),
    ],
)
def test_an_id_with_a_fraction_is_refused_and_not_taken_for_the_number_below(
    where: str, key: str, said: str, tmp_path: Path
) -> None:
    root = trees.coco(tmp_path / "coco", change=lambda part, found: found[where][0].update({key: 1.5}))
    with pytest.raises(ValueError, match=f"instances_train2017.json: {said}") as caught:
        annotated(str(root), "train")
    assert "\n" not in str(caught.value)


def test_images_under_a_second_id_are_said_with_their_number_and_an_example(tmp_path: Path) -> None:
    def twice(part: str, said: dict[str, Any]) -> None:
        if part == "train2017":
            said["images"] += [{**said["images"][i], "id": 777 + i} for i in range(2)]

    root = trees.coco(tmp_path / "coco", change=twice)
    told = r"train2017.json: 2 images are listed a second time, as 0+\.png with the ids 0 and 777, and count twice;"
    with pytest.warns(UserWarning, match=told) as caught:
        annotated(str(root), "train")
    assert len(caught) == 1


def test_boxes_that_are_there_twice_are_said_with_their_number_and_an_example(tmp_path: Path) -> None:
    def twice(part: str, said: dict[str, Any]) -> None:
        if part == "train2017":
            said["annotations"].append({**said["annotations"][0], "id": 500})
            said["annotations"].append({**said["annotations"][1], "id": 501, "category_id": 1})
            said["annotations"][1]["category_id"] = 3  # the same place, and another object

    root = trees.coco(tmp_path / "coco", change=twice)
    told = r"train2017.json: 1 box repeats another one .*, as \[\d.*\] in 0+\.png, and counts as one more"
    with pytest.warns(UserWarning, match=told) as caught:
        annotated(str(root), "train")
    assert len(caught) == 1
