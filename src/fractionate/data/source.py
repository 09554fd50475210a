"""What the training loop needs from data: a :class:`Source` of batches that states facts about itself.

What only some sources can do, they say by having it: :class:`Divisible`, :class:`Drawn` and :class:`Countable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .._typing import Float, Int
from .batch import Batch, Draw, Normalization, part


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

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels; empty where they have none."""
        ...

    @property
    def count(self) -> int:
        """Number of images, however often an epoch shows them."""
        ...

    @property
    def batch_size(self) -> int:
        """Images per batch; an epoch's last batch may be smaller."""
        ...

    @property
    def variants(self) -> int | None:
        """In how many forms an image is shown, which ``Batch.variant`` counts; ``None``: they cannot be counted."""
        ...

    def __len__(self) -> int:
        """Batches per epoch."""
        ...

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number ``start`` on; those before are neither decoded nor augmented."""
        ...


@runtime_checkable
class Divisible(Protocol):
    """A :class:`Source` that makes or loads one process's part of every batch without the others' images."""

    def parts(self, epoch: int, index: int, count: int, start: int = 0) -> Iterator[Batch]:
        """As :func:`part` of every batch of the epoch from number ``start`` on."""
        ...


@runtime_checkable
class Drawn(Protocol):
    """A :class:`Source` whose batches can be made on the device alone, out of what chance decided beforehand."""

    @property
    def drawn(self) -> bool:
        """Whether that holds for all of a batch."""
        ...

    def draws(self, epoch: int, start: int = 0) -> Iterator[Draw]:
        """What chance decided about every batch of an epoch."""
        ...

    def shown(self, draw: Draw) -> Batch:
        """The batch of a draw; asks the host for nothing."""
        ...


@runtime_checkable
class Countable(Protocol):
    """A :class:`Source` that can show any of its images in any of its ``variants``."""

    @property
    def count(self) -> int:
        """Number of images."""
        ...

    @property
    def variants(self) -> int | None:
        """As that of a :class:`Source`."""
        ...

    @property
    def forms(self) -> Sequence[int]:
        """The variants that occur."""
        ...

    @property
    def device(self) -> torch.device | str:
        """Where the images live."""
        ...

    def form(self, index: Int[Tensor, " n"], variant: int) -> Float[Tensor, "n ch h w"]:
        """Some images in one variant, as a batch would show them."""
        ...

    def feed(self, update: Callable[[Any], None]) -> None:
        """Give a hash all that decides the forms."""
        ...


def shares(source: Source, epoch: int, index: int = 0, count: int = 1, start: int = 0) -> Iterator[Batch]:
    """One process's part of every batch of an epoch; together the parts are the batches of one process.

    Args:
        source: of whole batches.
        epoch: from 1.
        index: which part.
        count: number of parts; their sizes differ by one image at most. A part that would be empty, of a batch with
            fewer images than parts, holds borrowed images with a share of 0.
        start: batches to leave out, as an interrupted epoch has seen them.

    Example:
        >>> import torch
        >>> from fractionate.data import Normalization, SmallImages
        >>> images = torch.zeros(10, 1, 2, 2, dtype=torch.uint8)
        >>> data = SmallImages(images, torch.arange(10), 10, Normalization((0.5,), (0.5,)), batch_size=6, shuffle=False)
        >>> [(batch.target.tolist(), batch.whole, batch.share) for batch in shares(data, 1, index=1, count=2)]
        [([3, 4, 5], 6, 0.5), ([8, 9], 4, 0.5)]
    """
    if count > 1 and isinstance(source, Divisible):
        return source.parts(epoch, index, count, start)
    if stated(source):
        whole = source.batches(epoch, start)
    else:  # written before sources could begin in the middle of an epoch
        whole = islice(source.batches(epoch), start, None)
    return whole if count == 1 else (part(batch, index, count) for batch in whole)


def stated(source: object) -> bool:
    """Whether a source states all facts of a :class:`Source`; one that has batches alone can be trained on, unchecked.

    Example:
        >>> stated([])
        False
    """
    return isinstance(source, Source)


def in_memory(source: object) -> bool:
    """Whether the images of a source lie in memory, so that nobody waits for them.

    Example:
        >>> in_memory([])
        True
    """
    return getattr(source, "workers", None) is None


def epoch_images(source: Source) -> int:
    """How many images an epoch shows.

    Example:
        >>> from fractionate.data import Normalization, SmallImages
        >>> images = torch.zeros(10, 1, 2, 2, dtype=torch.uint8)
        >>> data = SmallImages(images, torch.arange(10), 10, Normalization((0.5,), (0.5,)), batch_size=6, passes=2)
        >>> epoch_images(data)
        20
    """
    return min(len(source) * source.batch_size, source.count * getattr(source, "passes", 1))


def class_counts(source: object) -> tuple[int, ...] | None:
    """How many images every class has; ``None`` where the source does not tell."""
    found = getattr(source, "class_counts", None)
    return None if found is None else tuple(found)


def unlabelled_count(source: object) -> int:
    """How many images of a source have no label; 0 where it does not tell."""
    return int(getattr(source, "unlabelled_count", 0))


def normalization_of(source: object) -> Normalization | None:
    """How the images of a source are normalised; ``None`` where it does not tell."""
    found = getattr(source, "normalization", None)
    return found if isinstance(found, Normalization) else None


def fingerprint_of(source: object) -> str | None:
    """The digest by which a set of images is known again; ``None`` where the source has none."""
    found = getattr(source, "fingerprint", None)
    return found() if callable(found) else None
