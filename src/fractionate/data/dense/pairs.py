"""Pairs of an image and its mask, read from files; what is wrong with them is said before anything is trained."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..._typing import Int
from ...pictures.heads import check_machine, formats, memory, printable
from ..images import upright
from ..labelled import digest

if TYPE_CHECKING:
    from PIL import Image

Place = Path | zipfile.Path
VOID = 255  # the label of a pixel that has none
WRONG = -1  # in a table of labels: no mask may hold this value
THREADS = 8
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
        pixels, labels = read_with(image, _rgb), self._labels(mask)
        if pixels.shape[1:] != labels.shape:
            raise ValueError(_other_size(mask, labels.shape, pixels.shape[1:]))
        return pixels, labels

    def size(self, i: int) -> tuple[int, int]:
        """Height and width of a pair, from the heads of its files.

        Raises:
            ValueError: they differ.
        """
        image, mask = (read_with(place, _size) for place in self.files[i])
        if image != mask:
            raise ValueError(_other_size(self.files[i][1], mask, image))
        return image

    def listing(self) -> str:
        """A digest of the names and sizes of all files."""
        return digest([(name(place), _bytes(place)) for pair in self.files for place in pair], list(self.classes))

    def _labels(self, mask: Place) -> Tensor:
        values = read_with(mask, _values)
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
        ValueError: there are none; as for a pair; or no pixel of all the masks has a label.
    """
    if not len(pairs):
        raise ValueError(f"{what}: there are none; look at the folder")
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        sizes = list(pool.map(pairs.size, range(len(pairs))))
        needed = sum(4 * height * width for height, width in sizes)
        if needed <= min(KEPT, SHARE * (memory() or KEPT)):
            images, masks = zip(*pool.map(pairs.__getitem__, range(len(pairs))), strict=True)
            _check_labelled(masks, what)
            return Kept(pairs, images, masks)
        some = range(0, len(pairs), max(1, len(pairs) // LOOKED))
        _check_labelled([mask for _, mask in pool.map(pairs.__getitem__, some)], what)
    return pairs


def _check_labelled(masks: Sequence[Tensor], what: str) -> None:
    if all(int(mask.min()) == VOID for mask in masks if mask.numel()):
        raise ValueError(
            f"{what}: no pixel of {len(masks)} masks has a label; the labels of this part were not given out"
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
        ValueError: a mask that cannot be read, or one label beyond 254.
    """
    highest = -1
    for mask in masks:
        values = read_with(mask, _values)
        if values.ndim == 3:
            return 0  # painted: reading them says what is missing
        highest = max(highest, int(values[values != VOID].max()) if bool((values != VOID).any()) else -1)
    if not 0 <= highest < VOID:
        raise ValueError(f"the largest label in {len(masks)} masks is {highest}; labels are 0..254, and 255 is void")
    return highest


def name(place: Place) -> str:
    """A file's name for messages, with the folder that it lies in."""
    parts = str(place).replace(os.sep, "/").split("/")
    return printable("/".join(parts[-2:]))


def _bytes(place: Place) -> int:
    return place.stat().st_size if isinstance(place, Path) else place.root.getinfo(place.at).file_size


def _other_size(mask: Place, found: Sequence[int], wanted: Sequence[int]) -> str:
    return (
        f"{name(mask)} is {found[0]} x {found[1]} pixels and its image {wanted[0]} x {wanted[1]}; a mask needs the "
        f"size of its image"
    )


def _void(table: Tensor) -> str:
    return ", ".join(str(v) for v in (table == VOID).nonzero()[:, 0].tolist()) or "none"


def read_with(place: Place, take: Any) -> Any:
    """What ``take`` makes of an opened picture.

    Raises:
        ValueError: it cannot be read.
    """
    from PIL import Image

    try:
        with place.open("rb") as file, Image.open(file, formats=formats()) as image:
            return take(image)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file raises nearly anything
        if isinstance(place, Path):
            check_machine(error, place)
        raise ValueError(f"{name(place)} cannot be read: {printable(error)}") from error


def _size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return height, width


def _rgb(image: Image.Image) -> Tensor:
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"mode {image.mode} has more than 8 bits per channel")
    plain = upright(image).convert("RGB")
    width, height = plain.size
    return torch.frombuffer(bytearray(plain.tobytes()), dtype=torch.uint8).reshape(height, width, 3).permute(2, 0, 1)


def _values(image: Image.Image) -> Tensor:
    """``[h, w]`` int64 as they stand in the file, or ``[h, w, 3]`` of a painted one."""
    import numpy as np

    if image.mode in ("RGB", "RGBA"):
        return torch.from_numpy(np.asarray(image.convert("RGB")).astype(np.int64))
    if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise ValueError(f"a mask has one number per pixel, and mode {image.mode} is something else")
    return torch.from_numpy(np.asarray(image).astype(np.int64))
