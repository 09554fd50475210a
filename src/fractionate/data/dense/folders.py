"""Looking for folders of images and masks, on disk or in a zip file, and what is said where they are not found."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ...pictures.heads import suffixes
from .reading import Place, name

Files = list[tuple[Place, Place]]


def opened(root: Path) -> Place:
    """A folder, or what is in a zip file.

    Raises:
        ValueError: neither is there.
    """
    if root.is_file() and zipfile.is_zipfile(root):
        return zipfile.Path(root)
    if not root.is_dir():
        raise ValueError(f"{root} is no folder and no zip file; --data DIR (or data.root=DIR) names that of the images")
    return root


def has_folder(root: Place, *folders: str) -> bool:
    """Whether one of these lies in a folder."""
    return any((root / name).is_dir() for name in folders)


def archive(root: Place, archives: str) -> Place | None:
    """A zip file in a folder that holds nothing else of that kind."""
    found = sorted(root.glob(archives)) if archives and isinstance(root, Path) else []
    return zipfile.Path(found[0]) if found else None


def base_of(root: Place, *names: str, has: Sequence[str], archives: str = "") -> Place:
    """The folder itself or one in it that holds what is looked for, or a zip file in it."""
    for base in (root, *(root / n for n in names)):
        if any((base / inner).is_dir() for inner in has):
            return base
    return archive(root, archives) or root


def folder_named(base: Place, names: Sequence[str]) -> Place | None:
    """The first of these folders that is there, in letters of any size."""
    there = {place.name.lower(): place for place in base.iterdir() if place.is_dir()}
    return next((there[n] for n in names if n in there), None)


def folders_in(base: Place) -> list[Place]:
    """All folders in one, by name."""
    return sorted((p for p in base.iterdir() if p.is_dir()), key=lambda p: p.name) if base.is_dir() else []


def pictures_in(folder: Place) -> list[Place]:
    """Picture files, by name; hidden ones are none."""
    ends = suffixes()
    there = [
        p for p in folder.iterdir() if not p.name.startswith(".") and p.name.lower().endswith(ends) and p.is_file()
    ]
    return sorted(there, key=lambda p: p.name)


def paired(images: Place, masks: Place) -> Files:
    """Images with the masks of the same name, whatever their endings."""
    if not images.is_dir():
        return []
    if not masks.is_dir():
        raise ValueError(f"{name(images)} has no folder {name(masks)} with its masks beside it")
    there = {place.name.rpartition(".")[0]: place for place in pictures_in(masks)}
    found = pictures_in(images)
    missing = [image for image in found if image.name.rpartition(".")[0] not in there]
    if missing:
        wanted = masks / f"{missing[0].name.rpartition('.')[0]}.png"
        raise ValueError(no_mask(wanted, len(missing), len(found)))
    return [(image, there[image.name.rpartition(".")[0]]) for image in found]


def no_mask(mask: Place, missing: int, count: int) -> str:
    """The message for images without masks."""
    return f"{name(mask)} is missing: {missing} of {count} images have no mask; add it, or take the image away"


def other_layout(root: Place, kind: str, wanted: str) -> str:
    """The message for a folder that is another set."""
    return f"{name(root)} is not laid out as {kind}: expected {wanted}"


def text_of(file: Place) -> str:
    """What a text file holds."""
    return file.read_bytes().decode("utf-8-sig")  # editors of Windows begin a file with a mark


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
