"""Any folder of images, one folder per class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from .._choices import choose
from .images import Progress, read_images, short_side
from .labelled import PARTS, Labelled, Part, held_out

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
VALIDATION = ("val", "valid", "validation")  # names that such a folder has
TEST_SHARE, VALIDATION_SHARE = 1 / 5, 1 / 10
TEST_SEED, VALIDATION_SEED = 0, 1


@dataclass(frozen=True)
class _Files:
    """Files of one part with the number of their class."""

    paths: list[Path]
    labels: list[int]

    def where(self, chosen: torch.Tensor) -> _Files:
        index = chosen.nonzero()[:, 0].tolist()
        return _Files([self.paths[i] for i in index], [self.labels[i] for i in index])

    def cut(self, share: float, seed: int) -> tuple[_Files, _Files]:
        """A share of every class, and the rest."""
        chosen = held_out(torch.tensor(self.labels), share, seed)
        return self.where(chosen), self.where(~chosen)


def folder(
    root: Path,
    part: Part = "train",
    size: int | None = None,
    *,
    skip_broken: bool = False,
    progress: Progress | None = None,
) -> Labelled:
    """Images of a folder, read into memory at one size; the class is the name of the folder they lie in.

    Either ``root/train/CLASS/...`` with ``root/test/CLASS/...`` or ``root/val/CLASS/...``, or ``root/CLASS/...`` alone.
    Then a fifth of every class is the test part, always the same files. Where there is no validation folder besides the
    test folder, a tenth of every class of the training images is the validation part.

    Args:
        root: the folder.
        part: which images.
        size: the shorter side is resized to it, then the centre is cut out; ``None`` takes the shorter side of the
            first training image.
        skip_broken: leave out files that cannot be read, with a warning that counts them.
        progress: told after every image how many of how many are read.

    Raises:
        ValueError: no such folder, fewer than two classes, a class without images, an unreadable file, a link that
            leads out of the folder, or more images than fit into memory.
        ImportError: Pillow is not installed.
    """
    choose("part of the images", part, PARTS)
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    _need_pillow()
    classes, train, files = _layout(root, part)
    target = torch.tensor(files.labels, dtype=torch.int64)
    _check_counts(target, classes, f"the {part} part of {root}")
    size = size or short_side(train.paths)
    images, kept = read_images(files.paths, size, skip_broken=skip_broken, progress=progress)
    target = target[kept]
    _check_counts(target, classes, f"the readable {part} part of {root}")
    return Labelled(images, target, len(classes), classes)


def _layout(root: Path, part: Part) -> tuple[tuple[str, ...], _Files, _Files]:
    """Class names, all training files, and the files of the part."""
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}; give the folder that holds one folder of images per class")
    split = root / "train" if (root / "train").is_dir() else root
    validation = next((root / name for name in VALIDATION if (root / name).is_dir()), None)
    test = root / "test" if (root / "test").is_dir() else validation
    if split == root and test is not None:
        raise ValueError(f"{root} has {test.name}/ but no train/; name the folder of the training images train")
    classes = _classes(split)
    train = _files(split, classes)
    if test is None:
        held_for_test, train = train.cut(TEST_SHARE, TEST_SEED)
    else:
        held_for_test = _files(test, classes)
    if validation is None or validation == test:
        held, rest = train.cut(VALIDATION_SHARE, VALIDATION_SEED)
    else:
        held, rest = _files(validation, classes), train
    parts = {"train": train, "train-without-validation": rest, "validation": held, "test": held_for_test}
    return classes, train, parts[part]


def _classes(split: Path) -> tuple[str, ...]:
    names = sorted(entry.name for entry in os.scandir(split) if entry.is_dir() and _visible(entry.name))
    if len(names) < 2:
        found = f"only the class {names[0]!r}" if names else "no folder"
        raise ValueError(
            f"{split} holds {found}: at least two classes are needed, each a folder of images "
            f"({split.name}/CLASS/*.jpg)"
        )
    return tuple(names)


def _files(split: Path, classes: tuple[str, ...]) -> _Files:
    """Every image file of every class, sorted by class and name."""
    strange = sorted({e.name for e in os.scandir(split) if e.is_dir() and _visible(e.name)} - set(classes))
    if strange:
        raise ValueError(f"{split} holds {strange[0]!r}, which is no class of the training images")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = list(_walk(split / name, split.resolve())) if (split / name).is_dir() else []
        if not found:
            raise ValueError(f"{split / name} holds no image; images end with {', '.join(SUFFIXES)}")
        paths += found
        labels += [label] * len(found)
    return _Files(paths, labels)


def _walk(here: Path, root: Path) -> Iterator[Path]:
    """Image files below a folder, in the order of their names; nothing outside of ``root``."""
    if here.is_symlink():
        raise ValueError(f"{here} is a link to a folder; put the folder itself there")
    for entry in sorted(os.scandir(here), key=lambda e: e.name):
        path = here / entry.name
        if not _visible(entry.name):
            continue
        if entry.is_dir():
            yield from _walk(path, root)
        elif entry.name.lower().endswith(SUFFIXES) and (entry.is_file() or entry.is_symlink()):  # no pipe, no socket
            if entry.is_symlink() and not path.resolve().is_relative_to(root):
                raise ValueError(f"{path} is a link that leads out of {root}; put the file itself there")
            yield path


def _check_counts(target: torch.Tensor, classes: tuple[str, ...], where: str) -> None:
    count = torch.bincount(target, minlength=len(classes))
    empty = [name for name, n in zip(classes, count.tolist(), strict=True) if not n]
    if empty:
        raise ValueError(f"{where} holds no image of class {empty[0]!r}; give every class more images")


def _need_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise ImportError("reading images needs Pillow: pip install pillow") from error


def _visible(name: str) -> bool:
    return not name.startswith((".", "__"))
