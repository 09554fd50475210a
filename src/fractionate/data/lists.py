"""Sets of photos whose parts are written down in lists: CUB-200-2011, DTD and Food-101."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..pictures.heads import printable
from ..pictures.layout import folders
from .folder import Files, Layout, divided

SHOWN = 4  # entries of a folder that a message names


def located(root: Path, places: Sequence[str], needs: Sequence[str], what: str) -> Path:
    """The folder with the entries of a layout: ``root``, or a place in it.

    Raises:
        ValueError: none has them; says what was expected and what ``root`` holds.
    """
    for here in (root, *(root / place for place in places)):
        if all((here / need).exists() for need in needs):
            return here
    if not root.is_dir():
        found = "no such folder"
    else:
        names = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        found = f"found {', '.join(map(printable, names[:SHOWN])) or 'nothing'}{more}"
    raise ValueError(
        f"{printable(root)} is no {what}: expected {', '.join(needs)} in it or in {places[0]}/, {found}; data.root (on "
        f"the command line: --data) names the folder"
    )


def lines_of(file: Path) -> list[str]:
    """Lines of a text that are not empty.

    Raises:
        ValueError: it is not there, or no text.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise ValueError(f"{printable(file)} {why}; unpack the archive again") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def listed(folder: Path, names: Sequence[str], file: str) -> list[Path]:
    """Paths of files that a list names.

    Raises:
        ValueError: some are not there, or a name that leads out of the folder.
    """
    paths = [folder / name for name in names]
    missing = [path for path in paths if ".." in path.parts or not path.is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(paths)} pictures that {file} lists are missing, the first being "
            f"{printable(missing[0])}; unpack the archive again"
        )
    return paths


def cub200(root: Path) -> Layout:
    """Caltech-UCSD Birds 200 (2011), by its lists: classes by their numbers, the official training and test images.

    Source: Wah et al., The Caltech-UCSD Birds-200-2011 dataset, CNS-TR-2011-001.
    """
    needs = ("images", "images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
    here = located(root, ("CUB_200_2011",), needs, "CUB-200-2011")
    classes = _by_number(here / "classes.txt")
    images, labels, split = (_by_number(here / name) for name in needs[1:4])
    if not images.keys() == labels.keys() == split.keys():
        raise ValueError(f"{printable(here)}: {', '.join(needs[1:4])} do not number the same images")
    if sorted(classes) != list(range(1, len(classes) + 1)):
        raise ValueError(f"{printable(here / 'classes.txt')}: classes must be numbered 1..{len(classes)} without gaps")
    numbers = {str(i) for i in classes}
    for name, found, allowed in ((needs[2], labels, numbers), (needs[3], split, {"0", "1"})):
        if strange := next((value for value in found.values() if value not in allowed), None):
            raise ValueError(f"{printable(here / name)} holds the value {strange!r}, which is none of its kind")
    paths = listed(here / "images", list(images.values()), needs[1])
    files = Files(paths, [int(labels[i]) - 1 for i in images])
    train, test = (files.at([k for k, i in enumerate(images) if split[i] == part]) for part in "10")
    return divided(tuple(classes[i] for i in sorted(classes)), train, test)


def _by_number(file: Path) -> dict[int, str]:
    """``17 001.Black_footed_Albatross/...`` in the order of the list."""
    found = {}
    for line in lines_of(file):
        number, _, value = line.partition(" ")
        if not number.isdecimal() or not value:
            raise ValueError(f"{printable(file)} holds {printable(line)!r}: expected NUMBER VALUE")
        found[int(number)] = value.strip()
    return found


def dtd(root: Path) -> Layout:
    """The Describable Textures Dataset, by the first of its ten official splits into three parts.

    Source: Cimpoi et al., Describing textures in the wild, CVPR 2014.
    """
    here = located(root, ("dtd", "dtd/dtd"), ("images", "labels"), "DTD")
    classes = tuple(sorted(folders(here / "images")))
    train, held, test = (_of_list(here / "labels" / f"{part}1.txt", here / "images", classes) for part in DTD_PARTS)
    return divided(classes, train, test, held)


DTD_PARTS = ("train", "val", "test")


def food101(root: Path) -> Layout:
    """Food-101, by its lists of training and test images; classes are sorted by name.

    Source: Bossard et al., Food-101: mining discriminative components with random forests, ECCV 2014.
    """
    here = located(root, ("food-101", "food101"), ("images", "meta"), "Food-101")
    classes = tuple(sorted(folders(here / "images")))
    train, test = (_of_list(here / "meta" / f"{part}.txt", here / "images", classes, ".jpg") for part in FOOD_PARTS)
    return divided(classes, train, test)


FOOD_PARTS = ("train", "test")


def _of_list(file: Path, images: Path, classes: Sequence[str], ending: str = "") -> Files:
    """``CLASS/NAME`` in every line."""
    lines, place = lines_of(file), {name: label for label, name in enumerate(classes)}
    names = [line.partition("/")[0] for line in lines]
    if strange := next((name for name in names if name not in place), None):
        raise ValueError(f"{printable(file)} names the class {printable(strange)!r}, and {printable(images)} has none")
    return Files(listed(images, [line + ending for line in lines], file.name), [place[name] for name in names])
