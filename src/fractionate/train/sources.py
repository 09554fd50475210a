"""From the data part of a config to batches, and what a network was trained to see of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import nn

from .._files import cache_folder, expanded
from ..config.data import Data
from ..config.ranges import BOXED, DENSE
from ..data import (
    AUGMENTATIONS,
    PHOTO_NORMALIZATION,
    Labelled,
    Normalization,
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
    normalization_of,
    photo_set,
    resized,
    stl10,
)
from ..data.boxes import BoxImages
from ..data.cifar import NORMALIZATION
from ..data.dense import DenseImages
from ..models.preprocessing import shown_of
from .boxes import boxes, boxes_test
from .dense import dense, dense_test
from .joining import beside
from .photos import data_root, folder_root, loaded, loaded_test, train_part
from .pixels import differ

if TYPE_CHECKING:
    from .build import Training


def seen_images(source: Source) -> dict[str, Any] | None:
    """Classes and normalisation of a source, as plain data; ``None`` where it does not tell.

    Example:
        >>> import torch
        >>> from fractionate.data import Normalization, SmallImages
        >>> pixels, rule = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), Normalization((0.5,), (0.25,))
        >>> seen_images(SmallImages(pixels, torch.arange(2), 2, rule, batch_size=2, classes=("cat", "dog")))
        {'classes': ['cat', 'dog'], 'mean': [0.5], 'std': [0.25]}
    """
    rule = normalization_of(source)
    if rule is None:
        return None
    return {"classes": list(source.classes), "mean": list(rule.mean), "std": list(rule.std)}


def check_seen(training: Training) -> None:
    """Refuse a teacher out of a run folder whose images were others than those it is going to be asked about.

    Accuracy alone does not tell: with two classes exchanged, or pixels a little too bright, a teacher is only worse.

    Raises:
        ValueError: another order of the classes, or another normalisation.
    """
    network, here = training.run.teacher, seen_images(training.train)
    if here is None or training.teacher is None or network is None or not network.checkpoint:
        return
    path = expanded(network.checkpoint).parent / "summary.json"
    there = _recorded(path)
    theirs, ours = there.get("classes"), here["classes"]
    if isinstance(theirs, list) and theirs and ours and theirs != ours:
        shared = min(len(theirs), len(ours))
        at = next((i for i in range(shared) if theirs[i] != ours[i]), shared)
        raise ValueError(
            f"the teacher was trained on other classes or in another order: class {at} is {_at(theirs, at)} in {path} "
            f"and {_at(ours, at)} here; train it on these images"
        )
    own_way = shown_of(getattr(training.teacher, "net", None) or nn.Identity())  # undoes what the data do to pixels
    if not own_way and _normalised_otherwise(there, here):
        raise ValueError(
            f"the teacher was trained on images normalised in another way: mean {_some(there['mean'])} and std "
            f"{_some(there['std'])} in {path}, {_some(here['mean'])} and {_some(here['std'])} here; train it on "
            f"these images"
        )


def _recorded(path: Path) -> Mapping[str, Any]:
    """What the summary says about the images; nothing where there is none, or one that was not written by a run."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["images"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _normalised_otherwise(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    rules = [there.get("mean"), there.get("std"), here["mean"], here["std"]]
    if any(not _numbers(rule) or len(rule) != len(here["mean"]) for rule in rules):
        return False
    return differ(*rules)


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(x, int | float) for x in values)


def _at(names: Sequence[str], place: int) -> str:
    return repr(names[place]) if place < len(names) else "none"


def _some(numbers: Sequence[float]) -> str:
    return ", ".join(f"{x:.3f}" for x in numbers)


EVALUATION_BATCH, OF_SIDE = 1024, 64  # images at once, and up to which size; of larger ones as many as take its room


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
        ValueError: the images are not there, or not what the config says.
    """
    if data.name in DENSE:
        return dense(data, seed, device)
    if data.name in BOXED:
        return boxes(data, seed, device)
    if data.workers is not None:
        return loaded(data, seed, device, evaluation_batch)
    images = SETS[data.name](data)
    labelled, test = resident(images, data, seed, device)
    if data.unlabelled is None:
        return labelled, test
    return beside(labelled, images.train, data, lambda other: SETS[other.name](other).train), test


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
        found = dense_test(data, device) if data.name in DENSE else boxes_test(data, device)
        return replace(found, batch_size=min(batch_size or found.batch_size, found.batch_size))
    if data.workers is not None:
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
