"""A folder of images as it is told by its files and a few decoded pictures, for those who only want a look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ..config.data import Data
from ..data import Batch, Normalization, Source, folder
from ..data.folder import layout
from ..data.source import normalization_of
from ..train.sources import Images, resident, sources, train_part

SAMPLES = 128  # pictures of each part that are decoded


@dataclass(frozen=True, eq=False)
class Sampled:
    """A source that holds some of its images and states the facts of all.

    Args:
        source: of the images that are there.
        class_counts: how many of every class there really are.
        batch_size: images per batch.
        passes: how often an epoch shows every image.
    """

    source: Source
    class_counts: tuple[int, ...]
    batch_size: int
    passes: int = 1

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.source.num_classes

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return self.source.classes

    @property
    def normalization(self) -> Normalization | None:
        """That of the images that are there."""
        return normalization_of(self.source)

    @property
    def count(self) -> int:
        """Number of images."""
        return sum(self.class_counts)

    @property
    def variants(self) -> None:
        """Not counted."""

    def __len__(self) -> int:
        return -(-self.count * self.passes // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Those of the images that are there."""
        return self.source.batches(epoch, start)


@dataclass(frozen=True, eq=False)
class Thinned:
    """Some images of a source, evenly spread, so that sets sorted by class keep all their classes.

    Args:
        source: all images.
        step: every so-manieth is taken.
    """

    source: Source
    step: int

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.source.num_classes

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""
        return self.source.classes

    @property
    def count(self) -> int:
        """How many images are left."""
        return -(-self.source.count // self.step)

    @property
    def batch_size(self) -> int:
        """Largest number of images in a batch."""
        return -(-self.source.batch_size // self.step)

    @property
    def variants(self) -> None:
        """Not counted."""

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches, most images left out."""
        place = start * self.source.batch_size
        for batch in self.source.batches(epoch, start):
            kept = torch.arange(len(batch), device=batch.images.device)[-place % self.step :: self.step]
            place += len(batch)
            if len(kept):
                some = None if batch.labelled is None else -(-batch.labelled * len(kept) // len(batch))
                yield Batch(batch.images[kept], batch.target[kept], batch.index[kept], labelled=some)


def sampled(data: Data, seed: int, device: torch.device, samples: int = SAMPLES) -> tuple[Source, Source]:
    """As :func:`fractionate.train.sources.sources`; of a folder a few pictures are decoded, the others only counted.

    Raises:
        ValueError: likewise; unreadable pictures that are not among the few are not found.
    """
    if data.name != "folder" or data.root is None or data.unlabelled is not None:
        return sources(data, seed, device)
    root = Path(data.root).expanduser()
    there = layout(root)
    if not there.labelled:
        return sources(data, seed, device)
    several = max(samples, data.batch_size)
    train, test = (
        folder(root, part, data.size, skip_broken=data.skip_broken, samples=several)
        for part in (train_part(data), data.evaluate_on)
    )
    some = resident(Images(train, test, Normalization.of(train.images)), data, seed, device)
    counts = [
        torch.tensor(there.parts[part].labels).bincount(minlength=len(there.classes)).tolist()
        for part in (train_part(data), data.evaluate_on)
    ]
    if data.labels_per_class is not None:
        counts[0] = [min(n, data.labels_per_class) for n in counts[0]]
    first, second = (tuple(count) for count in counts)
    return Sampled(some[0], first, data.batch_size, data.passes), Sampled(some[1], second, some[1].batch_size)
