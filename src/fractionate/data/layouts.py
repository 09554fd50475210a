"""The official layouts of ImageNet and Tiny-ImageNet with their oddities, and every set of photos by its name."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from .._choices import choose
from .._files import expanded
from ..pictures.heads import need_pillow, printable
from ..pictures.layout import classes_of, find, folders, holds_picture
from .batch import Normalization
from .folder import Files, Layout, divided, read_layout
from .images import Progress
from .labelled import PARTS, Labelled, Part
from .lists import cub200, dtd, food101, lines_of, listed, located

PhotoSet = Literal["imagenet", "tiny-imagenet", "cub200", "dtd", "food101"]

IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # what published networks were trained with
SIZES: dict[str, int] = {"imagenet": 224, "tiny-imagenet": 64, "cub200": 224, "dtd": 224, "food101": 224}
WNID = re.compile(r"n\d{8}")
NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)
KITS = ("", "data", "devkit", "devkit/data", "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12/data")
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
SOLUTION = "LOC_val_solution.csv"


def photo_set(
    name: PhotoSet,
    root: Path,
    part: Part = "train",
    size: int | None = None,
    *,
    skip_broken: bool = False,
    progress: Progress | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> Labelled:
    """A public set of photos in its official layout, read into memory at one size.

    Args:
        name: which set.
        root: the folder that its archive unpacks to, or the one that holds it.
        part: ``"test"`` is what the field reports on: the official test images, and the validation images of ImageNet
            and Tiny-ImageNet, whose test images have no public labels. ``"validation"`` is the official one of DTD, and
            of the others a tenth of every class of the training images, always the same ones.
        size: the shorter side is resized to it, then the centre is cut out; ``None`` takes that of ``SIZES``.
        skip_broken, progress, cache, say: as in :func:`folder`.

    Raises:
        ValueError: the folder is not of this layout (says what was expected and what is there), or as :func:`folder`.
        ImportError: Pillow is not installed, or SciPy for ImageNet's devkit.
    """
    choose("part of the images", part, PARTS)
    need_pillow()
    found, size = layout_of(name, root), size or SIZES[name]
    told = {"skip_broken": skip_broken, "progress": progress, "cache": cache, "say": say}
    return read_layout(found, expanded(root), part, size, **told)  # type: ignore[arg-type]


def layout_of(name: PhotoSet, root: Path) -> Layout:
    """The classes of a set and the files of every part; no picture is opened.

    Raises:
        ValueError, ImportError: as :func:`photo_set`.
    """
    choose("set of photos", name, LAYOUTS)
    return LAYOUTS[name](expanded(root))


def imagenet(root: Path) -> Layout:
    """ImageNet-1K (ILSVRC 2012): ``train/WNID/*``, and ``val/WNID/*`` or a flat ``val/*`` with its truth.

    The truth of a flat ``val`` is the devkit's (line i of the ground truth is image i; its number is that of
    ``meta.mat``, not of the class), or ``LOC_val_solution.csv``. Classes are the sorted WordNet numbers, the order of
    published weights. A part of the classes will do: images in ``val`` of other classes are left out with a warning.

    Source: arXiv 1409.0575; the readme of its development kit.
    """
    places = ("imagenet", "ImageNet", "ILSVRC2012", "imagenet-1k", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
    here = located(root, places, ("train", "val"), "ImageNet")
    _check_unpacked(here / "train")
    classes = _numbered_classes(here / "train", "ImageNet")
    train, val = find(here / "train", classes), here / "val"
    unread = train.unread
    if folders(val):
        found = find(val, classes)
        test, unread = Files(found.paths, found.labels), unread + found.unread
    else:
        test = _flat(val, _truth(here, root), classes)
    return divided(classes, Files(train.paths, train.labels), test, None, unread)


def _check_unpacked(train: Path) -> None:
    if not folders(train) and (archives := sorted(train.glob("n*.tar"))):
        raise ValueError(
            f"{printable(train)} holds {len(archives)} archives such as {archives[0].name}: unpack each into a folder "
            f"of its name ({archives[0].stem}/)"
        )


def _numbered_classes(train: Path, what: str) -> tuple[str, ...]:
    """Sorted WordNet numbers."""
    classes = classes_of(train)
    if strange := next((name for name in classes if not WNID.fullmatch(name)), None):
        raise ValueError(
            f"{printable(train)} is no {what}: expected folders named by WordNet numbers (n01440764), found "
            f"{printable(strange)!r}; for other images take data.name=folder"
        )
    return classes


def _flat(val: Path, truth: Mapping[int, str], classes: Sequence[str]) -> Files:
    """Pictures that lie in one folder, by their numbers."""
    names = sorted(path.name for path in val.iterdir() if NUMBERED.fullmatch(path.name))
    if not names:
        raise ValueError(
            f"{printable(val)} holds neither folders of classes nor pictures named ILSVRC2012_val_00000001.JPEG; "
            f"unpack the validation archive there"
        )
    numbers = [int(NUMBERED.fullmatch(name)[1]) for name in names]  # type: ignore[index]
    if strange := next((n for n in numbers if n not in truth), None):
        raise ValueError(
            f"{printable(val)} holds image {strange}, and the truth beside it is that of {len(truth)} other images; "
            f"take the archive and the devkit of one year"
        )
    return _known([(val / name, truth[n]) for name, n in zip(names, numbers, strict=True)], classes, val)


def _known(pairs: Sequence[tuple[Path, str]], classes: Sequence[str], where: Path) -> Files:
    """Those of classes that are trained on; the rest is counted in a warning."""
    place = {name: label for label, name in enumerate(classes)}
    kept = [(path, place[name]) for path, name in pairs if name in place]
    if left_out := len(pairs) - len(kept):
        others = {name for _, name in pairs} - set(classes)
        warnings.warn(
            f"{printable(where)}: {left_out} of {len(pairs)} images are left out, of {len(others)} classes without "
            f"training images, for example {min(others)}",
            stacklevel=5,
        )
    return Files([path for path, _ in kept], [label for _, label in kept])


def _truth(here: Path, root: Path) -> dict[int, str]:
    """WordNet number of every validation image by its number."""
    around = list(dict.fromkeys((here, here.parent, root, *here.parents[1:3], root.parent)))
    for folder in (place / kit for place in around for kit in KITS):
        if (folder / TRUTH).is_file() and (folder / "meta.mat").is_file():
            return _of_devkit(folder)
    for folder in around:
        if (folder / SOLUTION).is_file():
            return _of_solution(folder / SOLUTION)
    raise ValueError(
        f"{printable(here / 'val')} is flat, and nothing says which class an image has: expected "
        f"ILSVRC2012_devkit_t12/data/{{{TRUTH}, meta.mat}} or {SOLUTION} beside it; put the devkit there, or sort the "
        f"images into folders val/WNID"
    )


def _of_devkit(folder: Path) -> dict[int, str]:
    """The devkit's numbers are its own: ``meta.mat`` says which synset each is, and inner nodes are none of them."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(f"reading {printable(folder / 'meta.mat')} needs SciPy: pip install scipy") from error
    try:
        synsets = loadmat(folder / "meta.mat", squeeze_me=True)["synsets"]
        rows = zip(synsets["ILSVRC2012_ID"], synsets["WNID"], synsets["num_children"], strict=True)
        names = {int(number): str(wnid) for number, wnid, children in rows if int(children) == 0}
    except Exception as error:  # a damaged file raises nearly anything
        raise ValueError(f"{printable(folder / 'meta.mat')} cannot be read: {error}; unpack the devkit again") from None
    lines = lines_of(folder / TRUTH)
    if strange := next((line for line in lines if not line.isdecimal() or int(line) not in names), None):
        raise ValueError(f"{printable(folder / TRUTH)} names {strange!r}, which is no class of meta.mat beside it")
    return {i: names[int(line)] for i, line in enumerate(lines, start=1)}


def _of_solution(file: Path) -> dict[int, str]:
    """``ILSVRC2012_val_00048981,n03995372 85 1 499 272 ...``: the first word of the second column."""
    truth = {}
    with open(file, newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            name, words = str(row.get("ImageId")), str(row.get("PredictionString")).split()
            number = NUMBERED.fullmatch(f"{name}.JPEG")
            if number is None or not words or not WNID.fullmatch(words[0]):
                raise ValueError(f"{printable(file)} holds {name!r}: expected ILSVRC2012_val_NUMBER,WNID BOX")
            truth[int(number[1])] = words[0]
    return truth


def tiny_imagenet(root: Path) -> Layout:
    """Tiny-ImageNet: ``train/WNID/images/*``, and ``val/images/*`` with ``val_annotations.txt`` or by class.

    Both forms of a re-foldered ``val`` (``val/WNID/images/*``, ``val/WNID/*``) are taken as well, and subsets of the
    classes. Classes are the sorted WordNet numbers, the order of a folder; ``wnids.txt`` has another, and a checkpoint
    that was trained by it answers in that one.

    Source: the readme of CS231n's Tiny ImageNet challenge.
    """
    here = located(root, ("tiny-imagenet-200", "tiny-imagenet"), ("train", "val"), "Tiny-ImageNet")
    classes = _numbered_classes(here / "train", "Tiny-ImageNet")
    train, val = find(here / "train", classes), here / "val"
    if set(folders(val)) - {"images"}:
        aside = () if holds_picture(val / "images") else ("images",)  # what a script that moved the files has left
        found = find(val, classes, aside=aside)
        test, unread = Files(found.paths, found.labels), train.unread + found.unread
    else:
        test, unread = _annotated(val, classes), train.unread
    return divided(classes, Files(train.paths, train.labels), test, None, unread)


def _annotated(val: Path, classes: Sequence[str]) -> Files:
    """``val_0.JPEG<TAB>n03444034<TAB>0<TAB>32<TAB>44<TAB>62``: file, class and box."""
    lines = [line.split("\t") for line in lines_of(val / "val_annotations.txt")]
    if strange := next((line for line in lines if len(line) < 2 or not WNID.fullmatch(line[1])), None):
        told = printable(" ".join(strange))
        raise ValueError(f"{printable(val / 'val_annotations.txt')} holds {told!r}: expected FILE<TAB>WNID<TAB>BOX")
    pairs = [(name, wnid) for name, wnid, *_ in lines]
    paths = listed(val / "images", [name for name, _ in pairs], "val_annotations.txt")
    return _known([(path, wnid) for path, (_, wnid) in zip(paths, pairs, strict=True)], classes, val)


LAYOUTS: dict[str, Callable[[Path], Layout]] = {
    "imagenet": imagenet,
    "tiny-imagenet": tiny_imagenet,
    "cub200": cub200,
    "dtd": dtd,
    "food101": food101,
}
