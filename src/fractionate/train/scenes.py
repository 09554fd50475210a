"""From the data part of a config to batches of images with a class for every pixel, or with boxes."""

from __future__ import annotations

import torch

from ..config.data import Data
from ..data import Part, Source
from ..data.boxes import BoxImages, annotated
from ..data.boxes.source import SIDE
from ..data.dense import Crop, DenseImages, Kept, Pairs, listed, ready, whole
from .sources import data_root, folder_root, train_part

AT_ONCE = 8 << 20  # values of images with boxes that are evaluated at once


def dense(data: Data, seed: int, device: torch.device) -> tuple[Source, Source]:
    """Of a set with a class for every pixel: crops to train on, whole images to evaluate on.

    Raises:
        ValueError: the images are not there, or image and mask do not fit each other.
    """
    kept = _pairs(data, train_part(data), "training")
    height, width = data.crop or (0, 0)
    train = DenseImages(
        kept,
        kept.classes,
        batch_size=data.batch_size,
        crop=Crop((height, width) if data.crop else None, data.scale, data.scale_step, data.flip, data.colour),
        multiple=data.multiple,
        passes=data.passes,
        seed=seed,
        device=device,
    )
    return train, dense_test(data, device)


def dense_test(data: Data, device: torch.device) -> DenseImages:
    """The whole images of a dense set that are evaluated on; errors as :func:`dense`."""
    kept = _pairs(data, data.evaluate_on, data.evaluate_on)
    return whole(DenseImages(kept, kept.classes, batch_size=1, multiple=data.multiple, device=device))


def _pairs(data: Data, part: Part, what: str) -> Pairs | Kept:
    root = folder_root(data) if data.name == "masks" else data_root(data)
    return ready(listed(data.name, root, part), f"the {what} images of {root}")


def boxes(data: Data, seed: int, device: torch.device) -> tuple[Source, Source]:
    """Of a set with boxes: images to train on, and images to evaluate on.

    Raises:
        ValueError: the images are not there, or images and annotations do not fit each other.
    """
    train = BoxImages(
        annotated(str(data_root(data)), train_part(data)),
        data.batch_size,
        data.size or SIDE,
        data.shorter,
        training=True,
        flip=data.flip,
        colour=data.colour,
        multiple=data.multiple,
        passes=data.passes,
        seed=seed,
        device=device,
    )
    return train.read(), boxes_test(data, device)


def boxes_test(data: Data, device: torch.device) -> BoxImages:
    """The images of such a set that are evaluated on, as many at once as fit; errors as :func:`boxes`."""
    part: Part = data.evaluate_on
    pictures, side = annotated(str(data_root(data)), part), data.size or SIDE
    some = max(1, min(len(pictures), AT_ONCE // (3 * side * side)))
    return BoxImages(pictures, some, side, data.shorter, multiple=data.multiple, device=device).read()
