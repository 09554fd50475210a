"""An annotation file of COCO: its images and boxes, and everything that is wrong in it said in one line."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..._typing import Float
from ...pictures.heads import printable
from ..dense.reading import Place, name
from .checks import check_boxes, tell_repeated

LEAST = 1e-3  # pixels: a box with a shorter side has no area


@dataclass(frozen=True, eq=False)
class Picture:
    """One image: where it lies, its size in the annotations, and its boxes.

    Args:
        place: the file.
        size: height and width.
        boxes: ``[k, 7]`` label from 1, left, top, right, bottom, area, crowd (0 or 1), in pixels of the file.
    """

    place: Place
    size: tuple[int, int]
    boxes: Float[Tensor, "k 7"]

    @property
    def trained(self) -> bool:
        """Whether there is a box to learn from."""
        return bool((self.boxes[:, 6] == 0).any())


@dataclass(frozen=True, eq=False)
class Pictures:
    """The images of a part of a set.

    Args:
        found: the images.
        classes: names of the categories, in the order of their ids, which may have gaps.
        dropped: what was left out, and how often: boxes without area, images without boxes.
        file: name of the annotation file, for messages.
    """

    found: tuple[Picture, ...]
    classes: tuple[str, ...]
    dropped: Mapping[str, int]
    file: str

    def __len__(self) -> int:
        return len(self.found)


def read_annotations(base: Place, file: Place) -> Pictures:
    """Everything in an annotation file.

    Raises:
        ValueError: as :func:`fractionate.data.boxes.annotated`, of one file.

    Warns:
        UserWarning: an image is listed twice, or a box.
    """
    try:
        with file.open("rb") as opened_file:
            said = json.load(opened_file)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{name(file)} cannot be read as JSON: {printable(error)}") from error
    keys = ("images", "annotations", "categories")
    lists: list[Any] = [said.get(key) if isinstance(said, dict) else None for key in keys]
    if not all(isinstance(x, list) and all(isinstance(one, dict) for one in x) for x in lists):
        raise ValueError(
            f"{name(file)} is no annotation file of COCO: it needs the lists images, annotations, categories"
        )
    images, annotations, categories = lists
    _check_ids(file, {"an image": images, "a category": categories})
    try:
        names = {int(_id(c["id"])): str(c["name"]) for c in categories}
        label = {known: i + 1 for i, known in enumerate(sorted(names))}
        sizes = {_id(im["id"]): (int(im["height"]), int(im["width"])) for im in images}
        files = {_id(im["id"]): str(im["file_name"]) for im in images}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name(file)}: an image or a category lacks a field or has a wrong one ({error!r})"
        ) from error
    if len(sizes) != len(images) or len(names) != len(categories):
        raise ValueError(f"{name(file)}: two images or two categories have the same id; ids must differ")
    _check_names(file, names)
    for one in annotations:
        one["image_id"], one["category_id"] = _id(one.get("image_id")), _id(one.get("category_id"))
    lines, empty = _lines(file, annotations, label, sizes)
    check_boxes(file, annotations, sizes)
    tell_repeated(file, files, annotations)
    places = _places(base, file, files)
    none = torch.zeros(0, 7)
    found = [
        Picture(places[i], sizes[i], torch.tensor(lines[i]) if i in lines else none) for i in sorted(sizes, key=_by_id)
    ]
    if not found:
        raise ValueError(f"{name(file)} names no image; look at the file")
    return Pictures(tuple(found), tuple(names[k] for k in sorted(names)), {"boxes without area": empty}, name(file))


def _check_ids(file: Place, lists: Mapping[str, Sequence[Any]]) -> None:
    """Refuse ids with a fraction, which would be taken for the whole number below."""
    for what, listed in lists.items():
        for known in (one.get("id") for one in listed):
            if isinstance(known, float) and not known.is_integer():
                raise ValueError(
                    f"{name(file)}: {what} has the id {known}; expected a whole number; write one there and in the "
                    f"annotations"
                )


def _check_names(file: Place, names: Mapping[int, str]) -> None:
    """Refuse two categories of one name, of whose scores one would be lost."""
    said, count = Counter(names.values()).most_common(1)[0] if names else ("", 0)
    if count > 1:
        ids = [str(number) for number in sorted(names) if names[number] == said]
        raise ValueError(
            f"{name(file)}: the categories {' and '.join(ids)} have one name, {printable(said)!r}, and scores go by "
            f"name; rename all but one of them, or give their boxes one category"
        )


def _id(said: Any) -> int | str:
    """An id as it is compared: some tools write the numbers as text or as 1.0, in one of the lists or in all."""
    text = str(int(said) if isinstance(said, float) and said.is_integer() else said)
    return int(text) if text.isdecimal() else text


def _by_id(known: int | str) -> tuple[bool, int | str]:
    """Numbers in their order, and text after them."""
    return isinstance(known, str), known


def _lines(
    file: Place, annotations: Sequence[Any], label: Mapping[int, int], sizes: Mapping[Any, tuple[int, int]]
) -> tuple[dict[Any, list[list[float]]], int]:
    """The lines of :class:`Picture` by image, and how many boxes had no area."""
    lines: dict[Any, list[list[float]]] = {}
    empty = 0
    for one in annotations:
        box, image, category = one.get("bbox"), one["image_id"], one["category_id"]
        which = f"{name(file)}: annotation {printable(one.get('id'))}"
        if image not in sizes:
            raise ValueError(f"{which} names the image {printable(image)}, which is not in the list of images")
        if category not in label:
            raise ValueError(
                f"{which} names the category {printable(category)}, which is not in the list of categories"
            )
        if not _is_box(box):
            raise ValueError(f"{which} has the bbox {printable(box)}; expected [left, top, width, height], finite")
        height, width = sizes[image]
        left, right = (min(max(float(x), 0.0), width) for x in (box[0], box[0] + box[2]))
        top, bottom = (min(max(float(y), 0.0), height) for y in (box[1], box[1] + box[3]))
        if right - left < LEAST or bottom - top < LEAST:
            empty += 1
            continue
        area = one.get("area")
        area = float(area) if isinstance(area, int | float) and area > 0 else (right - left) * (bottom - top)
        crowd = _crowd(which, one.get("iscrowd"))
        lines.setdefault(image, []).append([float(label[category]), left, top, right, bottom, area, crowd])
    return lines, empty


def _crowd(which: str, said: Any) -> float:
    """1 for a crowd's box; some tools write the number as text."""
    known = {"": 0.0, "none": 0.0, "0": 0.0, "false": 0.0, "1": 1.0, "true": 1.0}
    text = str(said).strip().lower().removesuffix(".0")
    if text not in known:
        raise ValueError(f"{which} has iscrowd {printable(said)}; expected 0 or 1")
    return known[text]


def _is_box(box: Any) -> bool:
    if not isinstance(box, list) or len(box) != 4:
        return False
    return all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in box)


def _places(base: Place, file: Place, files: Mapping[Any, str]) -> dict[Any, Place]:
    """Where every image lies."""
    split = file.name.removeprefix("instances_").removesuffix(".json")
    folders: list[Place] = [base / split, base / "images" / split, base / "images", base]
    beside: Any = file.parent  # typed as a path of any kind
    folders.append(beside)
    places = {i: _first(folders, one) for i, one in files.items()}
    missing = [files[i] for i, place in places.items() if place is None]
    if missing:
        raise ValueError(
            f"{printable(missing[0])} of {name(file)} is missing ({len(missing)} of {len(files)} images): looked in "
            f"{split}, images/{split}, images and beside the annotations; add it, or take it out of the annotations"
        )
    return {i: place for i, place in places.items() if place is not None}


def _first(folders: Sequence[Place], file: str) -> Place | None:
    """The first of these folders' files of that name that is there."""
    for folder in folders:
        place: Place = folder / file
        if place.is_file():
            return place
    return None
