"""Parts of a set in COCO's format that nothing can be measured on: what takes their place is said, or what to do."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from fractionate.data.boxes import annotated
from tests.detection import trees

Said = dict[str, Any]


def names(root: Path, part: Any) -> list[str]:
    return [one.place.name for one in annotated(str(root), part).found]


def without_boxes(part: str, said: Said) -> None:
    if part == "val2017":
        said["annotations"] = []


def crowds(part: str, said: Said) -> None:
    if part == "val2017":
        for one in said["annotations"]:
            one["iscrowd"] = 1


def alone(root: Path, train: int) -> Path:
    """A set with annotations of training images only; the last of these has no box."""
    trees.coco(root, train=train, val=1)
    (root / "annotations" / "instances_val2017.json").unlink()
    return root


def with_test(root: Path, change: Any = None) -> Path:
    """A set with a test part beside the others, of the pictures of the validation part."""
    trees.coco(root)
    shutil.copytree(root / "val2017", root / "test2017")
    written = (root / "annotations" / "instances_val2017.json").read_text()
    for part in ("val2017", "test2017"):
        said = json.loads(written)
        if change is not None:
            change(part, said)
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(said))
    return root


def test_a_val_file_without_a_box_is_said_with_the_images_that_are_measured_on_instead(tmp_path: Path) -> None:
    root = trees.coco(tmp_path / "coco", change=without_boxes)
    told = r"instances_val2017.json has images and no box, .*; the test images are a fifth of the training images i"
    with pytest.warns(UserWarning, match=told) as caught:
        tests = names(root, "test")
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert [name.startswith("00000000000") for name in tests] == [True, True]  # of the training images
    with pytest.warns(UserWarning, match=told):
        assert not set(tests) & set(names(root, "train"))


def test_a_part_without_a_box_is_said_once_however_many_parts_are_read(tmp_path: Path) -> None:
    root = trees.coco(tmp_path / "coco", change=without_boxes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # as outside of tests
        for part in ("train", "test", "validation"):
            names(root, part)
    assert len(caught) == 1


def test_boxes_without_area_make_no_part_to_measure_on(tmp_path: Path) -> None:
    def flat(part: str, said: Said) -> None:
        for one in said["annotations"] if part == "val2017" else ():
            one["bbox"][2] = 0

    root = trees.coco(tmp_path / "coco", change=flat)
    with pytest.warns(UserWarning, match=r"instances_val2017.json has images and no box with an area"):
        names(root, "test")


def test_a_test_file_without_a_box_gives_way_to_the_val_file_and_a_val_file_to_a_tenth(tmp_path: Path) -> None:
    def no(split: str) -> Any:
        return lambda part, said: said.update(annotations=[]) if part == f"{split}2017" else None

    given_out = with_test(tmp_path / "test", no("test"))
    with pytest.warns(UserWarning, match=r"instances_test2017.json has .*the test images are those of annotations/ins"):
        assert names(given_out, "test") == names(trees.coco(tmp_path / "plain"), "test")
    held = with_test(tmp_path / "val", no("val"))
    with pytest.warns(UserWarning, match=r"val2017.json has .*the validation images are a tenth of the training"):
        assert len(names(held, "validation")) == 1
    neither = with_test(tmp_path / "both", lambda part, said: said.update(annotations=[]))
    with pytest.warns(UserWarning, match=r"val2017.json and annotations/instances_test2017.json have .* a fifth of"):
        assert len(names(neither, "test")) == 2


def test_parts_with_boxes_are_read_without_a_word(tmp_path: Path) -> None:
    root = with_test(tmp_path / "coco")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [len(names(root, part)) for part in ("train", "validation", "test")] == [7, 4, 4]


@pytest.mark.parametrize(
    ("train", "part", "said"),
    [
        (6, "validation", r": 5 training images are too few to hold out a tenth as validation images, which takes 6;"),
        (1, "validation", r": 1 training image is too few to hold out a tenth as validation images"),
        (2, "test", r": 2 training images are too few to hold out a fifth as test images, which takes 3; add images,"),
    ],
)
def test_too_few_images_to_hold_some_out_are_refused_with_what_helps(
    train: int, part: Any, said: str, tmp_path: Path
) -> None:
    root = alone(tmp_path / "coco", train)
    with pytest.raises(ValueError, match=rf"instances_train2017.json{said}.*of their own$") as caught:
        annotated(str(root), part)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("part", "least"), [("validation", 7), ("test", 3)])
def test_as_many_images_as_are_asked_for_are_enough(part: Any, least: int, tmp_path: Path) -> None:
    def everywhere(name: str, said: Said) -> None:
        one = said["annotations"][0] if said["annotations"] else {"bbox": [1, 1, 9, 9], "category_id": 1}
        said["annotations"] = [{**one, "id": i, "image_id": image["id"]} for i, image in enumerate(said["images"])]

    root = trees.coco(tmp_path / "coco", train=least, val=1, change=everywhere)
    (root / "annotations" / "instances_val2017.json").unlink()
    assert len(names(root, part)) == 1


def test_a_part_of_crowds_alone_is_refused_when_it_is_read(tmp_path: Path) -> None:
    root = trees.coco(tmp_path / "coco", change=crowds)
    told = r"instances_val2017.json: 4 test images are without a box that is not a crowd's, so there is nothing to meas"
    with pytest.raises(ValueError, match=told) as caught:
        annotated(str(root), "test")
    assert "\n" not in str(caught.value)


def test_images_held_out_without_an_object_are_refused_when_they_are_read(tmp_path: Path) -> None:
    root = alone(tmp_path / "coco", 5)  # the one that is always held out of five is the last one, which has no box
    told = r"instances_train2017.json: 1 test image is without a box .*add images with objects, or annotations of valid"
    with pytest.raises(ValueError, match=told):
        annotated(str(root), "test")
