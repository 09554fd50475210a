"""COCO's format: images and boxes out of an annotation file, and everything that is wrong in it said in one line."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..._files import expanded
from ..._typing import Float
from ...pictures.heads import printable
from ...pictures.names import unseen
from ..dense.folders import opened
from ..dense.reading import Place, name
from ..labelled import Part, held_out
from .checks import check_boxes

TEST_SHARE, VALIDATION_SHARE = 1 / 5, 1 / 10
TEST_SEED, VALIDATION_SEED = 0, 1
SPLITS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
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
    """

    found: tuple[Picture, ...]
    classes: tuple[str, ...]
    dropped: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.found)


def annotated(root: str, part: Part) -> Pictures:
    """The images of a part of a set in COCO's format.

    ``annotations/instances_train*.json`` and ``instances_val*.json`` with the images in ``train*``, ``images/train*``
    or ``images``; or ``train/_annotations.coco.json`` with the images beside it, ``valid`` and ``test`` likewise. A set
    without a test part of its own is tested on its validation part, and one without either on a fifth of its images,
    always the same; the validation part of such a set is a tenth of the training images. Images without a box are left
    out of training and counted; those that are measured on all stay.

    Args:
        root: folder of the set, or of a zip file with it.
        part: which images.

    Raises:
        ValueError: no such folder or annotations, two files of them for one part, other categories in another part, a
            missing image, an annotation that names no image, no category or no box, or boxes as corners or shares.
    """
    base = _base(opened(expanded(root)))
    files = {split: _file(base, split, names) for split, names in SPLITS.items()}
    if files["train"] is None:
        raise ValueError(
            f"{name(base)} holds no annotations in COCO's format: expected annotations/instances_train*.json or "
            f"train/_annotations.coco.json"
        )
    parts = {split: _read(base, file) for split, file in files.items() if file is not None}
    _check_same(parts, files)
    parts = {split: p for split, p in parts.items() if split == "train" or any(len(x.boxes) for x in p.found)}
    train = parts["train"]
    test = parts.get("test") or parts.get("validation")
    if test is None:
        test, train = _cut(train, TEST_SHARE, TEST_SEED)
    held, rest = parts.get("validation"), train
    if held is None or "test" not in parts:
        held, rest = _cut(train, VALIDATION_SHARE, VALIDATION_SEED)
    chosen = {"train": train, "train-without-validation": rest, "validation": held, "test": test}[part]
    return _with_boxes(chosen) if part.startswith("train") else chosen


def has_boxes(root: str) -> bool:
    """Whether a folder or a zip file holds annotations in COCO's format."""
    base = _base(opened(expanded(root)))
    return any(_file(base, split, names) is not None for split, names in SPLITS.items())


def _base(root: Place) -> Place:
    """The folder that holds the annotations: this one, or the only one in it (as in a zip file)."""
    inner = [place for place in root.iterdir() if place.is_dir() and not unseen(place.name)]
    if len(inner) == 1 and not (root / "annotations").is_dir() and inner[0].name != "train":
        return inner[0]
    return root


def _file(base: Place, split: str, names: Sequence[str]) -> Place | None:
    """The annotations of a part; of two files nobody can say which one is meant."""
    folder = base / "annotations"
    there: list[Place] = sorted(folder.iterdir(), key=_name) if folder.is_dir() else []
    starts = tuple(start for word in names for start in (f"instances_{word}", f"{word}."))
    found = [place for place in there if place.name.startswith(starts) and place.name.endswith(".json")]
    found += [beside for word in names if (beside := base / word / "_annotations.coco.json").is_file()]
    if len(found) > 1:
        raise ValueError(
            f"{name(base)} holds {' and '.join(map(name, found[:2]))}, both for the {split} images; keep one of them, "
            f"and move the other out of the folder"
        )
    return found[0] if found else None


def _name(place: Place) -> str:
    return place.name


def _read(base: Place, file: Place) -> Pictures:
    """Everything in an annotation file."""
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
    try:
        names = {int(c["id"]): str(c["name"]) for c in categories}
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
    places = _places(base, file, files)
    none = torch.zeros(0, 7)
    found = [
        Picture(places[i], sizes[i], torch.tensor(lines[i]) if i in lines else none) for i in sorted(sizes, key=_by_id)
    ]
    if not found:
        raise ValueError(f"{name(file)} names no image; look at the file")
    return Pictures(tuple(found), tuple(names[k] for k in sorted(names)), {"boxes without area": empty})


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
    """An id as it is compared: some tools write the numbers as text, in one of the lists or in all."""
    text = str(said)
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


def _check_same(parts: Mapping[str, Pictures], files: Mapping[str, Place | None]) -> None:
    """One part has the categories of the other."""
    wanted = parts["train"].classes
    for split, pictures in parts.items():
        if pictures.classes != wanted:
            odd = sorted(set(pictures.classes) ^ set(wanted)) or ["the order of their ids"]
            file = files[split]
            assert file is not None
            raise ValueError(
                f"{name(file)} has other categories than the training part ({printable(odd[0])} differs); a set needs "
                f"the same in all parts"
            )


def _cut(pictures: Pictures, share: float, seed: int) -> tuple[Pictures, Pictures]:
    chosen = held_out(torch.zeros(len(pictures), dtype=torch.int64), share, seed).tolist()
    halves = [tuple(p for p, c in zip(pictures.found, chosen, strict=True) if c == wanted) for wanted in (True, False)]
    first, second = (Pictures(half, pictures.classes, pictures.dropped) for half in halves)
    return first, second


def _with_boxes(pictures: Pictures) -> Pictures:
    """Those that there is something to learn from."""
    kept = tuple(p for p in pictures.found if p.trained)
    if not kept:
        raise ValueError("none of the training images has a box that is not a crowd's; look at the annotations")
    dropped = Counter(pictures.dropped)
    dropped["images without boxes"] += len(pictures) - len(kept)
    return Pictures(kept, pictures.classes, dropped)
