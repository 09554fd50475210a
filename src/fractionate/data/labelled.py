"""What every set of small images becomes: uint8 images, labels, and a split that keeps validation images apart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from .._typing import Bool, Int
from .images import check_memory

Part = Literal["train", "train-without-validation", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "train-without-validation", "validation", "test")
ROUNDING = 1e-9  # of an image: 500 / 10 is 50, whatever a power makes of it


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images with labels.

    Args:
        images: ``[n, ch, h, w]`` uint8.
        target: ``[n]`` int64; -1 for every image: they have no labels.
        num_classes: number of classes.
        classes: their names, in the order of the labels; empty where a set has none.
        listing: digest of the list of files that the images were read from; empty where they come from no files.
    """

    images: Tensor
    target: Int[Tensor, " n"]
    num_classes: int
    classes: tuple[str, ...] = ()
    listing: str = ""

    def __len__(self) -> int:
        return self.target.shape[0]

    def at(self, index: Int[Tensor, " m"]) -> Labelled:
        """Some of the images, in the order of ``index``."""
        listing = self.listing and digest(self.listing, index.tolist())
        return Labelled(self.images[index], self.target[index], self.num_classes, self.classes, listing)


def digest(*values: object) -> str:
    """32 hexadecimal digits that stand for some values."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:32]


def held_out(target: Int[Tensor, " n"], share: float, seed: int = 0) -> Bool[Tensor, " n"]:
    """Which images form the validation part: the same share of every class, always the same images.

    Args:
        target: labels of all training images.
        share: of each class, rounded to whole images.
        seed: another one gives another split.

    Example:
        >>> held_out(torch.tensor([0] * 10 + [1] * 10), share=0.2).sum().item()
        4
    """
    chosen = torch.zeros(len(target), dtype=torch.bool)
    for label in target.unique().tolist():
        index = (target == label).nonzero()[:, 0]
        generator = torch.Generator().manual_seed(seed * 1_000_003 + label)
        order = torch.randperm(len(index), generator=generator)
        chosen[index[order[: round(share * len(index))]]] = True
    return chosen


def part_of(train: Labelled, part: Part, share: float) -> Labelled:
    """A part of the training images: all of them, the validation part, or what is left without it.

    Args:
        train: all training images.
        part: ``"train"``, ``"validation"`` or ``"train-without-validation"``.
        share: of every class that the validation part holds.

    Example:
        >>> all = Labelled(torch.zeros(10, 1, 1, 1, dtype=torch.uint8), torch.zeros(10).long(), 1)
        >>> [len(part_of(all, part, 0.1)) for part in ("train", "validation", "train-without-validation")]
        [10, 1, 9]
    """
    if part == "train":
        return train
    chosen = held_out(train.target, share)
    return train.at((chosen if part == "validation" else ~chosen).nonzero()[:, 0])


def few(images: Labelled, labels_per_class: int) -> Labelled:
    """The first so many images of every class.

    Raises:
        ValueError: a class has fewer, or there are no labels.

    Example:
        >>> all = Labelled(torch.zeros(6, 1, 1, 1, dtype=torch.uint8), torch.tensor([0, 1, 0, 1, 0, 1]), 2)
        >>> few(all, 2).target.tolist()
        [0, 1, 0, 1]
    """
    if bool((images.target < 0).any()):
        raise ValueError("labels_per_class keeps images of every class, and these have no labels; leave it out")
    least = int(torch.bincount(images.target, minlength=images.num_classes).min())
    if not 1 <= labels_per_class <= least:
        raise ValueError(f"labels_per_class must lie in 1..{least}, got {labels_per_class}")
    order = images.target.argsort(stable=True)  # class by class
    count = torch.bincount(images.target, minlength=images.num_classes)
    rank = torch.arange(len(images)) - (count.cumsum(0) - count)[images.target[order]]
    return images.at(order[rank < labels_per_class].sort().values)


def long_tailed(images: Labelled, imbalance: float) -> Labelled:
    """The first images of every class, fewer and fewer from class to class, as in CIFAR-100-LT.

    Class i of c keeps floor(m / imbalance^(i / (c - 1))) images, m being what the smallest class has.

    Args:
        images: a training part.
        imbalance: how many times as many images the first class keeps as the last one; at least 1.

    Raises:
        ValueError: the last class would keep none.

    Source: Cui et al., Class-balanced loss (CVPR 2019), who draw the images at random.

    Example:
        >>> all = Labelled(torch.zeros(12, 1, 1, 1, dtype=torch.uint8), torch.arange(12) % 3, 3)
        >>> long_tailed(all, 4).target.bincount().tolist()
        [4, 2, 1]
    """
    count = torch.bincount(images.target, minlength=images.num_classes)
    most, last = int(count.min()), max(1, images.num_classes - 1)
    share = float(imbalance) ** (-torch.arange(images.num_classes, dtype=torch.float64) / last)
    keep = (most * share + ROUNDING).long()
    if not imbalance >= 1 or int(keep.min()) < 1:
        raise ValueError(f"imbalance must lie in 1..{most}, the images of the smallest class, got {imbalance:g}")
    order = images.target.argsort(stable=True)  # class by class
    rank = torch.arange(len(images)) - (count.cumsum(0) - count)[images.target[order]]
    return images.at(order[rank < keep[images.target[order]]].sort().values)


def fetch(torchvision_name: str, root: Path, lacking: str, download: bool) -> None:
    """Download a set into ``root``.

    Args:
        torchvision_name: class of ``torchvision.datasets``.
        root: where it goes.
        lacking: begins every error: which folder lacks which files.
        download: whether that is wanted.

    Raises:
        ValueError: it is not wanted, or it failed.
        ImportError: torchvision is not installed.
    """
    if not download:
        raise ValueError(f"{lacking}; put the set there, or let it be downloaded")
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ImportError(
            f"{lacking}. Downloading it needs torchvision: pip install 'fractionate[models]'; or set data.root (or the "
            "environment variable FRACTIONATE_DATA) to the folder that holds it"
        ) from error
    try:
        getattr(datasets, torchvision_name)(root, train=True, download=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{lacking}, and downloading failed: {error}") from error


RESIZED = 512  # images at once, whatever their number: the same rounding


def resized(images: Tensor, size: int) -> Tensor:
    """``[n, ch, h, w]`` uint8 at another side, bilinear with antialiasing; as they are where they have it."""
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    if images.shape[-1] == size:
        return images
    check_memory(len(images), size)
    parts = [
        torch.nn.functional.interpolate(x.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
        for x in images.split(RESIZED)
    ]
    return torch.cat([x.round_().clamp_(0, 255).byte() for x in parts])
