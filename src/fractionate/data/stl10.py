"""STL-10 from its binary files, which are mapped into memory, not read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from .._choices import choose
from .._files import expanded
from .._typing import Int
from .labelled import PARTS, Labelled, Part, part_of, resized
from .lists import lines_of, located

UNLABELLED = "unlabeled_X.bin"
SIDE = 96
PIXELS = 3 * SIDE * SIDE
VALIDATION_SHARE = 0.1  # 500 of the 5,000 training images


def stl10(root: Path, part: Part = "train", size: int | None = None) -> Labelled:
    """The labelled images in the official order; the 100,000 without labels are not touched.

    A file holds its images column by column: one that is read line by line is mirrored at its diagonal, and nothing
    says so.

    Args:
        root: ``stl10_binary``, or the folder that holds it.
        part: ``"validation"`` is a tenth of every class of the training images, always the same ones.
        size: side in pixels; ``None`` leaves 96.

    Raises:
        ValueError: files that are missing or of another length, or labels out of range.

    Source: Coates, Lee and Ng, An analysis of single-layer networks in unsupervised feature learning, AISTATS 2011.
    """
    choose("part of the images", part, PARTS)
    name = "test" if part == "test" else "train"
    here = _here(root, f"{name}_X.bin", f"{name}_y.bin", "class_names.txt")
    classes = tuple(lines_of(here / "class_names.txt"))
    images, target = _mapped(here / f"{name}_X.bin"), _labels(here / f"{name}_y.bin", len(classes))
    if len(images) != len(target):
        raise ValueError(f"{here}: {name}_X.bin holds {len(images)} images, {name}_y.bin {len(target)} labels")
    found = Labelled(images, target, len(classes), classes)
    found = found if part == "test" else part_of(found, part, VALIDATION_SHARE)
    return Labelled(resized(found.images, size or SIDE), found.target, len(classes), classes)


def stl10_unlabelled(root: Path, size: int | None = None) -> Tensor:
    """The images without labels, ``[n, 3, size, size]`` uint8: at 96 pixels a view of the file, 2.8 GB on disk.

    Raises:
        ValueError: the file is missing or of another length.
    """
    return resized(_mapped(_here(root, UNLABELLED) / UNLABELLED), size or SIDE)


@dataclass(frozen=True, eq=False)
class Stl10Pictures:
    """The images without labels one by one, as photos are; goes to worker processes as the name of its file.

    Args:
        root: as of :func:`stl10`.
    """

    root: Path
    _map: list[Tensor] = field(default_factory=list, repr=False)

    @property
    def paths(self) -> Sequence[Path]:
        """The file that holds each."""
        return [_here(self.root, UNLABELLED) / UNLABELLED] * len(self)

    def __len__(self) -> int:
        return len(self._images())

    def __getstate__(self) -> dict[str, object]:
        return {"root": self.root, "_map": []}

    def __getitem__(self, i: int) -> Tensor:
        """``[3, 96, 96]`` uint8."""
        return self._images()[i].contiguous()

    def _images(self) -> Tensor:
        if not self._map:
            self._map.append(stl10_unlabelled(self.root))
        return self._map[0]


def _here(root: Path, *needs: str) -> Path:
    return located(expanded(root), ("stl10_binary",), needs, "STL-10")


def _mapped(file: Path) -> Tensor:
    """``[n, 3, 96, 96]``, lines in the place of columns."""
    count, rest = divmod(file.stat().st_size, PIXELS)
    if rest or not count:
        raise ValueError(f"{file} has {file.stat().st_size} bytes, expected a multiple of {PIXELS}; unpack it again")
    data = torch.from_file(str(file), shared=False, size=count * PIXELS, dtype=torch.uint8)
    return data.view(count, 3, SIDE, SIDE).transpose(2, 3)


def _labels(file: Path, classes: int) -> Int[Tensor, " n"]:
    labels = torch.frombuffer(bytearray(file.read_bytes()) or bytearray(1), dtype=torch.uint8).long()
    low, high = (int(x) for x in labels.aminmax())
    if low < 1 or high > classes:
        raise ValueError(f"{file} holds labels {low}..{high}, expected 1..{classes}; unpack it again")
    return labels - 1
