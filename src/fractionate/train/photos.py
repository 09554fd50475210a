"""From the data part of a config to photos that are loaded one by one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from .._files import cache_folder, expanded
from ..config.data import Data
from ..data import PHOTO_NORMALIZATION, Joined, Labelled, Photos, Source, few, layout_of
from ..data.augment.photo import Shown
from ..data.folder import Files, Layout, check_counts, default_size, layout
from ..data.images import View
from ..data.kept import Bounded, Pictures, Squared, keep, readable
from ..data.labelled import digest
from ..data.layouts import SIZES
from ..data.stl10 import Stl10Pictures
from ..data.unlabelled import is_stl10, pictures_below
from ..pictures.heads import need_pillow, printable, told_unread
from .sources import APART, data_root, folder_root, train_part

TIMES = 2  # the size: as large as the shorter side of a photo may be before a part of it is cropped


def loaded(data: Data, seed: int, device: torch.device, test_batch: Callable[[int], int]) -> tuple[Source, Source]:
    """Augmented training batches, and evaluation batches in a fixed order, of photos that are loaded one by one.

    Args:
        data: which photos.
        seed: of the order and the augmentation.
        device: where batches go.
        test_batch: how many images of a size go through a network at once when it is evaluated.

    Raises:
        ValueError: the photos are not there, or not what the config says.
    """
    found, root, size = _found(data)
    train: Source = _trained_on(data, found, root, size, seed, device)
    if data.unlabelled is not None:
        train = Joined(train, _unlabelled(data, found, root, size, seed + APART, device))
    return train, loaded_test(data, device, test_batch)


def _unlabelled(data: Data, found: Layout, root: Path, size: int, seed: int, device: torch.device) -> Photos:
    """The photos that join every batch, without their labels; augmented as the others, by a seed of their own."""
    if not found.labelled:
        raise ValueError("data.unlabelled joins images with labels, and no training image has one; leave it out")
    part = train_part(data)
    apart = replace(data, labels_per_class=None, passes=1, batch_size=data.unlabelled_batch or data.batch_size)
    if data.unlabelled != "all" and is_stl10(Path(data.unlabelled or "")):
        held = Stl10Pictures(Path(data.unlabelled or ""))
        listing = digest(size, "STL-10", len(held))
        return _augmented(apart, held, [-1] * len(held), found.classes, listing, size, seed, device)
    if data.unlabelled == "all":
        paths = found.parts[part].paths
    else:
        root = expanded(str(data.unlabelled))
        paths = pictures_below(root, found.measured(data.evaluate_on))
    files = Files(paths, [-1] * len(paths))
    return _trained_on(apart, replace(found, parts={part: files}), root, size, seed, device)


def loaded_test(data: Data, device: torch.device, test_batch: Callable[[int], int]) -> Photos:
    """The evaluation batches alone; arguments and errors as those of :func:`loaded`."""
    found, root, size = _found(data)
    middle = Squared(size, View(data.crop_pct, data.interpolation))
    pictures, files = _readable(found.parts[data.evaluate_on], middle, data, found, root)
    return Photos(
        pictures,
        torch.tensor(files.labels),
        len(found.classes),
        PHOTO_NORMALIZATION,
        size,
        test_batch(size),
        device=device,
        workers=data.workers or 0,
        classes=found.classes,
        listing=digest(size, files.listed(root)),
    )


def _found(data: Data) -> tuple[Layout, Path, int]:
    """The layout, the folder it lies in, and the size of the images."""
    need_pillow()
    own = data.name == "folder"
    root = folder_root(data) if own else data_root(data)
    found = layout(root) if own else layout_of(data.name, root)  # type: ignore[arg-type]
    if left_out := told_unread(found.unread):
        warnings.warn(f"{printable(root)}: {left_out}", stacklevel=4)
    return found, root, data.size or (default_size(found.train.paths) if own else SIZES[data.name])


def _trained_on(data: Data, found: Layout, root: Path, size: int, seed: int, device: torch.device) -> Photos:
    several = _few(found.parts[train_part(data)], len(found.classes), data.labels_per_class)
    pictures, files = _readable(several, Bounded(TIMES * size), data, found, root)
    return _augmented(data, pictures, files.labels, found.classes, digest(size, files.listed(root)), size, seed, device)


def _augmented(
    data: Data,
    pictures: Pictures | Stl10Pictures,
    labels: Sequence[int],
    classes: tuple[str, ...],
    listing: str,
    size: int,
    seed: int,
    device: torch.device,
) -> Photos:
    view = Shown(
        size,
        crop="random-resized" if data.resized_crop else "pad",
        scale=data.crop_scale,
        shift=data.shift,
        flip=data.flip,
        augment=data.augment,
        erasing=data.erasing,
        interpolation=data.interpolation,
    )
    return Photos(
        pictures,
        torch.tensor(labels),
        len(classes),
        PHOTO_NORMALIZATION,
        size,
        data.batch_size,
        shown=view,
        strong=None if data.strong == "none" else replace(view, augment=data.strong),
        passes=data.passes,
        repeats=data.repeats,
        mixup=data.mixup,
        cutmix=data.cutmix,
        seed=seed,
        device=device,
        workers=data.workers or 0,
        classes=classes,
        listing=listing,
    )


def _few(files: Files, classes: int, labels_per_class: int | None) -> Files:
    if labels_per_class is None:
        return files
    numbers = Labelled(torch.arange(len(files.paths)), torch.tensor(files.labels), classes)
    return files.at(few(numbers, labels_per_class).images.tolist())


def _readable(files: Files, reader: Bounded | Squared, data: Data, found: Layout, root: Path) -> tuple[Pictures, Files]:
    """Those pictures that can be read, and their labels."""
    kept = keep(files.paths, reader, cache_folder() / "pictures") if data.cache else None
    index = readable(files.paths, reader, kept, skip_broken=data.skip_broken)
    files = files.at(index)
    if files.labels[:1] != [-1]:
        check_counts(torch.tensor(files.labels), found.classes, f"the readable part of {printable(root)}")
    return Pictures(files.paths, reader, kept, index), files
