"""A step's images divided over processes, and over parts that follow each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol, runtime_checkable

from .batch import Batch, Source

BORROWED = 2  # images in a part that would be empty: batch norm cannot work with one


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
