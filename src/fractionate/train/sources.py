"""From the data part of a config to a training and an evaluation source."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..data import Augmentation, Labelled, Normalization, Part, SmallImages, Source, cutout, digits
from .config import Data

EVALUATION_BATCH = 1024
STRONG: dict[str, Augmentation | None] = {"none": None, "cutout": cutout}


def sources(data: Data, seed: int, device: torch.device) -> tuple[Source, Source]:
    """Augmented training batches, and evaluation batches in a fixed order.

    Args:
        data: which images.
        seed: of the order and the augmentation.
        device: where the images live.
    """
    return SETS[data.name](data, seed, device)


def _digits(data: Data, seed: int, device: torch.device) -> tuple[Source, Source]:
    part: Part = "train" if data.evaluate_on == "test" else "train-without-validation"
    # of all training images, so that a teacher and students with other label budgets see the same pixels
    normalization = Normalization.of(digits("train").images)
    train, test = digits(part, data.labels_per_class), digits(data.evaluate_on)
    return _training(train, normalization, data, seed, device), _evaluation(test, normalization, device)


def _training(
    images: Labelled, normalization: Normalization, data: Data, seed: int, device: torch.device
) -> SmallImages:
    return SmallImages(
        images.images,
        images.target,
        images.num_classes,
        normalization,
        batch_size=data.batch_size,
        shift=data.shift,
        flip=data.flip,
        passes=data.passes,
        strong=STRONG[data.strong],
        seed=seed,
        device=device,
    )


def _evaluation(images: Labelled, normalization: Normalization, device: torch.device) -> SmallImages:
    return SmallImages(
        images.images,
        images.target,
        images.num_classes,
        normalization,
        batch_size=EVALUATION_BATCH,
        shuffle=False,
        device=device,
    )


SETS: dict[str, Callable[[Data, int, torch.device], tuple[Source, Source]]] = {"digits": _digits}
