"""What is done to one photo before it joins a batch: a crop, a mirror image, a policy, an erased patch.

Every draw follows from a key alone (seed, epoch, image ...): any number of workers, of processes, and any point at
which training goes on give the same pixels. torchvision's transforms draw from torch's global generator, which is put
where the key says for one image and put back. A loader that keeps a state instead brings back the order of the images,
and not what was drawn for them.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .by_timm import BEGINS, by_timm
from .policies import AUGMENTATIONS

Crop = Literal["pad", "random-resized"]
RATIO = (3 / 4, 4 / 3)  # width over height of a random crop
TRIES = 10
ERASED, ERASED_RATIO = (0.02, 1 / 3), (0.3, 3.3)  # arXiv 1708.04896


@dataclass(frozen=True)
class Shown:
    """How a photo of any size becomes a training image.

    Args:
        size: of the image, in pixels.
        crop: ``"random-resized"``: a part of random area and shape, brought to ``size``; ``"pad"``: the shorter side is
            brought to ``size``, the centre cut out, and shifted.
        scale: smallest and largest area of a random crop, as shares of the photo's.
        shift: of ``"pad"``, by up to so many pixels, black beyond the border.
        flip: mirror half of the images.
        augment: a name of ``AUGMENTATIONS``, torchvision's ``"randaugment-2-9"`` and ``"trivialaugment"``, or timm's
            RandAugment, ``"rand-m9-mstd0.5-inc1"``.
        erasing: chance that a patch takes the colour ``fill``.
        fill: a colour of 0..255 per channel.
        interpolation: of the crop, with antialiasing.

    Source: random crops arXiv 1409.4842; RandAugment 1909.13719 (two operations at magnitude 9); TrivialAugment
    2103.10158; erasing 1708.04896.
    """

    size: int
    crop: Crop = "random-resized"
    scale: tuple[float, float] = (0.08, 1.0)
    shift: int = 0
    flip: bool = True
    augment: str = "none"
    erasing: float = 0.0
    fill: tuple[int, ...] = (124, 116, 104)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __call__(self, photo: Tensor, *key: int) -> Tensor:
        """The image that a key stands for.

        Args:
            photo: ``[3, h, w]`` uint8.
            key: any numbers.

        Returns:
            ``[3, size, size]`` uint8.
        """
        number = keyed(*key)
        rng = random.Random(number)
        image = self._part(photo, rng) if self.crop == "random-resized" else self._padded(photo, rng)
        if self.flip and rng.random() < 0.5:
            image = image.flip(2)
        if self.augment in TORCHVISION:
            with drawn_by(keyed(number, 1)):
                image = _policy(self.augment)(image)
        elif self.augment.startswith(BEGINS):
            image = by_timm(image, self.augment, self.fill, self.interpolation, keyed(number, 1))
        elif own := AUGMENTATIONS[self.augment]:
            image = own(image[None], torch.Generator().manual_seed(keyed(number, 1)))[0]
        if self.erasing:
            with drawn_by(keyed(number, 2)):
                image = _erasing(self.erasing, self.fill)(image)
        return image.contiguous()

    def _part(self, photo: Tensor, rng: random.Random) -> Tensor:
        top, left, height, width = drawn_box(photo.shape[1], photo.shape[2], self.scale, rng)
        t = _transforms()
        how = t.InterpolationMode(self.interpolation)
        return t.functional.resized_crop(
            photo, top, left, height, width, [self.size, self.size], interpolation=how, antialias=True
        )

    def _padded(self, photo: Tensor, rng: random.Random) -> Tensor:
        short, size, shift = min(photo.shape[1:]), self.size, self.shift
        if short != size:
            height, width = (size if x == short else int(size * x / short) for x in photo.shape[1:])
            photo = _resized(photo, (height, width), self.interpolation)
        top, left = (round((x - size) / 2) for x in photo.shape[1:])
        image = photo[:, top : top + size, left : left + size]
        if not shift:
            return image
        row, column = rng.randint(0, 2 * shift), rng.randint(0, 2 * shift)
        return F.pad(image, (shift, shift, shift, shift))[:, row : row + size, column : column + size]


TORCHVISION = ("randaugment-2-9", "trivialaugment")


def keyed(*key: int) -> int:
    """A number below 2**63 that stands for some numbers.

    Example:
        >>> keyed(1, 2) == keyed(1, 2), keyed(1, 2) == keyed(2, 1)
        (True, False)
    """
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


@contextmanager
def drawn_by(number: int) -> Iterator[None]:
    """Inside, torch's generator of the CPU stands where a number puts it; afterwards, where it stood before."""
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(number)
    try:
        yield
    finally:
        generator.set_state(before)


def _transforms() -> Any:
    try:
        return importlib.import_module("torchvision.transforms.v2")
    except ImportError as error:
        raise ImportError(
            "loading photos (data.workers) needs torchvision: pip install 'fractionate[models]'"
        ) from error


@functools.cache
def _policy(name: str) -> Any:
    t = _transforms()
    return t.TrivialAugmentWide() if name == "trivialaugment" else t.RandAugment(num_ops=2, magnitude=9)


@functools.cache
def _erasing(chance: float, fill: tuple[int, ...]) -> Any:
    return _transforms().RandomErasing(chance, ERASED, ERASED_RATIO, value=list(map(float, fill)))


def drawn_box(height: int, width: int, scale: tuple[float, float], rng: random.Random) -> tuple[int, int, int, int]:
    """Top, left, height and width of a part of random area and shape; the middle where ten tries fit none.

    The area is uniform between shares of the whole, the logarithm of width / height uniform between those of 3/4 and
    4/3, as in torchvision's ``RandomResizedCrop``, whose own draws take twice the time of the resizing.

    Source: arXiv 1409.4842.

    Example:
        >>> drawn_box(10, 10, (1.0, 1.0), random.Random(0))
        (0, 0, 10, 10)
    """
    low, high = (math.log(r) for r in RATIO)
    for _ in range(TRIES):
        area, ratio = height * width * rng.uniform(*scale), math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return rng.randint(0, height - h), rng.randint(0, width - w), h, w
    ratio = width / height
    w = width if ratio <= RATIO[1] else round(height * RATIO[1])
    h = height if ratio >= RATIO[0] else round(width / RATIO[0])
    return (height - h) // 2, (width - w) // 2, h, w


def _resized(photo: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    t = _transforms()
    return t.functional.resize(photo, list(size), t.InterpolationMode(interpolation), antialias=True)
