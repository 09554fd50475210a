"""Batches of a dense set: crops that are pure functions of (seed, epoch, image), and whole images to evaluate on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..._typing import Float, Int
from ..batch import BORROWED, Batch, Normalization, bounds
from .pairs import VOID, Kept, Pairs

IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # what pretrained backbones were shown
GREY = (0.299, 0.587, 0.114)
THREADS = 8
AT_ONCE = 64 << 20  # values of a network's input that are evaluated at once
PRIME = 1_000_003


@dataclass(frozen=True)
class Crop:
    """How a training image is shown.

    Args:
        size: height and width; ``None`` shows the whole image.
        scale: smallest and largest factor by which it is enlarged first.
        scale_step: distance of the factors that are drawn; 0 = any in between.
        flip: mirror half of the images.
        colour: largest relative change of brightness, contrast and saturation.
    """

    size: tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    scale_step: float = 0.0
    flip: bool = False
    colour: float = 0.0


def cropped(
    image: Tensor, mask: Tensor, crop: Crop, normalization: Normalization, seed: int
) -> tuple[Float[Tensor, "3 y x"], Int[Tensor, "y x"]]:
    """One image and its labels as a training step sees them; what lies beyond the image is its mean, without a label.

    Args:
        image: ``[3, h, w]`` uint8.
        mask: ``[h, w]`` uint8 labels.
        crop: what is done.
        normalization: applied last.
        seed: of everything that chance decides.

    Example:
        >>> pixels, labels = torch.full((3, 4, 6), 255, dtype=torch.uint8), torch.zeros(4, 6, dtype=torch.uint8)
        >>> x, y = cropped(pixels, labels, Crop((8, 6)), Normalization.none(3), seed=0)
        >>> tuple(x.shape), (y == 255).sum().item(), x[:, y == 0].min().item()
        ((3, 8, 6), 24, 1.0)
    """
    drawn = torch.rand(8, generator=torch.Generator().manual_seed(seed)).tolist()
    factor = _factor(crop, drawn[0])
    size = crop.size or (image.shape[1], image.shape[2])
    places, inside = [], []
    for side, (length, wanted) in enumerate(zip(image.shape[1:], size, strict=True)):
        scaled = max(1, round(length * factor))
        free = scaled - wanted
        start = int(drawn[1 + side] * (free + 1)) if free > 0 else 0
        at = torch.arange(wanted) + start
        if side and crop.flip and drawn[3] < 0.5:
            at = at.flip(0)
        places.append((at + 0.5) * (length / scaled) - 0.5)
        inside.append(at < scaled)
    there = inside[0][:, None] & inside[1][None]
    pixels = coloured(_bilinear(image, places) / 255, crop.colour, drawn[4:])
    labels = mask[_nearest(places[0], image.shape[1])][:, _nearest(places[1], image.shape[2])].long()
    mean, std = (torch.tensor(v)[:, None, None] for v in (normalization.mean, normalization.std))
    pixels = torch.where(there, (pixels - mean) / std, torch.zeros(()))
    return pixels, torch.where(there, labels, torch.tensor(VOID))


def _factor(crop: Crop, drawn: float) -> float:
    low, high = crop.scale
    if not crop.scale_step:
        return low + (high - low) * drawn
    count = int((high - low) / crop.scale_step + 1e-9) + 1
    return low + crop.scale_step * int(drawn * count)


def _bilinear(image: Tensor, places: Sequence[Tensor]) -> Tensor:
    """``[3, y, x]`` float32: along the rows, then along the columns; positions beyond the edge are those at it."""
    found = image
    for dim, at in enumerate(places, start=1):
        last = image.shape[dim] - 1
        at = at.clamp(0, last)
        low = at.floor().long()
        share = (at - low).view([-1 if d == dim else 1 for d in range(3)])
        first = found.index_select(dim, low).float()
        found = first + share * (found.index_select(dim, (low + 1).clamp(max=last)).float() - first)
    return found


def _nearest(at: Tensor, length: int) -> Tensor:
    return (at + 0.5).floor().long().clamp(0, length - 1)


def coloured(pixels: Tensor, most: float, drawn: Sequence[float]) -> Tensor:
    """Brightness, contrast and saturation, each changed by a factor in 1 - most .. 1 + most."""
    if not most:
        return pixels
    brightness, contrast, saturation = (1 + most * (2 * d - 1) for d in drawn[:3])
    pixels = (pixels * brightness).clamp(0, 1)
    grey = (pixels * torch.tensor(GREY)[:, None, None]).sum(0, keepdim=True)
    pixels = (contrast * pixels + (1 - contrast) * grey.mean()).clamp(0, 1)
    grey = (pixels * torch.tensor(GREY)[:, None, None]).sum(0, keepdim=True)
    return (saturation * pixels + (1 - saturation) * grey).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class DenseImages:
    """A :class:`fractionate.data.Source` of images with a class for every pixel.

    Every image of a batch is a pure function of ``(seed, epoch, image)``: a resumed run and several processes see the
    same pixels, and each process makes only its own.

    Args:
        pairs: images and masks, kept in memory or read when they are asked for.
        classes: their names, in the order of the labels.
        batch_size: images per batch.
        crop: how training images are shown; ``None`` shows them whole and in order, to evaluate on.
        multiple: whole images are padded to sides that are multiples of this.
        passes: how often an epoch shows every image.
        seed: of the order and the crops.
        device: where batches are put.
        normalization: of the pixels.

    Whole images of different sizes come in batches of one.
    """

    pairs: Pairs | Kept
    classes: tuple[str, ...]
    batch_size: int
    crop: Crop | None = None
    multiple: int = 1
    passes: int = 1
    seed: int = 0
    device: torch.device | str = "cpu"
    normalization: Normalization = IMAGENET

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.multiple < 1 or self.passes < 1:
            raise ValueError(
                f"DenseImages: batch_size, multiple and passes must be at least 1, got {self.batch_size}, "
                f"{self.multiple} and {self.passes}"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.pairs)

    @property
    def variants(self) -> None:
        """Not counted."""

    def __len__(self) -> int:
        return -(-self.count * self.passes // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number ``start`` on; those before are not read."""
        return self.parts(epoch, 0, 1, start)

    def parts(self, epoch: int, index: int, count: int, start: int = 0) -> Iterator[Batch]:
        """Part ``index`` of ``count`` of every batch, the same images as in the whole batches."""
        order = self._order(epoch)
        wanted = [self._part(order, n, index, count) for n in range(start, len(self))]
        kept = isinstance(self.pairs, Kept)
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:

            def begun(rows: list[tuple[int, int]]) -> Iterator[tuple[Tensor, Tensor]]:
                made = (self._image(epoch, *at) for at in rows)
                return made if kept else pool.map(lambda at: self._image(epoch, *at), rows)

            ahead = [begun(rows) for rows, *_ in wanted[:1]]
            for i, (rows, whole, share) in enumerate(wanted):
                made = list(ahead.pop())
                ahead = [begun(rows) for rows, *_ in wanted[i + 1 : i + 2]]  # files are read meanwhile
                batch = self._stacked(made, rows)
                yield batch if count == 1 else replace(batch, whole=whole, share=share)

    def _part(
        self, order: list[tuple[int, int]], number: int, index: int, count: int
    ) -> tuple[list[tuple[int, int]], int, float]:
        """Positions and images of one process, the size of the whole batch, and what the part counts for."""
        rows = order[number * self.batch_size : (number + 1) * self.batch_size]
        own = rows[bounds(len(rows), index, count)]
        return own or rows[:BORROWED], len(rows), len(own) / len(rows)

    def _order(self, epoch: int) -> list[tuple[int, int]]:
        """Position in the epoch and number of every image."""
        if self.crop is None:
            return list(enumerate(list(range(self.count)) * self.passes))
        generator = torch.Generator().manual_seed(self.seed * PRIME + epoch)
        orders = [torch.randperm(self.count, generator=generator) for _ in range(self.passes)]
        return list(enumerate(torch.cat(orders).tolist()))

    def _image(self, epoch: int, position: int, i: int) -> tuple[Tensor, Tensor]:
        image, mask = self.pairs[i]
        if self.crop is not None:
            turn = position // self.count  # which of the passes, so that each shows another crop
            seed = ((self.seed * PRIME + epoch) * PRIME + i * self.passes + turn) % 2**63
            pixels, labels = cropped(image, mask, self.crop, self.normalization, seed)
            return (pixels, labels) if self.crop.size else self._padded(pixels, labels)
        return self._padded(self.normalization(image[None])[0], mask.long())

    def _padded(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        height, width = (-(-n // self.multiple) * self.multiple for n in labels.shape)
        edge = (0, width - labels.shape[1], 0, height - labels.shape[0])
        pad = torch.nn.functional.pad
        return pad(pixels, edge), pad(labels, edge, value=VOID)

    def _stacked(self, made: list[tuple[Tensor, Tensor]], rows: list[tuple[int, int]]) -> Batch:
        if len({labels.shape for _, labels in made}) > 1:
            raise ValueError(
                "these images have several sizes, which make no batch: give crop=[HEIGHT, WIDTH] (data.crop), or "
                "batches of one image"
            )
        images = torch.stack([pixels for pixels, _ in made]).contiguous(memory_format=torch.channels_last)
        labels = torch.stack([labels for _, labels in made])
        index = torch.tensor([i for _, i in rows])
        to = [x.to(self.device) for x in (images, labels, index)]
        return Batch(to[0], to[1], to[2], normalization=self.normalization)

    def fingerprint(self) -> str:
        """A digest of the images and masks, or of their names and sizes where they are not kept, and of the classes."""
        found = hashlib.sha256(repr((self.pairs.listing(), self.classes, self.normalization)).encode())
        if isinstance(self.pairs, Kept):
            for tensor in (*self.pairs.images, *self.pairs.masks):
                found.update(tensor.contiguous().numpy().tobytes())
        return found.hexdigest()

    @cached_property
    def sizes(self) -> set[tuple[int, int]]:
        """The sizes of whole images after padding."""
        found = (self.pairs.size(i) for i in range(self.count))
        return {(-(-h // self.multiple) * self.multiple, -(-w // self.multiple) * self.multiple) for h, w in found}


def whole(images: DenseImages) -> DenseImages:
    """The same images, as many at once as have one size and take no more room than :data:`AT_ONCE`."""
    sizes = images.sizes
    (height, width), *more = sizes
    return replace(images, batch_size=1 if more else min(images.count, max(1, AT_ONCE // (64 * height * width))))
