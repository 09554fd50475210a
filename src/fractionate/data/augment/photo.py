"""What is done to one photo before it joins a batch: a crop, a mirror image, a policy, an erased patch.

Every draw follows from a key alone (seed, epoch, image ...): any number of workers, of processes, and any point at which
training goes on give the same pixels. torchvision's transforms draw from torch's global generator, which is put where
the key says for one image and put back. A loader that keeps a state instead brings back the order of the images, and not
what was drawn for them.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .policies import AUGMENTATIONS

Crop = Literal["pad", "random-resized"]
RATIO = (3 / 4, 4 / 3)  # of sides of a random crop, as on ImageNet
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
        augment: a name of ``AUGMENTATIONS``, or ``"randaugment-2-9"`` and ``"trivialaugment"``, which are torchvision's.
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
        with drawn_by(number):
            image = _random_resized(self.size, self.scale, self.interpolation)(photo) if self._random else self._padded(photo)
            if self.flip and torch.rand(()) < 0.5:
                image = image.flip(2)
            if self.augment in TORCHVISION:
                image = _torchvision(self.augment)(image)
        own = AUGMENTATIONS.get(self.augment)
        if own:
            image = own(image[None], torch.Generator().manual_seed(keyed(number, 1)))[0]
        if self.erasing:
            with drawn_by(keyed(number, 2)):
                image = self._erased(image)
        return image.contiguous()

    @property
    def _random(self) -> bool:
        return self.crop == "random-resized"

    def _padded(self, photo: Tensor) -> Tensor:
        short, size, shift = min(photo.shape[1:]), self.size, self.shift
        if short != size:
            height, width = (size if x == short else int(size * x / short) for x in photo.shape[1:])
            photo = _resized(photo, (height, width), self.interpolation)
        top, left = (round((x - size) / 2) for x in photo.shape[1:])
        image = photo[:, top : top + size, left : left + size]
        if not shift:
            return image
        row, column = torch.randint(0, 2 * shift + 1, (2,)).tolist()
        return F.pad(image, (shift, shift, shift, shift))[:, row : row + size, column : column + size]

    def _erased(self, image: Tensor) -> Tensor:
        rule = _transforms().RandomErasing(self.erasing, ERASED, ERASED_RATIO, value=list(map(float, self.fill)))
        return rule(image)


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
        raise ImportError("loading photos (data.workers) needs torchvision: pip install 'fractionate[models]'") from error


@functools.cache
def _random_resized(size: int, scale: tuple[float, float], interpolation: str) -> Any:
    t = _transforms()
    return t.RandomResizedCrop(size, scale, RATIO, t.InterpolationMode(interpolation), antialias=True)


@functools.cache
def _torchvision(name: str) -> Any:
    t = _transforms()
    return t.TrivialAugmentWide() if name == "trivialaugment" else t.RandAugment(num_ops=2, magnitude=9)


def _resized(photo: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    t = _transforms()
    return t.functional.resize(photo, list(size), t.InterpolationMode(interpolation), antialias=True)
