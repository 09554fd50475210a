"""Images without labels: every picture below a folder, whatever the folders in it are called."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch

from .._files import expanded
from ..pictures.heads import content, need_pillow, printable, state_of, suffixes, told_unread
from ..pictures.layout import ASIDE
from ..pictures.names import unseen
from .decoded import read_kept
from .folder import Files
from .images import read_images
from .labelled import Labelled, digest
from .stl10 import stl10_unlabelled

STL10 = ("unlabeled_X.bin", "stl10_binary/unlabeled_X.bin")
BEGINNING = 4096  # bytes that tell nearly all pictures of equal size apart
THREADS = 8


def unlabelled(
    root: Path,
    size: int,
    num_classes: int,
    *,
    skip_broken: bool = False,
    cache: Path | None = None,
    measured: Sequence[Path] = (),
) -> Labelled:
    """Pictures anywhere below a folder, read into memory at one size; or STL-10's, from the folder of its files.

    Args:
        root: the folder.
        size: the shorter side is resized to it, then the centre is cut out.
        num_classes: of the labelled images beside them.
        skip_broken, cache: as in :func:`folder`.
        measured: as in :func:`pictures_below`.

    Returns:
        The images; every label is -1.

    Raises:
        ValueError: no folder, no picture in it, one that cannot be read, or more than fit into memory.
    """
    root = expanded(root)
    if is_stl10(root):
        images = stl10_unlabelled(root, size)
        return Labelled(images, torch.full((len(images),), -1), num_classes)
    paths = pictures_below(root, measured)
    if cache is None:
        images, kept = read_images(paths, size, skip_broken=skip_broken)
    else:
        images, kept = read_kept(paths, size, cache, skip_broken=skip_broken)
    files = Files(paths, [-1] * len(paths)).at(kept)
    return Labelled(images, torch.tensor(files.labels), num_classes, (), digest(size, files.listed(root)))


def is_stl10(root: Path) -> bool:
    """Whether a folder holds STL-10's images without labels, which lie in one file."""
    return any((expanded(root) / name).is_file() for name in STL10)


def pictures_below(root: Path, measured: Sequence[Path] = ()) -> list[Path]:
    """Every picture below a folder in the order of the paths; hidden files and folders are passed over.

    Args:
        root: the folder.
        measured: images that are measured on, now or at the end: none of them may be learnt from, nor a copy.

    Raises:
        ValueError: no folder, no picture in it, or one that is measured on, under whatever name.

    Warns:
        UserWarning: files that are no pictures, or none that can be read here, counted by their endings.
    """
    need_pillow()
    if not root.is_dir():
        raise ValueError(f"there is no folder {printable(root)}; data.unlabelled names a folder of images, or all")
    endings, found, unread = suffixes(), [], []
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not unseen(name))
        for path in (Path(place, name) for name in sorted(names) if not unseen(name)):
            if path.name.lower().endswith(endings):
                found.append(path)
            elif path.suffix.lower() not in ASIDE:
                unread.append(path)
    if not found:
        raise ValueError(f"{printable(root)} holds no image; images end with .jpg, .png and the like")
    if left_out := told_unread(unread):
        warnings.warn(f"{printable(root)}: {left_out}", stacklevel=3)
    held = {path.resolve() for path in measured}
    same = [path for path in found if held and path.resolve() in held]
    if seen := same or _copies(found, held):
        told = "" if same else ", as copies of them"
        raise ValueError(
            f"data.unlabelled={printable(root)} holds {len(seen)} of the images that are measured on{told} "
            f"({printable(seen[0].name)}, ...): name a folder without them, or write data.unlabelled=all for the "
            f"training images whose labels are not used"
        )
    return found


def _copies(found: Sequence[Path], measured: Iterable[Path]) -> Sequence[Path]:
    """Those with the bytes of an image that is measured on; every look reads more, and of fewer files."""
    held = list(measured)
    with ThreadPoolExecutor(THREADS) as pool:
        for take in (_size, _beginning, _whole):
            if not (found and held):
                return []
            look = partial(_taken, take)
            mine, theirs = list(pool.map(look, found)), list(pool.map(look, held))
            both = set(mine) & set(theirs) - {None}
            found = [path for path, mark in zip(found, mine, strict=True) if mark in both]
            held = [path for path, mark in zip(held, theirs, strict=True) if mark in both]
    return found


def _taken(take: Callable[[Path], object], path: Path) -> object:
    """What is known of a file; nothing of one that cannot be read, which reading says."""
    try:
        return take(path)
    except OSError:
        return None


def _size(path: Path) -> int | None:
    return state_of(path)[0] or None


def _beginning(path: Path) -> tuple[int | None, bytes]:
    if not path.is_file():  # in an archive, which is mapped
        return _size(path), content(path)[:BEGINNING]
    with open(path, "rb") as file:
        return _size(path), file.read(BEGINNING)


def _whole(path: Path) -> bytes:
    return hashlib.blake2b(content(path)).digest()
