"""Which data set a folder of images and masks is, and what is said of it before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ..._files import expanded
from ...pictures.repeats import told_repeated
from ..labelled import Part
from .classes import ADE20K_CLASSES, ADE_LISTS, CAMVID, counted, names_of
from .folders import archive, has_folder, images_of, opened, pictures_in
from .layouts import parted
from .reading import Place, name, values_of

Kind = Literal["camvid", "cityscapes", "ade20k", "voc", "masks"]
SPOKEN: dict[Kind, str] = {
    "camvid": "CamVid",
    "cityscapes": "Cityscapes",
    "ade20k": "ADE20K",
    "voc": "PascalVOC",
    "masks": "images and masks of your own",
}
SEEN, FEW = 16, 32  # masks that are looked at, and a label beyond which one of so many of ADE20K's lies


def recognised(root: str | Path) -> Kind:
    """Which of :data:`LAYOUTS` a folder has, by the names in it; ``"masks"`` where it has none of the others'.

    A set of one's own may well have CamVid in its name, or the folders of ADE20K: images and masks beside a file that
    names other classes are ``"masks"``, and so are folders named as ADE20K's in which only few labels are found.

    Raises:
        ValueError: no such folder.
    """
    place = opened(expanded(root))
    if (
        "camvid" in f"{Path(root).name} {place.name}".lower()  # a zip file's name, and that of the folder in it
        or has_folder(place, "CamVid", "camvid", "trainannot")
        or archive(place, "camvid*.zip")
    ):
        own = names_of(place) if images_of(place) else None
        return "camvid" if own is None or _letters(own) == _letters(CAMVID) else "masks"
    if has_folder(place, "leftImg8bit", "cityscapes/leftImg8bit", "Cityscapes/leftImg8bit"):
        return "cityscapes"
    if has_folder(place, "ADEChallengeData2016") or (has_folder(place, "annotations/training") and _is_ade(place)):
        return "ade20k"
    return "voc" if has_folder(place, "SegmentationClass", "VOCdevkit", "VOC2012", "VOC2007") else "masks"


def _letters(names: Sequence[str]) -> list[str]:
    """Names without what is written in more than one way: ``sign_symbol``, ``SignSymbol``."""
    return ["".join(c for c in one.lower() if c.isalnum()) for one in names]


def _is_ade(place: Place) -> bool:
    """Whether masks are numbered as in ADE20K, where 0 is no class.

    No file may name other classes, and where neither the name nor a list of ADE20K's says so, some mask must hold one
    of its many labels: folders of that name are usual elsewhere too.
    """
    own = names_of(place)
    if own is not None and len(own) != ADE20K_CLASSES:
        return False
    if own or place.name.lower().startswith("ade") or any((place / n).is_file() for n in ADE_LISTS):
        return True
    masks = pictures_in(place / "annotations" / "training")
    some = (values_of(mask) for mask in masks[:: max(1, len(masks) // SEEN)])
    return any(values.ndim == 2 and int(values.max()) > FEW for values in some)


def described(kind: Kind, root: str | Path, measured: Literal["test", "validation"]) -> list[str]:
    """Sentences: what a folder is taken for and what lies in it; and, where it is so, what lies in both parts.

    Args:
        kind: as the config says.
        root: the folder or zip file.
        measured: the part that is measured on.

    Raises:
        ValueError: as :func:`listed`.
    """
    part: Part = "train" if measured == "test" else "train-without-validation"
    (train, test), place = parted(kind, root, (part, measured)), opened(expanded(root))
    told = f"{name(place)}: taken as {SPOKEN[kind]}: {counted(train.classes)}, {len(train):,} images with masks to "
    told += f"train on, {len(test):,} to measure on"
    if kind != "masks":
        told += "; data.name=masks takes it as a set of your own"
    elif has_folder(place, "annotations/training"):
        told += "; if it is ADE20K, write data.name=ade20k"
    repeated = told_repeated(*([image for image, _ in pairs.files] for pairs in (train, test)))
    return [told, repeated] if repeated else [told]
