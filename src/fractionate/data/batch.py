"""One step's images: a :class:`Batch`, its parts, and how its pixels are normalised."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .._choices import check_scale
from .._typing import Bool, Float, Int

CHUNK = 4096  # images at a time
BORROWED = 2  # images in a part that would be empty: batch norm cannot work with one


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's worth of images.

    Args:
        images: ``[n, ch, h, w]`` float: pixels of 0..1 after ``normalization``.
        target: ``[n]`` int64 classes, ``[n, c]`` soft labels, or ``[n, h, w]`` labels of a dense task.
        index: ``[n]`` position of every image in its set (what a table of teacher logits is read by).
        strong: ``[n, ch, h, w]`` the same images under a second, stronger augmentation, for two-view methods.
        variant: ``[n]`` which of the finitely many shifts and flips ``images`` shows, in ``0..variants - 1`` of its
            source; ``None`` where augmentation is anything else.
        whole: number of images of the step that this is a part of; ``None`` if it is all of it.
        share: this part's weight in the step's mean; 0 for images that are here only because a part cannot be empty.
        normalization: what was done to the pixels of ``images`` and ``strong``; ``None`` where nobody said.
        labelled: how many images of the whole step have a label; ``None``: all of them. The ``target`` of the others is
            -1, or zeros where labels are soft.
    """

    images: Float[Tensor, "n ch h w"]
    target: Tensor
    index: Int[Tensor, " n"]
    strong: Float[Tensor, "n ch h w"] | None = None
    variant: Int[Tensor, " n"] | None = None
    whole: int | None = None
    share: float = 1.0
    normalization: Normalization | None = None
    labelled: int | None = None

    def __len__(self) -> int:
        return self.images.shape[0]

    def at(self, rows: slice) -> Batch:
        """Some of the images, as a part of this step."""
        picked: dict[str, Any] = {name: x[rows] for name, x in vars(self).items() if isinstance(x, Tensor)}
        count = len(picked["index"])
        return replace(self, **picked, whole=self.whole or len(self), share=self.share * count / len(self))

    def seen_by(self, wanted: Normalization | None) -> Batch:
        """The same images as a network wants them normalised; this batch itself where nothing is to be done.

        One factor and one summand per channel: ``(x * std + mean - wanted.mean) / wanted.std``.

        Args:
            wanted: the network's own mean and standard deviation; ``None`` takes the images as they are.

        Raises:
            ValueError: nobody said how the images were normalised.

        Example:
            >>> pixels = Batch(torch.full((1, 1, 2, 2), 0.75), torch.tensor([0]), torch.tensor([0]),
            ...                normalization=Normalization.none(1))
            >>> pixels.seen_by(Normalization((0.5,), (0.25,))).images[0, 0, 0, 0].item()
            1.0
        """
        have = self.normalization
        if wanted is None or wanted == have:
            return self
        if have is None:
            raise ValueError(
                "Batch.seen_by: it is not known how these images were normalised; give the batch its normalization "
                "(Normalization.none(channels) for pixels of 0..1)"
            )
        strong = None if self.strong is None else wanted.instead_of(have, self.strong)
        return replace(self, images=wanted.instead_of(have, self.images), strong=strong, normalization=wanted)


@dataclass(frozen=True, eq=False)
class Draw:
    """What chance decided about one batch of resident images; on the device.

    Args:
        index: ``[n]`` which images.
        corner: ``[v, n, 2]`` row and column of the crop, for each of v views.
        mirror: ``[v, n]`` whether it is flipped.
    """

    index: Int[Tensor, " n"]
    corner: Int[Tensor, "v n 2"]
    mirror: Bool[Tensor, "v n"]

    def __len__(self) -> int:
        return self.index.shape[0]

    def at(self, rows: slice) -> Draw:
        """What it was for some of the images."""
        return Draw(self.index[rows], self.corner[:, rows], self.mirror[:, rows])


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
        check_scale("Normalization", self.mean, self.std)

    @classmethod
    def of(cls, images: Tensor) -> Normalization:
        """Mean and standard deviation of ``[n, ch, h, w]`` uint8 images, per channel, from their histograms.

        A channel that never changes is divided by 1.
        """
        count = torch.zeros(images.shape[1], 256, dtype=torch.int64, device=images.device)
        for part in images.split(CHUNK):  # a copy of a channel of one part is all the memory that this takes
            count += torch.stack([torch.bincount(x.reshape(-1), minlength=256) for x in part.unbind(1)])
        values = torch.arange(256, dtype=torch.float64, device=images.device) / 255
        share = count.double() / count.sum(1, keepdim=True)
        mean = (share * values).sum(1)
        variance = (share * (values - mean[:, None]) ** 2).sum(1)
        return cls(tuple(mean.tolist()), tuple(s or 1.0 for s in variance.sqrt().tolist()))

    @classmethod
    def none(cls, channels: int) -> Normalization:
        """That of pixels which stay in 0..1."""
        return cls((0.0,) * channels, (1.0,) * channels)

    def __call__(self, images: Tensor) -> Float[Tensor, "n ch h w"]:
        """``[n, ch, h, w]`` uint8 0..255 -> float32 (x / 255 - mean) / std; the order in memory stays."""
        scale, shift = _scale_and_shift(self, images.device)
        pixels = images.permute(0, 2, 3, 1)
        if not pixels.is_contiguous():
            return images * scale[:, None, None] - shift[:, None, None]
        n, height, width, _ = pixels.shape  # a whole line at a time: several times faster on a CPU
        lines = pixels.reshape(n * height, -1).float().mul_(scale.repeat(width)).sub_(shift.repeat(width))
        return lines.reshape(pixels.shape).permute(0, 3, 1, 2)

    def instead_of(self, have: Normalization, images: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n ch h w"]:
        """Images that were normalised by ``have``, normalised by this instead."""
        if len(have.mean) != len(self.mean):
            raise ValueError(
                f"Normalization: the images have {len(have.mean)} channels, the network's mean has {len(self.mean)}"
            )
        scale, shift = _between(have, self, images.device, images.dtype)
        return images * scale[:, None, None] + shift[:, None, None]


@functools.cache
def _scale_and_shift(normalization: Normalization, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sent to a device once, so that no step waits for it."""
    scale = torch.tensor([1 / (255 * s) for s in normalization.std], device=device)
    shift = torch.tensor([m / s for m, s in zip(normalization.mean, normalization.std, strict=True)], device=device)
    return scale, shift


@functools.cache
def _between(
    have: Normalization, want: Normalization, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Factor and summand per channel that lead from one normalisation to another."""
    rows = [*zip(have.mean, have.std, want.mean, want.std, strict=True)]
    scale = torch.tensor([s1 / s2 for _, s1, _, s2 in rows], device=device, dtype=dtype)
    shift = torch.tensor([(m1 - m2) / s2 for m1, _, m2, s2 in rows], device=device, dtype=dtype)
    return scale, shift


def part(batch: Batch, index: int, count: int) -> Batch:
    """Part ``index`` of ``count`` of a batch; borrowed images with a share of 0 if there are too few."""
    rows, borrowed = own_rows(len(batch), index, count)
    return replace(batch.at(rows), share=0.0) if borrowed else batch.at(rows)


def own_rows(n: int, index: int, count: int) -> tuple[slice, bool]:
    """Where part ``index`` of ``count`` lies among ``n`` images, and whether they are borrowed: it would be empty."""
    rows = bounds(n, index, count)
    return (slice(0, BORROWED), True) if rows.start == rows.stop else (rows, False)


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
