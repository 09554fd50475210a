"""Handwritten digits: the 1,797 real 8 x 8 images that scikit-learn carries inside, so nothing is downloaded."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from .._choices import choose
from .labelled import PARTS, Labelled, Part

CLASSES = 10
TEST_SHARE = 1 / 3  # 596 images: one of them is .17 % of the accuracy
VALIDATION_SHARE = 1 / 4  # of all images; taken out of the training part to choose settings on
SPLIT_SEED = 0


def digits(part: Part = "train", labels_per_class: int | None = None) -> Labelled:
    """Part of the digits, stratified by class; the same images on every machine.

    Every class is shuffled once and cut into test | validation | rest; ``train`` is validation and rest together.
    A few-label subset is drawn from the rest, so it is the same whether or not ``validation`` is kept out.

    Args:
        part: ``"train"``, ``"train-without-validation"``, ``"validation"`` or ``"test"``.
        labels_per_class: keep this many images of each class (training parts only).

    Raises:
        ValueError: an unknown part, or more labels per class than there are.
        ImportError: scikit-learn is not installed.

    Source: UCI Optical Recognition of Handwritten Digits (test part), as bundled with scikit-learn.

    Example:
        >>> len(digits("train")), len(digits("test")), len(digits("train", labels_per_class=10))
        (1201, 596, 100)
    """
    choose("part of the digits", part, PARTS)
    images, target = _load()
    cuts = [_cut(target, c) for c in range(CLASSES)]
    if labels_per_class is not None:
        index = torch.cat([_few(rest, part, labels_per_class) for _, _, rest in cuts])
    else:
        index = torch.cat([torch.cat(_pieces(part, cut)) for cut in cuts])
    return Labelled(images[index], target[index], CLASSES, tuple(map(str, range(CLASSES))))


def _pieces(part: Part, cut: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    test, validation, rest = cut
    if part == "test":
        return [test]
    if part == "validation":
        return [validation]
    return [rest] if part == "train-without-validation" else [validation, rest]


def _few(rest: Tensor, part: Part, labels: int) -> Tensor:
    if not part.startswith("train"):
        raise ValueError(f"digits: labels_per_class is for the training parts, got part={part!r}")
    if not 1 <= labels <= len(rest):
        raise ValueError(f"digits: labels_per_class must lie in 1..{len(rest)}, got {labels}")
    return rest[:labels]


def _cut(target: Tensor, label: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positions of one class in test, validation and the rest."""
    generator = torch.Generator().manual_seed(SPLIT_SEED * CLASSES + label)
    index = (target == label).nonzero()[:, 0]
    index = index[torch.randperm(len(index), generator=generator)]
    test, validation = int(TEST_SHARE * len(index)), int(VALIDATION_SHARE * len(index))
    return index[:test], index[test : test + validation], index[test + validation :]


@functools.cache
def _load() -> tuple[Tensor, Tensor]:
    """All images as uint8 (grey levels 0..16 scaled to 0..255) and their labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits come with scikit-learn, which is not installed: pip install 'fractionate[train]'"
        ) from error
    bunch = load_digits()
    images = (torch.as_tensor(bunch.images) * (255 / 16)).round().to(torch.uint8)
    return images[:, None], torch.as_tensor(bunch.target, dtype=torch.int64)
