"""Where images and masks lie in the data sets of the field, and which classes their numbers mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..._choices import choose
from ..._files import expanded
from ..labelled import PARTS, Part, held_out
from .folders import (
    Files,
    archive,
    base_of,
    folder_named,
    folders_in,
    has_folder,
    names_in,
    no_mask,
    opened,
    other_layout,
    paired,
    pictures_in,
    text_of,
)
from .pairs import VOID, Pairs, identity, largest_label, mapped
from .reading import Place, name

TEST_SHARE, VALIDATION_SHARE = 1 / 5, 1 / 10
TEST_SEED, VALIDATION_SEED = 0, 1
VOIDS = ("void", "unlabelled", "unlabeled", "ignore", "ignored")

CAMVID = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign_symbol", "fence", "car", "pedestrian"),
    "bicyclist",
)
CITYSCAPES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)  # of the 19 classes among the ids 0..33
VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
ADE20K_CLASSES = 150


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
        ValueError: no such folder, another layout, or images without masks.
    """
    choose("dense data set", kind, LAYOUTS)
    choose("part of the images", part, PARTS)
    place = opened(expanded(root))
    found = LAYOUTS[kind](place)
    train, test = found.train, found.test or found.validation
    if not test:
        test, train = _cut(train, TEST_SHARE, TEST_SEED)
    rest, held = train, found.validation
    if not (found.test and found.validation):
        held, rest = _cut(train, VALIDATION_SHARE, VALIDATION_SEED)
    files = {"train": train, "train-without-validation": rest, "validation": held, "test": test}[part]
    return Pairs(tuple(files), found.classes, found.table, found.colours, place)


def _cut(files: Files, share: float, seed: int) -> tuple[Files, Files]:
    chosen = held_out(torch.zeros(len(files), dtype=torch.int64), share, seed).tolist()
    return [f for f, c in zip(files, chosen, strict=True) if c], [
        f for f, c in zip(files, chosen, strict=True) if not c
    ]


def recognised(root: str | Path) -> Literal["camvid", "cityscapes", "ade20k", "voc", "masks"]:
    """Which of :data:`LAYOUTS` a folder has, by the names in it; ``"masks"`` where it has none of the others'.

    Raises:
        ValueError: no such folder.
    """
    place = opened(expanded(root))
    if (
        "camvid" in place.name.lower()
        or has_folder(place, "CamVid", "camvid", "trainannot")
        or archive(place, "camvid*.zip")
    ):
        return "camvid"
    if has_folder(place, "leftImg8bit", "cityscapes/leftImg8bit", "Cityscapes/leftImg8bit"):
        return "cityscapes"
    if has_folder(place, "ADEChallengeData2016", "annotations/training"):
        return "ade20k"
    return "voc" if has_folder(place, "SegmentationClass", "VOCdevkit", "VOC2012", "VOC2007") else "masks"


# -- the layouts -----------------------------------------------------------------------------


def _camvid(root: Place) -> Layout:
    """``images/train`` with ``masks/train``, or SegNet's ``train`` with ``trainannot``; label 11 is void."""
    base = base_of(root, "CamVid", "camvid", has=("images/train", "trainannot"), archives="camvid*.zip")
    if (base / "images").is_dir():
        parts = [paired(base / "images" / part, base / "masks" / part) for part in ("train", "val", "test")]
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
    return Layout(parts[0], parts[1], [], _ade_classes(base), table)


def _is_full_ade(base: Place) -> bool:
    return isinstance(base, Path) and next(base.rglob("*_seg.png"), None) is not None


