"""Where images and masks lie in the data sets of the field, and which classes their numbers mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..._choices import choose
from ..._files import expanded
from ..labelled import PARTS, Part, held_out
from .classes import (
    ADE20K_CLASSES,
    CAMVID,
    CITYSCAPES,
    CITYSCAPES_IDS,
    COLOURS,
    VOC,
    ade_classes,
    classes_of,
    names_of,
)
from .folders import (
    Files,
    base_of,
    folder_named,
    folders_in,
    images_of,
    no_mask,
    opened,
    other_layout,
    paired,
    pictures_in,
    tell_left_out,
    tell_loose,
)
from .pairs import LOOKED, VOID, Pairs, identity, mapped
from .reading import Place, check_palettes, name

TEST_SHARE, VALIDATION_SHARE = 1 / 5, 1 / 10
TEST_SEED, VALIDATION_SEED = 0, 1
MASKS = ("masks", "mask", "labels", "annotations")


@dataclass(frozen=True)
class Layout:
    """What was found in a folder.

    Args:
        train: pairs to train on.
        validation, test: those of the set's own parts; empty where it has none (with labels).
        classes, table, colours: as in :class:`Pairs`.
    """

    train: Files
    validation: Files
    test: Files
    classes: tuple[str, ...]
    table: Tensor
    colours: dict[tuple[int, int, int], int] = field(default_factory=dict)


def listed(kind: str, root: str | Path, part: Part) -> Pairs:
    """The pairs of a part of a set; nothing is read but names.

    A set without a test part of its own is tested on its validation part, and one without either on a fifth of its
    pairs, always the same; the validation part of such a set is a tenth of the training pairs.

    Args:
        kind: name of :data:`LAYOUTS`.
        root: folder of the set, or of a zip file with it.
        part: which pairs.

    Raises:
        ValueError: no such folder, another layout, images without masks, two files or folders for one, or too few pairs
            to cut a part out of them.

    Warns:
        UserWarning: images are left out: of unknown parts, in folders inside, or of a format that is not read here.
    """
    return parted(kind, root, (part,))[0]


def parted(kind: str, root: str | Path, parts: Sequence[Part]) -> list[Pairs]:
    """Several parts of a set of which the folder is read once; all as :func:`listed`."""
    choose("dense data set", kind, LAYOUTS)
    for part in parts:
        choose("part of the images", part, PARTS)
    place = opened(expanded(root))
    found = LAYOUTS[kind](place)
    train, test = found.train, found.test or found.validation
    if not test:
        test, train = _cut(train, TEST_SHARE, TEST_SEED)
    rest, held = train, found.validation
    if not (found.test and found.validation):
        held, rest = _cut(train, VALIDATION_SHARE, VALIDATION_SEED)
    files = {"train": train, "train-without-validation": rest, "validation": held, "test": test}
    for part in parts:
        if not files[part] and found.train:
            own = "images/val" if part == "validation" else "images/test"
            raise ValueError(
                f"{name(place)} has {len(found.train)} pairs to train on, too few to cut a {part} part out of them; "
                f"add pairs, or a part of its own ({own} and its masks)"
            )
    return [Pairs(tuple(files[part]), found.classes, found.table, found.colours, place) for part in parts]


def _cut(files: Files, share: float, seed: int) -> tuple[Files, Files]:
    chosen = held_out(torch.zeros(len(files), dtype=torch.int64), share, seed).tolist()
    return [f for f, c in zip(files, chosen, strict=True) if c], [
        f for f, c in zip(files, chosen, strict=True) if not c
    ]


# -- the layouts -----------------------------------------------------------------------------


def _camvid(root: Place) -> Layout:
    """``images/train`` with ``masks/train``, or SegNet's ``train`` with ``trainannot``; label 11 is void."""
    base = base_of(root, "CamVid", "camvid", has=("images/train", "trainannot"), archives="camvid*.zip")
    if (base / "images").is_dir():
        parts = [paired(base / "images" / part, base / "masks" / part) for part in ("train", "val", "test")]
        _tell_others(base / "images", ("train", "val", "test"))
    elif (base / "trainannot").is_dir():
        parts = [paired(base / part, base / f"{part}annot") for part in ("train", "val", "test")]
    else:
        raise ValueError(other_layout(root, "CamVid", "images/train and masks/train, or train and trainannot"))
    return Layout(parts[0], parts[1], parts[2], CAMVID, identity(len(CAMVID), (len(CAMVID), VOID)))


def _cityscapes(root: Place) -> Layout:
    """``leftImg8bit/SPLIT/CITY`` and ``gtFine/SPLIT/CITY``; labels of the test part are not given out."""
    base = base_of(root, "cityscapes", "Cityscapes", has=("leftImg8bit", "gtFine"))
    if not (base / "leftImg8bit").is_dir() or not (base / "gtFine").is_dir():
        raise ValueError(other_layout(root, "Cityscapes", "leftImg8bit and gtFine, each with train and val"))
    kind = "labelTrainIds" if _all_train_ids(base) else "labelIds"
    train, validation = (_of_cities(base, split, kind) for split in ("train", "val"))
    ids = {value: label for label, value in enumerate(CITYSCAPES_IDS)}
    other = [value for value in (*range(34), VOID) if value not in ids]
    table = mapped(ids, other) if kind == "labelIds" else identity(len(CITYSCAPES))
    return Layout(train, validation, [], CITYSCAPES, table)


