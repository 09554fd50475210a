"""Looking for folders of images and masks, on disk or in a zip file, and what is said where they are not found."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...pictures.heads import printable, suffixes, told_unread
from ...pictures.layout import ASIDE, SHOWN
from ...pictures.names import unseen
from .reading import Place, name

Files = list[tuple[Place, Place]]


def opened(root: Path) -> Place:
    """A folder, or what is in a zip file; of a zip that holds one folder and nothing else, that folder.

    Raises:
        ValueError: neither is there.
    """
    if root.is_file() and zipfile.is_zipfile(root):
        inside = [place for place in zipfile.Path(root).iterdir() if not unseen(place.name)]
        alone = len(inside) == 1 and inside[0].is_dir()
        return inside[0] if alone else zipfile.Path(root)
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
    """The folder that has one of these names, in letters of any size.

    Raises:
        ValueError: two hold pictures, and nobody can say which one is meant.
    """
    there = [place for place in folders_in(base) if place.name.lower() in names]
    if len(there) > 1:
        there = [place for place in there if next(pictures_below(place), None) is not None] or there
        there.sort(key=lambda place: names.index(place.name.lower()))
        if next(pictures_below(there[-1]), None) is not None and len(there) > 1:
            both = " and ".join(f"{printable(place.name)}/" for place in there[:2])
            raise ValueError(f"{name(base)} holds {both}, which stand for the same; keep one, and move the other away")
    return there[0] if there else None


def images_of(base: Place) -> Place | None:
    """The folder of the images."""
    return folder_named(base, ("images", "image", "imgs"))


def folders_in(base: Place) -> list[Place]:
    """All folders in one, by name; bins, indices and hidden ones are none."""
    ends = suffixes()  # thousands of pictures need not be asked
    there = [p for p in base.iterdir() if not unseen(p.name)] if base.is_dir() else []
    return sorted((p for p in there if not p.name.lower().endswith(ends) and p.is_dir()), key=lambda p: p.name)


def pictures_in(folder: Place) -> list[Place]:
    """Picture files, by name; hidden ones are none."""
    ends = suffixes()
    there = [p for p in folder.iterdir() if not unseen(p.name) and p.name.lower().endswith(ends) and p.is_file()]
    return sorted(there, key=lambda p: p.name)


def pictures_below(folder: Place) -> Iterator[Place]:
    """Picture files in a folder and in those inside of it."""
    yield from pictures_in(folder)
    for inner in folders_in(folder):
        yield from pictures_below(inner)


def paired(images: Place, masks: Place) -> Files:
    """Images with the masks of the same name, whatever their endings.

    Raises:
        ValueError: no folder of masks, an image without a mask, or two for one.

    Warns:
        UserWarning: files that cannot be read here, images in folders inside, or masks without an image are left out.
    """
    if not images.is_dir():
        return []
    if not masks.is_dir():
        raise ValueError(f"{name(images)} has no folder {name(masks)} with its masks beside it")
    found, there = _by_stem(images), _by_stem(masks)
    missing = sorted(set(found) - set(there))
    if missing:
        raise ValueError(no_mask(masks / f"{missing[0]}.png", len(missing), len(found)))
    for stem in found:
        for files, what, other in ((found, "images", "mask"), (there, "masks", "image")):
            if len(files[stem]) > 1:
                both = " and ".join(name(place) for place in files[stem][:2])
                raise ValueError(f"{both} are two {what} for one {other}; keep one of them")
    _tell_unread(images)
    named = {_stem(place) for place in images.iterdir()}  # also those of formats that are not read here
    _tell_alone(masks, [places[0] for stem, places in there.items() if stem not in named])
    tell_left_out(images, folders_in(images), "lay them, and their masks, beside the others")
    return [(one, there[stem][0]) for stem, (one, *_) in found.items()]


def _by_stem(folder: Place) -> dict[str, list[Place]]:
    found: dict[str, list[Place]] = {}
    for place in pictures_in(folder):
        found.setdefault(_stem(place), []).append(place)
    return found


def _stem(place: Place) -> str:
    return place.name.rpartition(".")[0]


def _tell_unread(images: Place) -> None:
    ends = suffixes()
    there = [p for p in images.iterdir() if not (unseen(p.name) or p.name.lower().endswith(ends)) and p.is_file()]
    unread = [path for path in (Path(images.name, p.name) for p in there) if path.suffix.lower() not in ASIDE]
    if told := told_unread(sorted(unread)):
        warnings.warn(f"{name(images)}: {told}", stacklevel=3)


def _tell_alone(masks: Place, alone: Sequence[Place]) -> None:
    """Say how many masks belong to no image that is there."""
    if alone:
        masks_have = "1 mask has" if len(alone) == 1 else f"{len(alone)} masks have"
        are = "is" if len(alone) == 1 else "are"
        warnings.warn(
            f"{name(masks)}: {masks_have} no image of the same name and {are} left out, for example {name(alone[0])}",
            stacklevel=3,
        )


def tell_left_out(base: Place, others: Sequence[Place], remedy: str) -> None:
    """Say how many images lie in folders that are not read."""
    some = ", ".join(printable(folder.name) for folder in others[:SHOWN])
    more = f" and {len(others) - SHOWN} other folders" if len(others) > SHOWN else ""
    places = [images_of(folder) or folder for folder in others]  # not the masks beside them
    _tell(base, [one for place in places for one in pictures_below(place)], f"in {some}{more}", remedy)


def tell_loose(base: Place, remedy: str) -> None:
    """Say how many images lie beside the folders of the parts."""
    _tell(base, pictures_in(base), "beside the folders of the parts", remedy)


def _tell(base: Place, found: Sequence[Place], where: str, remedy: str) -> None:
    if found:
        lie, are = ("1 image lies", "is") if len(found) == 1 else (f"{len(found)} images lie", "are")
        told = f"{name(base)}: {lie} {where} and {are} left out, for example {name(found[0])}; to use them, {remedy}"
        warnings.warn(told, stacklevel=4)


def no_mask(mask: Place, missing: int, count: int) -> str:
    """The message for images without masks."""
    return f"{name(mask)} is missing: {missing} of {count} images have no mask; add it, or take the image away"


def other_layout(root: Place, kind: str, wanted: str) -> str:
    """The message for a folder that is another set."""
    return f"{name(root)} is not laid out as {kind}: expected {wanted}"
