"""From the data part of a config to batches."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch

from .._files import cache_folder, expanded
from ..config.data import Data
from ..config.ranges import BOXED, DENSE
from ..data import (
    AUGMENTATIONS,
    PHOTO_NORMALIZATION,
    Joined,
    Labelled,
    Normalization,
    Part,
    Photos,
    PhotoSet,
    SmallImages,
    Source,
    cifar,
    digits,
    fashion_mnist,
    few,
    folder,
    long_tailed,
    mnist,
    photo_set,
    resized,
    stl10,
    unlabelled,
)
from ..data.cifar import NORMALIZATION
from ..data.folder import layout
from .room import check_images_fit

if TYPE_CHECKING:
    from ..data.boxes import BoxImages
    from ..data.dense import DenseImages

APART = 2**33  # between the seeds of images with and without labels, more than any seed of a run
EVALUATION_BATCH, OF_SIDE = 1024, 64  # images at once, and up to which size; of larger ones as many as take its room


def data_root(data: Data) -> Path:
    """Folder of the data sets: the config's, else the environment variable FRACTIONATE_DATA, else ``data``."""
    return expanded(data.root or os.environ.get("FRACTIONATE_DATA") or "data")


def folder_root(data: Data) -> Path:
    """Folder of one's own images.

    Raises:
        ValueError: none is named.
    """
    if data.root is None:
        raise ValueError("which folder? data.root (on the command line: --data) must name the folder of the images")
    return expanded(data.root)


def train_part(data: Data) -> Part:
    """The part of the images that is trained on."""
    return "train" if data.evaluate_on == "test" else "train-without-validation"


