"""What lies in a folder of images, in seconds: lists of files and the heads of a few, nothing is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .._files import expanded
from .folder import default_size, layout, need_pillow
from .images import memory, side_of
from .layout import told_unread

SAMPLES = 64  # pictures whose heads are read
NEEDED = 2  # copies of all images while they are loaded: the training set makes one with borders


@dataclass(frozen=True)
class Survey:
    """Facts about a folder of images, before anything of it is read.

    Args:
        root: the folder.
        classes: names of the classes.
        train: training images of every class.
        test: images of the test part.
        sides: smallest, middle and largest shorter side of the pictures that were looked at, in pixels.
        sampled: how many were looked at.
        unreadable: those of them that are damaged.
        size: at which size the pictures will be taken, in pixels.
        nbytes: memory that loading them needs.
        available: memory that this process may use; ``None`` where the system does not say.
        left_out: in words, which files are not read; empty where there is none.
    """

    root: Path
    classes: tuple[str, ...]
    train: tuple[int, ...]
    test: int
    sides: tuple[int, int, int]
    sampled: int
    unreadable: tuple[Path, ...]
    size: int
    nbytes: int
    available: int | None
    left_out: str

    @property
    def count(self) -> int:
        """All pictures."""
        return sum(self.train) + self.test

    @property
    def fits(self) -> bool:
        """Whether the pictures can be loaded at this size."""
        return self.available is None or self.nbytes <= self.available

    def __str__(self) -> str:
        low, _, high = self.sides
        span = f"{low} to {high}" if low < high else f"{low}"
        return (
            f"{self.count:,} pictures of {len(self.classes)} classes ({sum(self.train):,} to train on, {self.test:,} "
            f"to test), {span} pixels, taken at {self.size} x {self.size}: {self.nbytes / 1e9:.2g} GB"
        )


def survey(root: Path, size: int | None = None, *, largest: int | None = None, samples: int = SAMPLES) -> Survey:
    """Look at a folder of images without reading it.

    Args:
        root: the folder, as that of :func:`folder`.
        size: at which the pictures shall be taken; ``None`` takes the default size.
        largest: bounds the default size: what the networks are made for.
        samples: how many pictures, evenly spread, have their heads read.

    Raises:
        ValueError: as :func:`folder`, but for pictures that cannot be read: those are counted, unless all are such.
        ImportError: Pillow is not installed.
    """
    need_pillow()
    root = expanded(root)
    found = layout(root)
    train, test = found.parts["train"], found.parts["test"]
    paths = [*train.paths, *test.paths]
    sides, unreadable = _sides(paths, samples)
    chosen = size or min(default_size(train.paths), largest or max(sides))
    return Survey(
        root=root,
        classes=found.classes,
        train=tuple(torch.bincount(torch.tensor(train.labels), minlength=len(found.classes)).tolist()),
        test=len(test.paths),
        sides=(sides[0], sides[len(sides) // 2], sides[-1]),
        sampled=len(sides) + len(unreadable),
        unreadable=tuple(unreadable),
        size=chosen,
        nbytes=NEEDED * 3 * chosen**2 * len(paths),
        available=memory(),
        left_out=told_unread(found.unread),
    )


def _sides(paths: Sequence[Path], samples: int) -> tuple[list[int], list[Path]]:
    """Shorter sides of some pictures, sorted; and those that cannot be opened."""
    step = max(1, len(paths) // samples)
    sides: Counter[int] = Counter()
    unreadable: list[Path] = []
    for path in paths[::step]:
        try:
            sides[side_of(path)] += 1
        except ValueError:
            unreadable.append(path)
    if not sides:
        raise ValueError(f"none of {len(unreadable)} pictures that were looked at can be read, as {unreadable[0]}")
    return sorted(sides.elements()), unreadable