def _all_train_ids(base: Place) -> bool:
    """Whether the masks that the authors' scripts write are there for every image that is used."""
    for split in ("train", "val"):
        for city in folders_in(base / "gtFine" / split):
            there = [place.name for place in city.iterdir()]
            if sum("_labelTrainIds" in n for n in there) < sum("_labelIds" in n for n in there):
                return False
    return any(
        "_labelTrainIds" in place.name for city in folders_in(base / "gtFine" / "train") for place in city.iterdir()
    )


def _of_cities(base: Place, split: str, kind: str) -> Files:
    found: Files = []
    for city in folders_in(base / "leftImg8bit" / split):
        masks = base / "gtFine" / split / city.name
        for image in pictures_in(city):
            stem = image.name.removesuffix("_leftImg8bit.png")
            found.append((image, masks / f"{stem}_gtFine_{kind}.png"))
    missing = [mask for _, mask in found if not mask.exists()]
    if missing:
        raise ValueError(no_mask(missing[0], len(missing), len(found)))
    return found


def _ade20k(root: Place) -> Layout:
    """``images/training`` and ``annotations/training``; 0 is unlabelled, and class c has the value c + 1."""
    base = base_of(root, "ADEChallengeData2016", has=("annotations/training",))
    if not (base / "annotations" / "training").is_dir():
        full = "; the full ADE20K (files *_seg.png, painted) is another set" if _is_full_ade(base) else ""
        wanted = "images/training and annotations/training"
        raise ValueError(other_layout(root, "ADE20K (ADEChallengeData2016)", wanted) + full)
    parts = [paired(base / "images" / p, base / "annotations" / p) for p in ("training", "validation")]
    table = mapped({c + 1: c for c in range(ADE20K_CLASSES)}, (0, VOID))
    return Layout(parts[0], parts[1], [], ade_classes(base), table)


def _is_full_ade(base: Place) -> bool:
    return isinstance(base, Path) and next(base.rglob("*_seg.png"), None) is not None


def _voc(root: Place) -> Layout:
    """``JPEGImages``, ``SegmentationClass`` and the lists of ``ImageSets/Segmentation``; 255 is the border.

    The classes are the 20 of PascalVOC and the background unless a file names others, as sets of one's own do.
    """
    years = [f"VOCdevkit/VOC{year}" for year in (2012, 2007)]
    base = base_of(root, *years, *(year.rpartition("/")[2] for year in years), has=("SegmentationClass",))
    lists = base / "ImageSets" / "Segmentation"
    if not (base / "SegmentationClass").is_dir() or not lists.is_dir():
        raise ValueError(other_layout(root, "PascalVOC", "JPEGImages, SegmentationClass and ImageSets/Segmentation"))
    parts = [_named(base, lists / f"{part}.txt") for part in ("train", "val")]
    for place in (base, root):
        if names_of(place) is not None:
            return Layout(parts[0], parts[1], [], *classes_of(place, ()))
    return Layout(parts[0], parts[1], [], VOC, identity(len(VOC)))


def _named(base: Place, file: Place) -> Files:
    if not file.is_file():
        raise ValueError(f"{name(file)} is missing, the list of the images of this part")
    stems = file.read_text(encoding="utf-8").split()
    found: Files = [(base / "JPEGImages" / f"{s}.jpg", base / "SegmentationClass" / f"{s}.png") for s in stems]
    for place in (p for pair in found for p in pair):
        if not place.exists():
            raise ValueError(f"{name(place)} is missing, which {name(file)} names")
    return found


def _masks(root: Place) -> Layout:
    """Any images with masks of the same names: see the page on dense tasks."""
    images = images_of(root)
    folders = {part: folder_named(images or root, names) for part, names in SPLITS.items()}
    taken = [base.name for base in folders.values() if base is not None]
    if images is None:  # train/images and train/masks
        if folders["train"] is None:
            raise ValueError(other_layout(root, "image and mask pairs", "images and masks, or train with both in it"))
        parts = {part: [] if base is None else _both(base) for part, base in folders.items()}
    elif taken:
        masks = _mask_folder(root)
        parts = {p: [] if base is None else paired(base, masks / base.name) for p, base in folders.items()}
        _tell_others(images, taken)
    else:
        parts = {"train": _both(root), "validation": [], "test": []}
    own = taken if images is None else [images.name, *MASKS]
    others = [folder for folder in folders_in(root) if folder.name not in own]
    tell_left_out(root, [folder for folder in others if images_of(folder)], INTO_A_PART)
    files = [mask for pairs in parts.values() for _, mask in pairs]
    if not (root / COLOURS).is_file():
        check_palettes(files[:: max(1, len(files) // LOOKED)])
    classes, table, colours = classes_of(root, files)
    return Layout(parts["train"], parts["validation"], parts["test"], classes, table, colours)


SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
INTO_A_PART = "put them, and their masks, into one of the parts train, val and test"


def _tell_others(images: Place, taken: Sequence[str]) -> None:
    """Say which folders beside those of the parts are not read, and which images lie in none."""
    tell_left_out(images, [folder for folder in folders_in(images) if folder.name not in taken], INTO_A_PART)
    tell_loose(images, INTO_A_PART)


def _both(base: Place) -> Files:
    images = images_of(base)
    if images is None:
        raise ValueError(f"{name(base)} has no folder images beside its masks")
    return paired(images, _mask_folder(base))


def _mask_folder(base: Place) -> Place:
    found = folder_named(base, MASKS)
    if found is None:
        raise ValueError(f"{name(base)} has a folder of images, and none named masks (or labels, annotations)")
    return found


LAYOUTS: dict[str, Callable[[Place], Layout]] = {
    "camvid": _camvid,
    "cityscapes": _cityscapes,
    "ade20k": _ade20k,
    "voc": _voc,
    "masks": _masks,
}
