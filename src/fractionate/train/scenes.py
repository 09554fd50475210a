"""From the data part of a config to batches of images with a class for every pixel, or with boxes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import cast

import torch

from ..config.data import Data
from ..config.ranges import DENSE
from ..data import Part, Source
from ..data.boxes import BoxImages, annotated
from ..data.boxes.source import SIDE
from ..data.dense import Crop, DenseImages, Kept, Pairs, listed, ready, whole
from ..data.dense.classes import counted
from ..data.dense.kinds import Kind
from ..data.dense.kinds import described as masks_described
from ..data.dense.reading import name
from ..pictures.heads import printable
from ..pictures.repeats import told_repeated
from .sources import data_root, folder_root, train_part

AT_ONCE = 8 << 20  # values of images with boxes that are evaluated at once


def dense(data: Data, seed: int, device: torch.device) -> tuple[Source, Source]:
    """Of a set with a class for every pixel: crops to train on, whole images to evaluate on.

    Raises:
        ValueError: the images are not there, image and mask do not fit each other, or whole images of several sizes
            would be one batch.
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
    if not data.crop and data.batch_size > 1 and len(train.sizes) > 1:
        raise ValueError(_several(kept, data))
    return train, dense_test(data, device)


def _several(kept: Pairs | Kept, data: Data) -> str:
    """Two files that make no batch, and what to do; chance would tell it in the midst of a run, or never."""
    pairs, sizes = kept.pairs if isinstance(kept, Kept) else kept, [kept.size(i) for i in range(len(kept))]
    padded = [tuple(-(-side // data.multiple) for side in size) for size in sizes]
    other = next(i for i, size in enumerate(padded) if size != padded[0])
    (first, (h, w)), (second, (h2, w2)) = ((name(pairs.files[i][0]), sizes[i]) for i in (0, other))
    return (
        f"whole images of several sizes make no batch: {first} is {h} x {w} pixels and {second} {h2} x {w2}, also when "
        f"padded to data.multiple={data.multiple}; give data.crop=[HEIGHT, WIDTH], or data.batch_size=1"
    )


def dense_test(data: Data, device: torch.device) -> DenseImages:
    """The whole images of a dense set that are evaluated on; errors as :func:`dense`."""
    kept = _pairs(data, data.evaluate_on, data.evaluate_on)
    return whole(DenseImages(kept, kept.classes, batch_size=1, multiple=data.multiple, device=device))


def _pairs(data: Data, part: Part, what: str) -> Pairs | Kept:
    root = _dense_root(data)
    return ready(listed(data.name, root, part), f"the {what} images of {root}")


def _dense_root(data: Data) -> Path:
    return folder_root(data) if data.name == "masks" else data_root(data)


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


def described(data: Data) -> list[str]:
    """Sentences: what a folder of masks or boxes is taken for and what lies in it; and what lies in both parts, if any.

    Raises:
        ValueError: as when it is read.
    """
    with warnings.catch_warnings():  # what is left out is said when it is read
        warnings.simplefilter("ignore")
        if data.name in DENSE:
            return masks_described(cast("Kind", data.name), _dense_root(data), data.evaluate_on)
        train, test = (annotated(str(data_root(data)), part) for part in (train_part(data), data.evaluate_on))
    told = f"{printable(data_root(data))}: boxes in COCO's format: {counted(train.classes)}, {len(train):,} images to "
    told += f"train on, {len(test):,} to measure on"
    repeated = told_repeated(*([picture.place for picture in part.found] for part in (train, test)))
    return [told, repeated] if repeated else [told]


def boxes_test(data: Data, device: torch.device) -> BoxImages:
    """The images of such a set that are evaluated on, as many at once as fit; errors as :func:`boxes`."""
    part: Part = data.evaluate_on
    pictures, side = annotated(str(data_root(data)), part), data.size or SIDE
    some = max(1, min(len(pictures), AT_ONCE // (3 * side * side)))
    return BoxImages(pictures, some, side, data.shorter, multiple=data.multiple, device=device).read()
