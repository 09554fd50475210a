"""From the data part of a config to batches of images with boxes."""

from __future__ import annotations

import torch

from ..config.data import Data
from ..data import Part, Source
from ..data.boxes import BoxImages, annotated
from ..data.boxes.source import SIDE
from .photos import data_root, train_part

AT_ONCE = 8 << 20  # values of images that are evaluated at once


def boxes(data: Data, seed: int, device: torch.device) -> tuple[Source, Source]:
    """Of a set with boxes: images to train on, and images to evaluate on.

    Raises:
        ValueError: the images are not there, or images and annotations do not fit each other.
    """
    train = BoxImages(
        annotated(str(data_root(data)), train_part(data)),
        data.batch_size,
        data.size or SIDE,
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
    return BoxImages(pictures, some, side, multiple=data.multiple, device=device).read()
