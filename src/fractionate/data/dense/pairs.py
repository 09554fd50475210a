"""Pairs of an image and its mask, read from files; what is wrong with them is said before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..._typing import Int
from ...pictures.heads import memory
from ...pictures.repeats import marks_of
from ..labelled import digest
from .reading import Place, check_palettes, name, other_size, pixels_of, sides_of, values_of

SHOWN = 5  # labels in a message
MANY = 199  # labels beyond it are taken for levels of grey where nothing names the classes; COCO-Stuff ends at 181
VOID = 255  # the label of a pixel that has none
WRONG = -1  # in a table of labels: no mask may hold this value
THREADS = 8
CHECKED = 2048  # pairs whose bytes are part of the digest
LOOKED = 64  # masks of a set too large to be kept that are looked at before training
KEPT, SHARE = 4 << 30, 0.25  # bytes that a set may take to be kept, and which part of the memory


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images and masks of one part of a set.

    Args:
        files: image and mask of each, on disk or in a zip file.
        classes: names, in the order of the labels.
        table: ``[256]`` the label of every value that a mask may hold, 255 for those without one, -1 where none may.
        colours: label of every colour, where masks are painted.
        root: of all files, for messages.

    Example:
        >>> Pairs((), ("road", "sky"), identity(2)).num_classes
        2
    """

    files: tuple[tuple[Place, Place], ...]
    classes: tuple[str, ...]
    table: Int[Tensor, " v"]
    colours: Mapping[tuple[int, int, int], int] = field(default_factory=dict)
    root: Place | None = None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def at(self, index: Sequence[int]) -> Pairs:
        """Some of them."""
        return replace(self, files=tuple(self.files[i] for i in index))

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """Image ``[3, h, w]`` uint8 and labels ``[h, w]`` uint8 of a pair.

        Raises:
            ValueError: a file that cannot be read, a mask of another size than its image, or with other labels.
        """
        image, mask = self.files[i]
        labels = self._labels(mask)
        pixels = pixels_of(image, mask, (labels.shape[0], labels.shape[1]))
        if pixels.shape[1:] != labels.shape:
            raise ValueError(other_size(mask, labels.shape, pixels.shape[1:]))
        return pixels, labels

    def size(self, i: int) -> tuple[int, int]:
        """Height and width of a pair, from the heads of its files.

        Raises:
            ValueError: they differ.
        """
        return sides_of(*self.files[i])

    def listing(self) -> str:
        """A digest of the names and sizes of all files, and of the contents of some of them, evenly spread."""
        step = -(-len(self.files) // CHECKED)
        marks = [
            (name(place), *marks_of(place, whole=i % step == 0)) for i, pair in enumerate(self.files) for place in pair
        ]
        return digest(marks, list(self.classes))

    def _labels(self, mask: Place) -> Tensor:
        values = values_of(mask, self.colours)
        if values.ndim == 3:
            return self._painted(mask, values)
        low, high = (int(v) for v in values.aminmax()) if values.numel() else (0, 0)
        if low >= 0 and high < len(self.table):
            labels = self.table[values]
            if int(labels.min()) > WRONG:
                return labels.to(torch.uint8)
        known = (self.table > WRONG).nonzero()[:, 0]
        wrong = values[~torch.isin(values, known)]
        raise ValueError(
            f"{name(mask)} holds the label {int(wrong[0])}, and labels are 0..{self.num_classes - 1} or those of void, "
            f"{_void(self.table)}; change the mask, or name all classes in classes.txt"
        )

    def _painted(self, mask: Place, values: Tensor) -> Tensor:
        if not self.colours:
            raise ValueError(
                f"{name(mask)} is painted in colours, and no table says which class each is: save masks with one "
                f"number per pixel, or put label_colors.txt with lines 'RED GREEN BLUE NAME' beside the images"
            )
        code = (values * torch.tensor([1 << 16, 1 << 8, 1])).sum(-1)
        table = {(r << 16) | (g << 8) | b: label for (r, g, b), label in self.colours.items()}
        found, place = code.unique(return_inverse=True)
        unknown = next((int(c) for c in found if int(c) not in table), None)
        if unknown is not None:
            colour = (unknown >> 16, unknown >> 8 & 255, unknown & 255)
            raise ValueError(
                f"{name(mask)} holds the colour {colour}, which label_colors.txt does not name; add it there"
            )
        return torch.tensor([table[int(c)] for c in found], dtype=torch.uint8)[place]


@dataclass(frozen=True, eq=False)
class Kept:
    """Pairs that were read once and stay in memory."""

    pairs: Pairs
    images: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.pairs.classes

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.images[i], self.masks[i]

    def size(self, i: int) -> tuple[int, int]:
        """Height and width of a pair."""
        height, width = self.masks[i].shape
        return height, width

    def listing(self) -> str:
        """As that of the files."""
        return self.pairs.listing()


def ready(pairs: Pairs, what: str) -> Pairs | Kept:
    """The pairs after a look at them: kept in memory if they are few, else read again whenever they are asked for.

    Of few ones every file is read. Of many the heads of all, and some masks.

    Args:
        pairs: from a layout.
        what: of the messages, such as ``"the training images of my/data"``.

    Raises:
        ValueError: there are none; as for a pair; no pixel of all the masks has a label; or their palettes differ.
    """
    if not len(pairs):
        raise ValueError(f"{what}: there are none; look at the folder")
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        sizes = list(pool.map(pairs.size, range(len(pairs))))
        needed = sum(4 * height * width for height, width in sizes)
        few = needed <= min(KEPT, SHARE * (memory() or KEPT))
        some = range(0, len(pairs), 1 if few else max(1, len(pairs) // LOOKED))
        if not pairs.colours:
            check_palettes([pairs.files[i][1] for i in some])
        if few:
            images, masks = zip(*pool.map(pairs.__getitem__, range(len(pairs))), strict=True)
            _check_labelled(masks, pairs, what)
            return Kept(pairs, images, masks)
        _check_labelled([mask for _, mask in pool.map(pairs.__getitem__, some)], pairs, what)
    return pairs


def _check_labelled(masks: Sequence[Tensor], pairs: Pairs, what: str) -> None:
    found = {int(label) for mask in masks for label in mask.unique()}
    if found == {VOID}:
        raise ValueError(
            f"{what}: no pixel of {len(masks)} masks has a label; the labels of this part were not given out"
        )
    if found == {0, VOID} and pairs.num_classes == 2:
        raise ValueError(
            f"{what}: {len(masks)} masks hold 0 and 255 alone, and 255 is void: number {pairs.classes[1]!r} 1, not 255"
        )


def identity(classes: int, void: Sequence[int] = (VOID,)) -> Int[Tensor, " v"]:
    """The table of masks that hold the labels themselves.

    Example:
        >>> identity(2)[[0, 1, 2, 255]].tolist()
        [0, 1, -1, 255]
    """
    return mapped({label: label for label in range(classes)}, void)


def mapped(labels: Mapping[int, int], void: Sequence[int] = (VOID,)) -> Int[Tensor, " v"]:
    """The table of masks whose values stand for labels."""
    table = torch.full((256,), WRONG, dtype=torch.int64)
    for value in void:
        table[value] = VOID
    for value, label in labels.items():
        table[value] = label
    return table


def largest_label(masks: Sequence[Place]) -> int:
    """The largest label that any mask holds, void apart; 0 where one is painted.

    Raises:
        ValueError: a mask that cannot be read, one label beyond 254, one label in all, or levels of grey.
    """
    found: set[int] = set()
    for mask in masks:
        values = values_of(mask)
        if values.ndim == 3:
            return 0  # painted: reading them says what is missing
        found |= set(values.unique().tolist())
    labels = found - {VOID}
    highest = max(labels, default=-1)
    if not 0 <= highest < VOID:
        raise ValueError(f"the largest label in {len(masks)} masks is {highest}; labels are 0..254, and 255 is void")
    if len(labels) == 1:
        held = " and 255, which is void" if VOID in found else ""
        raise ValueError(
            f"{len(masks)} masks hold one label alone, {highest}{held}: number the classes 0, 1, ..., a thing on its "
            f"background too, or name all classes in classes.txt"
        )
    if 2 * len(labels) < highest + 1:
        some = ", ".join(map(str, sorted(labels)[:SHOWN]))
        raise ValueError(
            f"{len(masks)} masks hold {len(labels)} labels up to {highest} ({some}, ...): number the classes without "
            f"gaps, or name all of them, those without a pixel too, in classes.txt"
        )
    if highest > MANY:
        raise ValueError(
            f"{len(masks)} masks hold {len(labels)} labels up to {highest}, as levels of grey do: smoothing, where "
            f"masks are made smaller, puts numbers between those of the classes; take the nearest pixel there, and "
            f"number the classes 0, 1, ...; if all these are classes, name them in classes.txt"
        )
    return highest


def _void(table: Tensor) -> str:
    return ", ".join(str(v) for v in (table == VOID).nonzero()[:, 0].tolist()) or "none"