def _ade_classes(base: Place) -> tuple[str, ...]:
    info = base / "objectInfo150.txt"
    if info.is_file():
        rows = [line.split("\t") for line in info.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
        names = tuple(row[-1].split(",")[0].strip() for row in rows)
        if len(names) == ADE20K_CLASSES:
            return names
    return tuple(f"class {c + 1}" for c in range(ADE20K_CLASSES))


def _voc(root: Place) -> Layout:
    """``JPEGImages``, ``SegmentationClass`` and the lists of ``ImageSets/Segmentation``; 255 is the border."""
    years = [f"VOCdevkit/VOC{year}" for year in (2012, 2007)]
    base = base_of(root, *years, *(year.rpartition("/")[2] for year in years), has=("SegmentationClass",))
    lists = base / "ImageSets" / "Segmentation"
    if not (base / "SegmentationClass").is_dir() or not lists.is_dir():
        raise ValueError(other_layout(root, "PascalVOC", "JPEGImages, SegmentationClass and ImageSets/Segmentation"))
    parts = [_named(base, lists / f"{part}.txt") for part in ("train", "val")]
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
    images = folder_named(root, ("images", "image", "imgs"))
    if images is None:  # train/images and train/masks
        folders = {part: folder_named(root, names) for part, names in SPLITS.items()}
        if folders["train"] is None:
            raise ValueError(other_layout(root, "image and mask pairs", "images and masks, or train with both in it"))
        parts = {part: [] if base is None else _both(base) for part, base in folders.items()}
    elif any(folder_named(images, names) for names in SPLITS.values()):
        masks = _mask_folder(root)
        found = {part: folder_named(images, names) for part, names in SPLITS.items()}
        parts = {p: [] if base is None else paired(base, masks / base.name) for p, base in found.items()}
    else:
        parts = {"train": _both(root), "validation": [], "test": []}
    classes, table, colours = _classes(root, [mask for files in parts.values() for _, mask in files])
    return Layout(parts["train"], parts["validation"], parts["test"], classes, table, colours)


SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def _both(base: Place) -> Files:
    images = folder_named(base, ("images", "image", "imgs"))
    if images is None:
        raise ValueError(f"{name(base)} has no folder images beside its masks")
    return paired(images, _mask_folder(base))


def _mask_folder(base: Place) -> Place:
    found = folder_named(base, ("masks", "mask", "labels", "annotations"))
    if found is None:
        raise ValueError(f"{name(base)} has a folder of images, and none named masks (or labels, annotations)")
    return found


def _classes(root: Place, masks: Sequence[Place]) -> tuple[tuple[str, ...], Tensor, dict[tuple[int, int, int], int]]:
    """From ``classes.json``, ``classes.txt`` or ``label_colors.txt``; else as many as the masks' largest label says."""
    colours: dict[tuple[int, int, int], int] = {}
    if (root / "label_colors.txt").is_file():
        rows = [line.split() for line in text_of(root / "label_colors.txt").splitlines()]
        names = [" ".join(row[3:]) for row in rows if len(row) > 3]
        painted = [(int(row[0]), int(row[1]), int(row[2])) for row in rows if len(row) > 3]
    elif (root / "classes.json").is_file():
        names, painted = names_in(root / "classes.json"), []
    elif (root / "classes.txt").is_file():
        lines = text_of(root / "classes.txt").splitlines()
        names, painted = [line.strip() for line in lines if line.strip()], []
    else:
        highest = largest_label(masks)
        return tuple(str(c) for c in range(highest + 1)), identity(highest + 1), {}
    kept = [n for n in names if n.lower() not in VOIDS]
    if len(kept) > VOID or len(names) > 256:
        raise ValueError(f"{name(root)} names {len(names)} classes; a mask holds the labels 0..254, and 255 is void")
    labels = [VOID if n.lower() in VOIDS else kept.index(n) for n in names]
    colours = dict(zip(painted, labels, strict=True)) if painted else {}
    return tuple(kept), mapped(dict(enumerate(labels))), colours


LAYOUTS: dict[str, Callable[[Place], Layout]] = {
    "camvid": _camvid,
    "cityscapes": _cityscapes,
    "ade20k": _ade20k,
    "voc": _voc,
    "masks": _masks,
}
