"""Which classes the numbers or colours of masks stand for: files of names and of colours, or the masks themselves."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from ...pictures.heads import printable
from .pairs import VOID, identity, largest_label, mapped
from .reading import Colour, Place, name

VOIDS = ("void", "unlabelled", "unlabeled", "ignore", "ignored")
COLOURS, JSON, TEXT = "label_colors.txt", "classes.json", "classes.txt"
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
SOME = 4  # classes in a sentence
ADE20K_CLASSES, ADE_LISTS = 150, ("objectInfo150.txt", "sceneCategories.txt")
_ROW = re.compile(r"(\d+)[\s,;]+(\d+)[\s,;]+(\d+)[\s,;]+(.*[^\s,;])")


def classes_of(root: Place, masks: Sequence[Place]) -> tuple[tuple[str, ...], Tensor, dict[Colour, int]]:
    """Names of the classes, the table of labels and that of colours, as in :class:`Pairs`.

    From ``label_colors.txt``, ``classes.json`` or ``classes.txt``; else as many as the masks' largest label says.

    Raises:
        ValueError: a file that cannot be read, one name twice, fewer than two or too many; or as :func:`largest_label`.
    """
    file = _file_in(root)
    if file is None:
        highest = largest_label(masks)
        return tuple(str(c) for c in range(highest + 1)), identity(highest + 1), {}
    painted: list[Colour] = []
    if file.name == COLOURS:
        names, painted = colours_in(file)
    else:
        names = names_in(file) if file.name == JSON else lines_in(file)
    kept = [n for n in names if n.lower() not in VOIDS]
    if len(kept) > VOID or len(names) > 256:
        raise ValueError(f"{name(root)} names {len(names)} classes; a mask holds the labels 0..254, and 255 is void")
    twice = [n for n, count in Counter(kept).items() if count > 1]
    if twice or not kept:
        told = f"names the class {printable(twice[0])!r} twice" if twice else "names no class"
        raise ValueError(f"{name(file)} {told}; give every class one line and one name, in the order of the labels")
    if len(kept) == 1:
        raise ValueError(
            f"{name(file)} names the class {printable(kept[0])!r} alone, and two are the least; name what lies "
            f"around it too (background, first, if masks hold 0 there and 1 in it)"
        )
    labels = [VOID if n.lower() in VOIDS else kept.index(n) for n in names]
    return tuple(kept), mapped(dict(enumerate(labels))), dict(zip(painted, labels, strict=True)) if painted else {}


def ade_classes(base: Place) -> tuple[str, ...]:
    """The names in ADE20K's list of objects, else numbers."""
    info = base / ADE_LISTS[0]
    if info.is_file():
        rows = [line.split("\t") for line in info.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
        names = tuple(row[-1].split(",")[0].strip() for row in rows)
        if len(names) == ADE20K_CLASSES:
            return names
    return tuple(f"class {c + 1}" for c in range(ADE20K_CLASSES))


def counted(classes: Sequence[str]) -> str:
    """How many classes there are, and the first of them, for a sentence.

    Example:
        >>> counted(["road", "car", "sky", "tree", "pole"])
        '5 classes (road, car, sky, tree, ...)'
    """
    some = ", ".join(map(printable, classes[:SOME])) + (", ..." if len(classes) > SOME else "")
    return f"{len(classes)} classes ({some})"


def names_of(root: Place) -> list[str] | None:
    """The classes that a file in a folder names, void apart; ``None`` where there is none."""
    file = _file_in(root)
    if file is None:
        return None
    read = {COLOURS: lambda place: colours_in(place)[0], JSON: names_in, TEXT: lines_in}[file.name]
    return [n for n in read(file) if n.lower() not in VOIDS]


def _file_in(root: Place) -> Place | None:
    return next((root / n for n in (COLOURS, JSON, TEXT) if (root / n).is_file()), None)


def colours_in(file: Place) -> tuple[list[str], list[Colour]]:
    """Names and colours of a file with lines ``RED GREEN BLUE NAME``, with commas or tabs too, below a heading or not.

    Raises:
        ValueError: another line, or one colour twice.
    """
    names: list[str] = []
    painted: list[Colour] = []
    for number, line in enumerate(text_of(file).splitlines(), start=1):
        row = _ROW.fullmatch(line.strip(" \t,;"))
        heading = not names and not re.search(r"\d", line)
        if row is None and (heading or not line.strip() or line.lstrip().startswith("# ")):
            continue
        colour = row and (int(row[1]), int(row[2]), int(row[3]))
        if not (row and colour) or max(colour) > 255 or colour in painted:
            wrong = "has the colour of another line" if colour in painted else "is no line 'RED GREEN BLUE NAME'"
            raise ValueError(
                f"{name(file)}, line {number}: {printable(line.strip())!r} {wrong}; expected a line for every class "
                f"with three numbers 0..255 and a name, such as '128 64 128 road'"
            )
        painted.append(colour)
        names.append(" ".join(row[4].split()))
    return names, painted


def lines_in(file: Place) -> list[str]:
    """The names in a text file, one in a line; lines that begin with ``#`` and a space are notes."""
    lines = [line.strip() for line in text_of(file).splitlines()]
    return [line for line in lines if line and not line.startswith("# ")]


def names_in(file: Place) -> list[str]:
    """The names of the classes in a JSON file.

    Raises:
        ValueError: it holds something else.
    """
    found = json.loads(text_of(file))
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(
            f'{name(file)} must be a list of names in the order of their labels, ["road", "car"]; got '
            f"{type(found).__name__ if not isinstance(found, list) else 'a list of other things'}"
        )
    return found


def text_of(file: Place) -> str:
    """What a text file holds.

    Raises:
        ValueError: it is in another encoding than UTF-8.
    """
    held = file.read_bytes()
    try:
        return held.decode("utf-16" if held[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")  # with Windows' marks
    except UnicodeDecodeError as error:
        line = held[: error.start].count(b"\n") + 1
        raise ValueError(f"{name(file)}, line {line}: it is not written in UTF-8; save it as UTF-8") from None
