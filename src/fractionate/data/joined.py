"""Few labels and many images without: batches of two sources side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from .batch import Batch, Normalization
from .source import Source, class_counts, fingerprint_of, normalization_of


@dataclass(frozen=True, eq=False)
class Joined:
    """Every batch holds one of images with labels and one of images without.

    An epoch is as long as the longer of the two; the other begins again whenever it is through, in the order and with
    the augmentation of its next epoch. Which batches meet depends on the epoch and the place in it alone. Images of
    both kinds lie evenly among each other, so that parts of a batch hold about the same share of each.

    Args:
        labelled: images with labels; what is said about classes is said by it.
        unlabelled: images whose labels, if they have some, nobody sees.

    Raises:
        ValueError: one has a second view of its images and the other has not, or pixels that are normalised otherwise.

    Example:
        >>> from fractionate.data import SmallImages
        >>> rule, pixels = Normalization((0.5,), (0.5,)), torch.zeros(12, 1, 2, 2, dtype=torch.uint8)
        >>> few = SmallImages(pixels[:2], torch.tensor([0, 1]), 2, rule, batch_size=2, shuffle=False)
        >>> many = SmallImages(pixels, torch.full((12,), -1), 2, rule, batch_size=4)
        >>> both = Joined(few, many)
        >>> [(batch.target.tolist(), batch.labelled) for batch in both.batches(1)][0], len(both)
        (([-1, 0, -1, -1, 1, -1], 2), 3)
    """

    labelled: Source
    unlabelled: Source

    def __post_init__(self) -> None:
        first, second = normalization_of(self.labelled), normalization_of(self.unlabelled)
        if first != second:
            raise ValueError(f"Joined: both kinds of images must be normalised alike, got {first} and {second}")

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.labelled.num_classes

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return self.labelled.classes

    @property
    def class_counts(self) -> tuple[int, ...] | None:
        """How many images with a label every class has."""
        return class_counts(self.labelled)

    @property
    def normalization(self) -> Normalization | None:
        """That of both."""
        return normalization_of(self.labelled)

    @property
    def unlabelled_count(self) -> int:
        """Number of images without a label."""
        return self.unlabelled.count

    @property
    def count(self) -> int:
        """Number of images."""
        return self.labelled.count + self.unlabelled.count

    @property
    def batch_size(self) -> int:
        """Images per batch, both kinds."""
        return self.labelled.batch_size + self.unlabelled.batch_size

    @property
    def variants(self) -> None:
        """Not counted."""

    def __len__(self) -> int:
        return max(len(self.labelled), len(self.unlabelled))

    def fingerprint(self) -> str | None:
        """A digest of both sets of images; ``None`` where one has none."""
        parts = [fingerprint_of(source) for source in (self.labelled, self.unlabelled)]
        return None if None in parts else hashlib.sha256("".join(map(str, parts)).encode()).hexdigest()[:32]

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number ``start`` on; those before are neither decoded nor augmented."""
        first = (epoch - 1) * len(self) + start
        pairs = zip(_endless(self.labelled, first), _endless(self.unlabelled, first), strict=False)
        for known, unknown in islice(pairs, len(self) - start):
            yield joined(known, unknown, self.labelled.count)


def _endless(source: Source, first: int) -> Iterator[Batch]:
    """One epoch after the other, from batch number ``first`` of all on."""
    epoch, place = divmod(first, len(source))
    while True:
        yield from source.batches(epoch + 1, place)
        epoch, place = epoch + 1, 0


def joined(known: Batch, unknown: Batch, offset: int) -> Batch:
    """One batch of two, images of both kinds evenly among each other.

    Args:
        known: images with labels.
        unknown: images whose labels are dropped.
        offset: what is added to the positions of ``unknown``.
    """
    if (known.strong is None) != (unknown.strong is None):
        raise ValueError("Joined: the images of one source have a second view, those of the other have none")
    places = [(torch.arange(n) + 0.5) / n for n in (len(known), len(unknown))]
    order = torch.cat(places).argsort(stable=True).to(known.images.device)
    soft = known.target.ndim == 2
    none = torch.full_like(unknown.index, -1)
    none = torch.zeros(len(unknown), known.target.shape[1]).to(known.target) if soft else none.to(known.target)

    def both(first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first, second])[order]

    return replace(
        known,
        images=both(known.images, unknown.images),
        target=both(known.target, none),
        index=both(known.index, unknown.index + offset),
        strong=None if known.strong is None or unknown.strong is None else both(known.strong, unknown.strong),
        variant=None,
        labelled=len(known),
    )
