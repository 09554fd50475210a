"""timm's RandAugment on one photo: its own code, whose draws follow from a number."""

from __future__ import annotations

import functools
import importlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

BEGINS = "rand-"  # how its strings begin
MOVED = 0.45  # of the image's side: the largest shift, as timm's training gives it


def by_timm(image: Tensor, text: str, fill: tuple[int, ...], interpolation: str, number: int) -> Tensor:
    """An image under timm's RandAugment.

    Two operations (``n``) out of 15 are drawn, each is applied with a chance of 1/2 (``p``), and its strength is ``m``
    of 10, with a normal spread of ``mstd``. With ``inc1`` all grow with the strength, without it posterising,
    solarising and the enhancements do not.

    Args:
        image: ``[3, n, n]`` uint8.
        text: timm's, ``"rand-m9-mstd0.5-inc1"``.
        fill: colour of what comes from beyond the border.
        interpolation: ``"bilinear"`` or ``"bicubic"``.
        number: that all draws follow from. timm draws from the global generators of Python and NumPy, which are put
            where it says and put back.

    Raises:
        ImportError: timm is not installed.

    Source: arXiv 1909.13719, in timm's form (``rand_augment_transform``), which DeiT and others train with.
    """
    library = importlib.import_module("PIL.Image")
    policy = _policy(text, min(image.shape[1:]), fill, interpolation)
    picture = library.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    with _drawn_by(number):
        changed = policy(picture)
    numpy = importlib.import_module("numpy")
    return torch.from_numpy(numpy.array(changed)).permute(2, 0, 1)


@functools.cache
def _policy(text: str, side: int, fill: tuple[int, ...], interpolation: str) -> Any:
    try:
        timm = importlib.import_module("timm.data.auto_augment")
    except ImportError as error:
        raise ImportError(f"data.augment={text} needs timm: pip install 'fractionate[models]'") from error
    how = importlib.import_module("PIL.Image").Resampling[interpolation.upper()]
    policy = timm.rand_augment_transform(
        text, {"translate_const": int(MOVED * side), "img_mean": fill, "interpolation": how}
    )
    for operation in policy.ops:
        if operation.aug_fn is timm.posterize:
            operation.aug_fn = functools.partial(_posterized, timm.posterize)
    return policy


def _posterized(posterize: Callable[..., Any], picture: Any, bits: int, **rest: Any) -> Any:
    """Black where no bit is kept: timm asks for that, and Pillow refuses it from 13 on."""
    if bits > 0:
        return posterize(picture, bits, **rest)
    return importlib.import_module("PIL.Image").new(picture.mode, picture.size)


@contextmanager
def _drawn_by(number: int) -> Iterator[None]:
    """Inside, the global generators of Python and NumPy stand where a number puts them; afterwards, as before."""
    numpy = importlib.import_module("numpy")
    before = random.getstate(), numpy.random.get_state()
    random.seed(number)
    numpy.random.seed(number % 2**32)
    try:
        yield
    finally:
        random.setstate(before[0])
        numpy.random.set_state(before[1])
