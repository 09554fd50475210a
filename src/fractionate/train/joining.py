"""Images without labels beside those of a config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from .._files import cache_folder, expanded
from ..config.data import Data
from ..data import Joined, Labelled, SmallImages, unlabelled

APART = 2**33  # between the seeds of the two kinds of images, more than any seed of a run


def beside(train: SmallImages, images: Labelled, data: Data, read: Callable[[Data], Labelled]) -> Joined:
    """Batches of both kinds of images, augmented alike by seeds of their own.

    Args:
        train: the images with labels.
        images: the same before any augmentation.
        data: says which images without labels, and how many in a batch.
        read: the training images of a config.

    Raises:
        ValueError: there are no labels at all, or images of another shape.
    """
    if train.unlabelled_count:
        raise ValueError("data.unlabelled joins images with labels, and no training image has one; leave it out")
    more = read(replace(data, labels_per_class=None)) if data.unlabelled == "all" else _pictures(images, data)
    ours, theirs = images.images.shape[1:], more.images.shape[1:]
    if ours != theirs:
        raise ValueError(
            f"images with labels are {list(ours)} and those without {list(theirs)} (channels, height, width): they "
            f"must be alike; give data.size, or other images"
        )
    without = replace(
        train,
        images=more.images,
        target=torch.full_like(more.target, -1),
        batch_size=data.unlabelled_batch or data.batch_size,
        passes=1,
        seed=train.seed + APART,
        listing=more.listing,
    )
    return Joined(train, without)


def _pictures(like: Labelled, data: Data) -> Labelled:
    root, cache = expanded(str(data.unlabelled)), cache_folder() / "pictures" if data.cache else None
    size = like.images.shape[-1]
    return unlabelled(root, size, like.num_classes, skip_broken=data.skip_broken, cache=cache)
