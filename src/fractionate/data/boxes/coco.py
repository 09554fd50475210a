"""COCO's format: which annotation files and images form a part of a set, and what is said where one has too few."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

import torch

from ..._files import expanded
from ...pictures.heads import printable
from ...pictures.names import unseen
from ..dense.folders import opened
from ..dense.reading import Place, name
from ..labelled import Part, held_out
from .annotations import Pictures, read_annotations

TEST_SHARE, VALIDATION_SHARE = 1 / 5, 1 / 10
TEST_SEED, VALIDATION_SEED = 0, 1
SPLITS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}


def annotated(root: str, part: Part) -> Pictures:
    """The images of a part of a set in COCO's format.

    ``annotations/instances_train*.json`` and ``instances_val*.json`` with the images in ``train*``, ``images/train*``
    or ``images``; or ``train/_annotations.coco.json`` with the images beside it, ``valid`` and ``test`` likewise. A set
    without a test part of its own is tested on its validation part, and one without either on a fifth of its images,
    always the same; the validation part of such a set is a tenth of the training images. Images without a box are left
    out of training and counted; those that are measured on all stay. A validation or test file without any box, as of
    images whose boxes are not given out, is as good as none.

    Args:
        root: folder of the set, or of a zip file with it.
        part: which images.

    Raises:
        ValueError: no such folder or annotations, two files of them for one part, other categories in another part, a
            missing image, an annotation that names no image, no category or no box, boxes as corners or shares, too
            few images to hold some out, or images to train on or to measure on without an object.

    Warns:
        UserWarning: a file without any box is left out, or an image or a box is listed twice.
    """
    base = _base(opened(expanded(root)))
    files = {split: _file(base, split, names) for split, names in SPLITS.items()}
    if files["train"] is None:
        raise ValueError(
            f"{name(base)} holds no annotations in COCO's format: expected annotations/instances_train*.json or "
            f"train/_annotations.coco.json"
        )
    parts = {split: read_annotations(base, file) for split, file in files.items() if file is not None}
    _check_same(parts)
    parts = _with_labels(parts)
    train = parts["train"]
    test = parts.get("test") or parts.get("validation")
    if test is None:
        test, train = _cut(train, TEST_SHARE, TEST_SEED)
    held, rest = parts.get("validation"), train
    if held is None or "test" not in parts:
        held, rest = _cut(train, VALIDATION_SHARE, VALIDATION_SEED)
    if part == "train" or part == "train-without-validation":
        return _with_boxes(train if part == "train" else rest)
    return _measurable(test if part == "test" else held, part, train)


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


def _check_same(parts: Mapping[str, Pictures]) -> None:
    """One part has the categories of the other."""
    wanted = parts["train"].classes
    for pictures in parts.values():
        if pictures.classes != wanted:
            odd = sorted(set(pictures.classes) ^ set(wanted)) or ["the order of their ids"]
            raise ValueError(
                f"{pictures.file} has other categories than the training part ({printable(odd[0])} differs); a set "
                f"needs the same in all parts"
            )


def _with_labels(parts: Mapping[str, Pictures]) -> dict[str, Pictures]:
    """The parts without those that have images and no box: boxes of test images are often not given out.

    Warns:
        UserWarning: there is one; what is measured on in its place.
    """
    kept = {split: p for split, p in parts.items() if split == "train" or any(len(x.boxes) for x in p.found)}
    without = [p for split, p in parts.items() if split not in kept]
    if not without:
        return kept
    if "test" in kept:
        instead = "the validation images are a tenth of the training images instead"
    elif "validation" in kept:
        instead = f"the test images are those of {kept['validation'].file} instead"
    else:
        instead = "the test images are a fifth of the training images instead, which are not trained on"
    files, have = " and ".join(p.file for p in without), "has" if len(without) == 1 else "have"
    area = " with an area" if any(p.dropped["boxes without area"] for p in without) else ""
    warnings.warn(
        f"{files} {have} images and no box{area}, so nothing can be measured there; {instead}",
        stacklevel=2,  # one line of this file, so that every other part that is read does not say it again
    )
    return kept


def _cut(pictures: Pictures, share: float, seed: int) -> tuple[Pictures, Pictures]:
    chosen = held_out(torch.zeros(len(pictures), dtype=torch.int64), share, seed).tolist()
    halves = [tuple(p for p, c in zip(pictures.found, chosen, strict=True) if c == wanted) for wanted in (True, False)]
    first, second = (replace(pictures, found=half) for half in halves)
    return first, second


def _with_boxes(pictures: Pictures) -> Pictures:
    """Those that there is something to learn from."""
    kept = tuple(p for p in pictures.found if p.trained)
    if not kept:
        raise ValueError(
            f"{pictures.file}: none of the training images has a box that is not a crowd's; look at the annotations"
        )
    dropped = Counter(pictures.dropped)
    dropped["images without boxes"] += len(pictures) - len(kept)
    return replace(pictures, found=kept, dropped=dropped)


def _measurable(pictures: Pictures, part: Part, train: Pictures) -> Pictures:
    """The images themselves, if there is something to measure, which else only the first measurement would tell.

    Args:
        pictures: to measure on.
        part: which images they are.
        train: what they were held out of, where the set has none of their own.
    """
    share, words = (TEST_SHARE, "a fifth") if part == "test" else (VALIDATION_SHARE, "a tenth")
    own = "annotations of validation " + ("or test images in a file" if part == "test" else "and test images in files")
    if not pictures.found:
        are, least = _are(len(train), "training image"), next(n for n in count(1) if round(share * n))
        raise ValueError(
            f"{pictures.file}: {are} too few to hold out {words} as {part} images, which takes {least}; add images, "
            f"or {own} of their own"
        )
    if not any(p.trained for p in pictures.found):
        told = f"add images with objects, or {own} of their own" if pictures.file == train.file else "look at the file"
        raise ValueError(
            f"{pictures.file}: {_are(len(pictures), f'{part} image')} without a box that is not a crowd's, so there is "
            f"nothing to measure; expected one at least: {told}"
        )
    return pictures


def _are(number: int, what: str) -> str:
    return f"{number} {what} is" if number == 1 else f"{number} {what}s are"
