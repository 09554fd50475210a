"""Pictures that lie in tar archives, as WebDataset writes them: ``key.jpg`` beside ``key.cls`` or ``key.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from .heads import TAR, content, look_again, members, printable, suffixes
from .layout import ASIDE, Found, class_folders, found_in, parts_of
from .names import Kind, shown

LABELS = (".cls", ".json")


def pictures_in(root: Path) -> tuple[tuple[str, ...], dict[Kind, Found]]:
    """The classes of a folder, and the pictures of every part: those of archives where such lie there, else files.

    Raises:
        ValueError: as :func:`found_in` and :func:`shards_in`.
    """
    return shards_in(root) or found_in(root)


def shards_in(root: Path) -> tuple[tuple[str, ...], dict[Kind, Found]] | None:
    """The same of archives in the folders of the parts, or in ``root`` itself; ``None`` where there are none.

    A member of an archive has the archive's path and its own behind that: ``train/00.tar/cat-1.jpg``. Its label is the
    text of ``cat-1.cls``, or ``label`` in ``cat-1.json``. Where all labels are numbers, these are the numbers of the
    classes; else names, which are sorted. The pictures come in the order of their classes and names.

    Raises:
        ValueError: a part without an archive, an archive that cannot be read, a picture without a label, a label that
            is none of the training images', or fewer than two classes.

    Source: the layout of WebDataset (github.com/webdataset/webdataset).
    """
    look_again()
    places = parts_of(root)
    tars = {kind: _archives(path) for kind, path in places.items()}
    if not tars["train"] or class_folders(places["train"]):
        return None
    labels: dict[Kind, dict[Path, str]] = {}
    found = {kind: Found(places[kind]) for kind in places}
    for kind, archives in tars.items():
        if not archives:
            raise ValueError(
                f"{printable(places[kind])} holds no .tar, and {printable(places['train'])} does; add them"
            )
        labels[kind] = {path: label for tar in archives for path, label in _labelled(tar, found[kind].unread)}
    classes = _classes(labels["train"], all(x.isdecimal() for some in labels.values() for x in some.values()))
    number = {name: i for i, name in enumerate(classes)}
    for kind, some in labels.items():
        if strange := next((path for path, label in some.items() if label not in number), None):
            raise ValueError(
                f"{printable(strange)} has the label {printable(some[strange])!r}, which no training image has; add "
                f"such images to {printable(places['train'])}, or leave it out"
            )
        ordered = sorted(some, key=lambda path: (number[some[path]], shown(path.name), path))
        found[kind].paths.extend(ordered)
        found[kind].labels.extend(number[some[path]] for path in ordered)
    return classes, found


def _archives(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob(f"*{TAR}") if p.is_file() and not p.name.startswith("."))


def _classes(labels: Mapping[Path, str], numbered: bool) -> tuple[str, ...]:
    if len(set(labels.values())) < 2:
        one = f"only the label {printable(next(iter(labels.values())))!r}" if labels else "no picture with a label"
        raise ValueError(f"the training archives hold {one}: at least two classes are needed")
    if numbered:
        return tuple(map(str, range(1 + max(map(int, labels.values())))))
    return tuple(sorted(set(labels.values())))


def _labelled(tar: Path, unread: list[Path]) -> Iterator[tuple[Path, str]]:
    """Every picture of an archive with its label; other files are added to ``unread``."""
    endings, there = suffixes(), members(tar)
    for name in there:
        path = PurePosixPath(name)
        if path.name.lower().endswith(endings):
            yield tar / name, _label(tar, str(path.with_name(path.name.split(".")[0])), there)
        elif path.suffix.lower() not in {*LABELS, *ASIDE}:
            unread.append(tar / name)


def _label(tar: Path, key: str, there: Mapping[str, tuple[int, int]]) -> str:
    ending = next((e for e in LABELS if key + e in there), None)
    if ending is None:
        raise ValueError(f"{printable(tar / key)} has no label; put {printable(key)}.cls or .json beside it")
    told = content(tar / (key + ending))
    try:
        label = json.loads(told)["label"] if ending == ".json" else told.decode().strip()
    except (ValueError, KeyError, TypeError, RecursionError):
        label = None
    if isinstance(label, bool) or not isinstance(label, int | str) or label == "":
        wanted = '{"label": NUMBER or NAME}' if ending == ".json" else "a number or a name"
        raise ValueError(f"{printable(tar / (key + ending))} tells no label: expected {wanted}")
    return shown(str(int(label)) if str(label).isdecimal() else str(label))
