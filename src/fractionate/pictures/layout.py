"""Which files of a folder are pictures of which part and of which class; what cannot be told apart is refused."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from .heads import PLUGINS, printable, suffixes, told_loose
from .names import WORDS, Kind, kind_of, kinds_in, plain_name, shown, unseen

# Files that lie beside pictures and are none; whatever else is not read is counted and named.
_ASIDE = (
    ".txt .md .rst .csv .tsv .json .jsonl .xml .yaml .yml .html .htm .ini .toml .log .db .py .ipynb "
    ".sha1 .sha256 .md5 .lnk .url .rtf .doc .docx .xls .xlsx"
)
ASIDE = frozenset(_ASIDE.split())
RUN_FILES = frozenset(("config.yaml", "summary.json"))  # of a run, which the command puts into ./runs
SHOWN = 3
TEST_SHARE = 1 / 5  # of every class, where a folder has no test part


@dataclass(frozen=True)
class Found:
    """Pictures of one part.

    Args:
        root: the part's folder, in which the classes lie.
        paths: pictures, sorted by class and name.
        labels: the number of their class.
        unread: files that are not read, below the same folders.
    """

    root: Path
    paths: list[Path] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)


def parts_of(root: Path) -> dict[Kind, Path]:
    """The folders of the parts; ``{"train": root}`` where there is none beside the classes.

    Raises:
        ValueError: no such folder, two folders for one part, a part without the training images, or folders of which
            nobody can say whether they are parts or classes.
    """
    if not _is_dir(root):
        name, a_file = printable(root), os.path.isfile(root)
        told = f"{name} is a file (unpack it)" if a_file else f"there is no folder {name}"
        raise ValueError(f"{told}; give the folder that holds one folder of images per class")
    names = class_folders(root)
    kinds = {name: kind for name in names if (kind := kind_of(name))}
    if not kinds:
        _check_alike(root, names)
        return {"train": root}
    parts: dict[Kind, Path] = {}
    for name, kind in kinds.items():
        if kind in parts:
            both = f"{printable(parts[kind].name)}/ and {printable(name)}/"
            raise ValueError(f"{printable(root)} holds {both}, both for the {kind} images; keep one of them")
        parts[kind] = root / name
    _check_beside(root, [name for name in names if name not in kinds], parts)
    if "train" not in parts:
        there = " and ".join(f"{printable(path.name)}/" for path in parts.values())
        raise ValueError(f"{printable(root)} has {there} but no train/; name the folder of the training images train")
    for kind, path in parts.items():
        others = [other for other in parts.values() if other != path]
        if not folders(path) and holds_picture(path) and not (kind == "train" and any(map(folders, others))):
            raise ValueError(
                f"{printable(path)} holds pictures but no folder of a class; sort them into one folder per class, or "
                f"move the {kind} images elsewhere"
            )
    return parts


_REMEDY = "if they are parts, name them train, val and test; if classes, put them into one folder train"


def _check_alike(root: Path, names: list[str]) -> None:
    """Refuse unlabelled images, and folders that seem parts of unknown names.

    So seem names with words of several parts in them; and two or three folders, or numbered ones, that hold but folders
    of the same classes.
    """
    bare = {plain_name(name).replace("ll", "l"): root / name for name in names}
    if with_classes := bare.get("labeled") if "unlabeled" in bare else None:
        how = f"--data {quote(printable(with_classes))} data.unlabelled={quote(printable(bare['unlabeled']))}"
        raise ValueError(f"{printable(root)} holds images with labels and without: give both, {how}")
    if len(names) > 2 and (without := bare.get("unlabeled")):
        raise ValueError(
            f"{printable(without)} beside the folders of classes holds images without labels, by its name: move it out "
            f"and name it, data.unlabelled=DIR; if it is a class, give it another name"
        )
    if len(names) < 2:
        return
    said = [kinds_in(name) for name in names]
    if all(said) and len(set[str]().union(*said)) > 1:
        raise ValueError(
            f"{', '.join(map(printable, names[:SHOWN]))} in {printable(root)} read like parts of the images "
            f"({', '.join(sorted(set[str]().union(*said)))}): {_REMEDY}"
        )
    inner, endings = {name: folders(root / name) for name in names}, suffixes()
    most = max(inner.values(), key=len)
    numbered = len({re.sub(r"\d+", "", name) for name in names}) == 1  # fold1, fold2 ...
    if len(most) < 2 or any(map(kind_of, most)) or not (len(names) <= len(WORDS) or numbered):
        return
    if not all(some and set(some) <= set(most) for some in inner.values()):
        return
    if not any(entry.name.lower().endswith(endings) for name in names for entry in _entries(root / name)):
        raise ValueError(
            f"{', '.join(map(printable, names[:SHOWN]))} in {printable(root)} hold the same folders "
            f"({', '.join(map(printable, most[:SHOWN]))}): {_REMEDY}"
        )


def _check_beside(root: Path, others: list[str], parts: dict[Kind, Path]) -> None:
    """Refuse folders of pictures beside those of the parts: parts of an unknown name, or classes."""
    strange = next((name for name in others if holds_picture(root / name)), None)
    if strange is None:
        return
    name = next(iter(parts.values())).name
    raise ValueError(
        f"{printable(root)} holds {printable(name)!r}, which is the name of a part of the images, beside "
        f"{printable(strange)!r}, which is none. If all are classes, put them into one folder train "
        f"(train/{printable(name)}, train/{printable(strange)}); if {printable(strange)} is a part, name it train, "
        f"val or test; if it is neither, move it out of the folder"
    )


def classes_of(split: Path) -> tuple[str, ...]:
    """Names of the classes below a folder, in their order.

    Raises:
        ValueError: fewer than two, two that are the same word, or folders in which further parts lie.
    """
    names = class_folders(split)
    if len(names) < 2:
        raise ValueError(_too_few(split, names))
    if len({kind_of(name) for name in names} - {None}) == len(names):
        raise ValueError(
            f"{printable(split)} holds {', '.join(map(printable, names))}, names of parts of the images, no classes; "
            f"give the folder in which they lie, or name the classes otherwise"
        )
    seen: dict[str, str] = {}
    for name in names:
        if shown(name) in seen:
            raise ValueError(
                f"{printable(split)} holds two folders that are both shown as {printable(shown(name))!r} (one name is "
                f"in the Unicode form NFC, the other in NFD); put their images together"
            )
        seen[shown(name)] = name
    return tuple(sorted(seen))


def _too_few(split: Path, names: list[str]) -> str:
    found = f"only the class {printable(names[0])!r}" if names else "no folder"
    told = f"{printable(split)} holds {found}: at least two classes are needed, each a folder of images"
    told += f" ({printable(split.name)}/CLASS/*.jpg)"
    inner = folders(split / names[0]) if names else []
    if len(inner) > 1:
        told += f"; if {', '.join(map(printable, inner[:SHOWN]))} are the classes or the parts, give "
        told += f"{printable(split / names[0])} instead"
    return told


def found_in(root: Path) -> tuple[tuple[str, ...], dict[Kind, Found]]:
    """The classes of a folder, and the pictures of every part; those in ``train`` itself have the label -1.

    Raises:
        ValueError: as :func:`parts_of`, :func:`classes_of` and :func:`find`.
    """
    places = parts_of(root)
    train = places["train"]
    beside = [path for kind, path in places.items() if kind != "train" and folders(path)]
    loose = bool(beside) and not folders(train) and holds_picture(train)
    classes = classes_of(beside[0] if loose else train)
    found = {kind: find(path, classes) for kind, path in places.items() if not (loose and kind == "train")}
    if loose:
        found["train"] = Found(train)
        _walk(train, train.resolve(), suffixes(), found["train"])
        found["train"].labels.extend([-1] * len(found["train"].paths))
    return classes, found


def find(split: Path, classes: tuple[str, ...], *, aside: Collection[str] = ()) -> Found:
    """Every picture of every class below a folder, sorted by class and name.

    Args:
        split: the folder.
        classes: names of the classes.
        aside: folders in it that are no classes.

    Raises:
        ValueError: a folder that is no class, a class without pictures, links that lead out, or parts inside a class.
    """
    names = {shown(name): name for name in class_folders(split) if name not in aside}
    strange = sorted(set(names) - set(classes))
    if strange:
        raise ValueError(
            f"{printable(split)} holds {printable(strange[0])!r}, which is no class of the training images; add it "
            f"there, or move it away"
        )
    found, endings = Found(split), suffixes()
    if loose := [entry.name for entry in _entries(split) if entry.is_file() and entry.name.lower().endswith(endings)]:
        warnings.warn(told_loose(split, loose), stacklevel=2)
    for label, name in enumerate(classes):
        before = len(found.paths)
        if name in names:
            _walk(split / names[name], split.resolve(), endings, found)
        if len(found.paths) == before:
            where = printable(split / names.get(name, name))
            raise ValueError(
                f"{where} holds no image; images end with .jpg, {', '.join(e for e in endings if e != '.jpg')}"
            )
        found.labels.extend([label] * (len(found.paths) - before))
    return found


def _walk(here: Path, root: Path, endings: tuple[str, ...], found: Found) -> None:
    """Image files below a folder, in the order of their names; nothing outside of ``root``."""
    if here.is_symlink():
        raise ValueError(f"{printable(here)} is a link to a folder; put the folder itself there")
    for entry in _entries(here):
        path = here / entry.name
        if entry.is_dir():
            if kind := kind_of(entry.name):
                raise ValueError(
                    f"{printable(path)} lies inside a class and has the name of a part ({kind}): put the parts "
                    f"outside, as {printable(entry.name)}/{printable(here.name)}, or give the folder another name"
                )
            _walk(path, root, endings, found)
        elif not (entry.is_file() or entry.is_symlink()):  # a pipe, a socket
            continue
        elif entry.name.lower().endswith(endings):
            if entry.is_symlink() and not path.resolve().is_relative_to(root):
                raise ValueError(
                    f"{printable(path)} is a link that leads out of {printable(root)}; put the file itself there"
                )
            found.paths.append(path)
        elif path.suffix.lower() not in ASIDE:
            found.unread.append(path)


def folders(root: Path) -> list[str]:
    """Names of the visible folders in a folder."""
    return [entry.name for entry in _entries(root) if entry.is_dir()] if _is_dir(root) else []


def class_folders(root: Path) -> list[str]:
    """Those that may be classes or parts: all but the folders of runs, as ``./runs`` is beside the classes."""
    endings = (*suffixes(), *PLUGINS)
    return [name for name in folders(root) if not _of_runs(root / name, endings)]


def _of_runs(root: Path, endings: tuple[str, ...]) -> bool:
    """Whether a folder holds runs of this package and no picture."""
    return not _holds(root, endings) and any(RUN_FILES.intersection(names) for _, _, names in os.walk(root))


def holds_picture(root: Path) -> bool:
    """Whether any picture lies below a folder."""
    return _holds(root, suffixes())


def _holds(root: Path, endings: tuple[str, ...]) -> bool:
    """Whether files of these endings lie below a folder; the first one ends the search, of a million too."""
    inner = []
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inner += [] if unseen(entry.name) else [root / entry.name]
                elif entry.name.lower().endswith(endings):
                    return True
    except OSError:  # a folder that may not be looked into
        return False
    return any(_holds(place, endings) for place in inner)


def _entries(root: Path) -> Iterator[os.DirEntry[str]]:
    """What is visible in a folder, in the order of the names, whatever Unicode form they have."""
    with os.scandir(root) as entries:
        found = [entry for entry in entries if not unseen(entry.name)]
    yield from sorted(found, key=lambda entry: (shown(entry.name), entry.name))


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that no file system takes
        return False