def evaluation_batch(side: int) -> int:
    """How many images of that many pixels go through a network at once when nothing is kept for gradients.

    Example:
        >>> evaluation_batch(32), evaluation_batch(224)
        (1024, 83)
    """
    return min(EVALUATION_BATCH, max(1, EVALUATION_BATCH * OF_SIDE**2 // side**2))


@dataclass(frozen=True, eq=False)
class Images:
    """Training and evaluation images of a config, before any augmentation."""

    train: Labelled
    test: Labelled
    normalization: Normalization


def sources(data: Data, seed: int, device: torch.device) -> tuple[Source, Source]:
    """Augmented training batches, and evaluation batches in a fixed order.

    Args:
        data: which images.
        seed: of the order and the augmentation.
        device: where the images live.

    Raises:
        ValueError: the images are not there, or not what the config says, or far too large for the memory.
    """
    check_images_fit(data, device)
    if data.name in (*DENSE, *BOXED):
        from .scenes import boxes, dense

        return (dense if data.name in DENSE else boxes)(data, seed, device)
    if data.workers is not None:
        from .photos import loaded

        return loaded(data, seed, device, evaluation_batch)
    images = SETS[data.name](data)
    labelled, test = resident(images, data, seed, device)
    if data.unlabelled is None:
        return labelled, test
    return beside(labelled, images.train, data, lambda other: SETS[other.name](other).train), test


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
    measured = layout(folder_root(data)).measured(data.evaluate_on) if data.name == "folder" else ()
    size = like.images.shape[-1]
    return unlabelled(root, size, like.num_classes, skip_broken=data.skip_broken, cache=cache, measured=measured)


def resident(images: Images, data: Data, seed: int, device: torch.device) -> tuple[SmallImages, SmallImages]:
    """The same out of images that were read already."""
    kept = images.train if data.imbalance is None else long_tailed(images.train, data.imbalance)
    train = SmallImages(
        kept.images,
        kept.target,
        kept.num_classes,
        images.normalization,
        batch_size=data.batch_size,
        shift=data.shift,
        flip=data.flip,
        passes=data.passes,
        augment=AUGMENTATIONS[data.augment],
        strong=AUGMENTATIONS[data.strong],
        mixup=data.mixup,
        cutmix=data.cutmix,
        seed=seed,
        device=device,
        classes=kept.classes,
        listing=kept.listing,
    )
    return train, resident_test(images, device)


def resident_test(images: Images, device: torch.device, batch_size: int | None = None) -> SmallImages:
    """The evaluation batches alone, of at most so many images."""
    most = min(batch_size or evaluation_batch(images.test.images.shape[-1]), len(images.test))
    return SmallImages(
        images.test.images,
        images.test.target,
        images.test.num_classes,
        images.normalization,
        batch_size=most,
        shuffle=False,
        device=device,
        classes=images.test.classes,
        listing=images.test.listing,
    )


def evaluation_source(
    data: Data, device: torch.device, batch_size: int | None = None
) -> SmallImages | Photos | DenseImages | BoxImages:
    """The images of a config that networks are evaluated on, just as its runs were; errors as :func:`sources`.

    Args:
        data: which images.
        device: where batches go.
        batch_size: at most so many at once; ``None`` = the usual number.
    """
    if data.name in (*DENSE, *BOXED):
        from .scenes import boxes_test, dense_test

        found = dense_test(data, device) if data.name in DENSE else boxes_test(data, device)
        return replace(found, batch_size=min(batch_size or found.batch_size, found.batch_size))
    if data.workers is not None:
        from .photos import loaded_test

        return loaded_test(data, device, lambda side: batch_size or evaluation_batch(side))
    return resident_test(SETS[data.name](data), device, batch_size)


def _digits(data: Data) -> Images:
    # of all training images, so that a teacher and students with other label budgets see the same pixels
    normalization = Normalization.of(digits("train").images)
    return Images(digits(train_part(data), data.labels_per_class), digits(data.evaluate_on), normalization)


def _cifar(name: Literal["cifar10", "cifar100"]) -> Callable[[Data], Images]:
    def load(data: Data) -> Images:
        root = data_root(data)
        train, test = (cifar(name, root, part) for part in (train_part(data), data.evaluate_on))
        return Images(_sized(_few(train, data), data), _sized(test, data), NORMALIZATION[name])

    return load


def _mnist(read: Callable[..., Labelled]) -> Callable[[Data], Images]:
    def load(data: Data) -> Images:
        root, train = data_root(data), train_part(data)
        images = read(root, train)
        normalization = Normalization.of(images.images if train == "train" else read(root, "train").images)
        return Images(_few(images, data), read(root, data.evaluate_on), normalization)

    return load


def _folder(data: Data) -> Images:
    root = folder_root(data)
    cache = cache_folder() / "pictures" if data.cache else None
    train, test = (
        folder(root, part, data.size, skip_broken=data.skip_broken, cache=cache)
        for part in (train_part(data), data.evaluate_on)
    )
    if train.classes != test.classes:
        raise ValueError(f"{root}: the training classes {train.classes} are not those of the test part {test.classes}")
    return Images(_few(train, data), test, Normalization.of(train.images))


def _photos(name: PhotoSet) -> Callable[[Data], Images]:
    def load(data: Data) -> Images:
        root, cache = data_root(data), cache_folder() / "pictures" if data.cache else None
        train, test = (
            photo_set(name, root, part, data.size, skip_broken=data.skip_broken, cache=cache)
            for part in (train_part(data), data.evaluate_on)
        )
        return Images(_few(train, data), test, PHOTO_NORMALIZATION)

    return load


def _stl10(data: Data) -> Images:
    train, test = (stl10(data_root(data), part, data.size) for part in (train_part(data), data.evaluate_on))
    whole = train if data.evaluate_on == "test" else stl10(data_root(data), "train", data.size)
    return Images(_few(train, data), test, Normalization.of(whole.images))


def _sized(images: Labelled, data: Data) -> Labelled:
    """The images at the side that the config gives them, once and for all."""
    return images if data.size is None else replace(images, images=resized(images.images, data.size))


def _few(images: Labelled, data: Data) -> Labelled:
    return images if data.labels_per_class is None else few(images, data.labels_per_class)


SETS: dict[str, Callable[[Data], Images]] = {
    "digits": _digits,
    "cifar10": _cifar("cifar10"),
    "cifar100": _cifar("cifar100"),
    "mnist": _mnist(mnist),
    "fashion-mnist": _mnist(fashion_mnist),
    "folder": _folder,
    "stl10": _stl10,
    **{name: _photos(name) for name in get_args(PhotoSet)},
}
