"""From the data part of a config to a training and an evaluation source."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from ..data import (
    AUGMENTATIONS,
    Labelled,
    Normalization,
    Part,
    SmallImages,
    Source,
    cifar,
    digits,
    fashion_mnist,
    few,
    folder,
    mnist,
)
from ..data.cifar import NORMALIZATION
from .config import Data

EVALUATION_BATCH = 1024


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
        ValueError: the images are not there, or not what the config says.
    """
    images = SETS[data.name](data)
    train = SmallImages(
        images.train.images,
        images.train.target,
        images.train.num_classes,
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
        classes=images.train.classes,
        listing=images.train.listing,
    )
    test = SmallImages(
        images.test.images,
        images.test.target,
        images.test.num_classes,
        images.normalization,
        batch_size=EVALUATION_BATCH,
        shuffle=False,
        device=device,
        classes=images.test.classes,
        listing=images.test.listing,
    )
    return train, test


def data_root(data: Data) -> Path:
    """Folder of the data sets: the config's, else the environment variable FRACTIONATE_DATA, else ``data``."""
    return Path(data.root or os.environ.get("FRACTIONATE_DATA") or "data").expanduser()


def _part(data: Data) -> Part:
    return "train" if data.evaluate_on == "test" else "train-without-validation"


def _digits(data: Data) -> Images:
    # of all training images, so that a teacher and students with other label budgets see the same pixels
    normalization = Normalization.of(digits("train").images)
    return Images(digits(_part(data), data.labels_per_class), digits(data.evaluate_on), normalization)


def _cifar(name: Literal["cifar10", "cifar100"]) -> Callable[[Data], Images]:
    def load(data: Data) -> Images:
        root = data_root(data)
        return Images(
            _few(cifar(name, root, _part(data)), data), cifar(name, root, data.evaluate_on), NORMALIZATION[name]
        )

    return load


def _mnist(read: Callable[..., Labelled]) -> Callable[[Data], Images]:
    def load(data: Data) -> Images:
        root, train = data_root(data), _part(data)
        images = read(root, train)
        normalization = Normalization.of(images.images if train == "train" else read(root, "train").images)
        return Images(_few(images, data), read(root, data.evaluate_on), normalization)

    return load


def _folder(data: Data) -> Images:
    if data.root is None:
        raise ValueError("which folder? data.root (on the command line: --data) must name the folder of the images")
    root = Path(data.root)
    train, test = (
        folder(root, part, data.size, skip_broken=data.skip_broken) for part in (_part(data), data.evaluate_on)
    )
    if train.classes != test.classes:
        raise ValueError(f"{root}: the training classes {train.classes} are not those of the test part {test.classes}")
    return Images(_few(train, data), test, Normalization.of(train.images))


def _few(images: Labelled, data: Data) -> Labelled:
    return images if data.labels_per_class is None else few(images, data.labels_per_class)


SETS: dict[str, Callable[[Data], Images]] = {
    "digits": _digits,
    "cifar10": _cifar("cifar10"),
    "cifar100": _cifar("cifar100"),
    "mnist": _mnist(mnist),
    "fashion-mnist": _mnist(fashion_mnist),
    "folder": _folder,
}
