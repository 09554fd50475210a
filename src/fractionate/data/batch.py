"""What the training loop needs from data: a :class:`Source` of :class:`Batch`, and the parts of a batch."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .._typing import Float, Int

CHUNK = 4096  # images at a time
BORROWED = 2  # images in a part that would be empty: batch norm cannot work with one


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's worth of images.

    Args:
        images: ``[n, ch, h, w]`` float, normalised.
        target: ``[n]`` int64 classes, ``[n, c]`` soft labels, or ``[n, h, w]`` labels of a dense task.
        index: ``[n]`` position of every image in its set (what a table of teacher logits is read by).
        strong: ``[n, ch, h, w]`` the same images under a second, stronger augmentation, for two-view methods.
        variant: ``[n]`` which of the finitely many shifts and flips ``images`` shows, in ``0..variants - 1`` of its
            source; ``None`` where augmentation is anything else.
        whole: number of images of the step that this is a part of; ``None`` if it is all of it.
        share: this part's weight in the step's mean; 0 for images that are here only because a part cannot be empty.
    """

    images: Float[Tensor, "n ch h w"]
    target: Tensor
    index: Int[Tensor, " n"]
    strong: Float[Tensor, "n ch h w"] | None = None
    variant: Int[Tensor, " n"] | None = None
    whole: int | None = None
    share: float = 1.0

    def __len__(self) -> int:
        return self.images.shape[0]

    def at(self, rows: slice) -> Batch:
        """Some of the images, as a part of this step."""
        picked = {name: x[rows] for name, x in vars(self).items() if isinstance(x, Tensor)}
        count = len(picked["index"])
        return replace(self, **picked, whole=self.whole or len(self), share=self.share * count / len(self))


@runtime_checkable
class Source(Protocol):
    """Anything with batches: images resident on a device, a folder of large images, a dense set.

    ``batches(epoch)`` must return the same batches whenever it is called with the same epoch (counted from 1): training
    that resumes at epoch 7 then sees what an uninterrupted one would have seen, and no sampler state is kept.
    """

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        ...

    def __len__(self) -> int:
        """Batches per epoch."""
        ...

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch."""
        ...


@dataclass(frozen=True)
class Normalization:
    """Per-channel mean and standard deviation of pixel values in 0..1.

    Args:
        mean: one number per channel.
        std: one number per channel, above 0.

    Example:
        >>> import torch
        >>> black_and_white = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
        >>> Normalization.of(black_and_white)
        Normalization(mean=(0.5,), std=(0.5,))
        >>> Normalization.of(black_and_white)(black_and_white).flatten().tolist()
        [-1.0, 1.0]
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or any(s <= 0 for s in self.std):
            raise ValueError(
                f"Normalization: mean and std need one number per channel and std > 0, got "
                f"mean={self.mean}, std={self.std}"
            )

    @classmethod
    def of(cls, images: Tensor) -> Normalization:
        """Mean and standard deviation of ``[n, ch, h, w]`` uint8 images, per channel, from their histograms."""
        count = torch.zeros(images.shape[1], 256, dtype=torch.int64, device=images.device)
        for part in images.split(CHUNK):  # a copy of a channel of one part is all the memory that this takes
            count += torch.stack([torch.bincount(x.reshape(-1), minlength=256) for x in part.unbind(1)])
        values = torch.arange(256, dtype=torch.float64, device=images.device) / 255
        share = count.double() / count.sum(1, keepdim=True)
        mean = (share * values).sum(1)
        variance = (share * (values - mean[:, None]) ** 2).sum(1)
        return cls(tuple(mean.tolist()), tuple(variance.sqrt().tolist()))

    def __call__(self, images: Tensor) -> Float[Tensor, "n ch h w"]:
        """``[n, ch, h, w]`` uint8 0..255 -> float32 (x / 255 - mean) / std; the order in memory stays."""
        scale, shift = _scale_and_shift(self, images.device)
        pixels = images.permute(0, 2, 3, 1)
        if not pixels.is_contiguous():
            return images * scale[:, None, None] - shift[:, None, None]
        n, height, width, _ = pixels.shape  # a whole line at a time: several times faster on a CPU
        lines = pixels.reshape(n * height, -1).float().mul_(scale.repeat(width)).sub_(shift.repeat(width))
        return lines.reshape(pixels.shape).permute(0, 3, 1, 2)


@functools.cache
def _scale_and_shift(normalization: Normalization, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sent to a device once, so that no step waits for it."""
    scale = torch.tensor([1 / (255 * s) for s in normalization.std], device=device)
    shift = torch.tensor([m / s for m, s in zip(normalization.mean, normalization.std, strict=True)], device=device)
    return scale, shift


@runtime_checkable
class Divisible(Protocol):
    """A :class:`Source` that makes or loads one process's part of every batch without the others' images."""

    def parts(self, epoch: int, index: int, count: int) -> Iterator[Batch]:
        """As :func:`part` of every batch of the epoch."""
        ...


def shares(source: Source, epoch: int, index: int = 0, count: int = 1) -> Iterator[Batch]:
    """One process's part of every batch of an epoch; together the parts are the batches of one process.

    Args:
        source: of whole batches.
        epoch: from 1.
        index: which part.
        count: number of parts; their sizes differ by one image at most. A part that would be empty, of a batch with
            fewer images than parts, holds borrowed images with a share of 0.

    Example:
        >>> import torch
        >>> from fractionate.data import Normalization, SmallImages
        >>> images = torch.zeros(10, 1, 2, 2, dtype=torch.uint8)
        >>> data = SmallImages(images, torch.arange(10), 10, Normalization((0.5,), (0.5,)), batch_size=6, shuffle=False)
        >>> [(batch.target.tolist(), batch.whole, batch.share) for batch in shares(data, 1, index=1, count=2)]
        [([3, 4, 5], 6, 0.5), ([8, 9], 4, 0.5)]
    """
    if count == 1:
        return source.batches(epoch)
    if isinstance(source, Divisible):
        return source.parts(epoch, index, count)
    return (part(batch, index, count) for batch in source.batches(epoch))


def part(batch: Batch, index: int, count: int) -> Batch:
    """Part ``index`` of ``count`` of a batch; borrowed images with a share of 0 if there are too few."""
    rows = bounds(len(batch), index, count)
    if rows.start == rows.stop:
        return replace(batch.at(slice(0, BORROWED)), share=0.0)
    return batch.at(rows)


def pieces(batch: Batch, count: int) -> list[Batch]:
    """A batch in ``count`` parts that follow each other, fewer if it has not as many images."""
    count = max(1, min(count, len(batch)))
    return [batch] if count == 1 else [batch.at(bounds(len(batch), i, count)) for i in range(count)]


def bounds(n: int, index: int, count: int) -> slice:
    """Where part ``index`` of ``count`` lies among ``n`` images.

    Example:
        >>> [bounds(10, i, 4) for i in range(4)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 7, None), slice(7, 10, None)]
    """
    return slice(index * n // count, (index + 1) * n // count)


def sent(x: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on ``device``; through pinned memory, so that the CPU does not wait for a GPU."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)
