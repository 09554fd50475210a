"""Operations on the tones of images, a batch at a time: each gives the bytes that Pillow gives for every image.

An operation takes ``[n, ch, h, w]`` uint8 images with 1 or 3 channels, anywhere, and one float64 level per image, on
the CPU. Where Pillow computes in floating point, these compute the same roundings in the same order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._typing import Float, Int
from .device import sent

# Weights of red, green and blue in a grey level, in 1/65536, and one half.
RED, GREEN, BLUE, HALF = 19595, 38470, 7471, 0x8000


def identity(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """The images as they are."""
    return images


def invert(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Every byte x becomes 255 - x."""
    return 255 - images


def solarise(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Bytes at or above the level (0..256) are inverted."""
    threshold = _each(level.ceil().to(torch.int16), images)
    return torch.where(images < threshold, images, 255 - images)


def posterise(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Keep the highest bits of every byte: as many as the whole part of the level, 1 to 8."""
    bits = level.to(torch.int64).clamp(1, 8)
    return images & _each((256 - 2 ** (8 - bits)).to(torch.uint8), images)


def brightness(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Black at level 0, the image at 1, brighter above."""
    return _away_from(torch.zeros_like(images), images, level)


def colour(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Grey at level 0, the image at 1, more colourful above; grey images stay."""
    return images if images.shape[1] == 1 else _away_from(grey(images).expand_as(images), images, level)


def contrast(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """The image's mean grey at level 0, the image at 1, more contrast above."""
    count = images.shape[2] * images.shape[3]
    mean = (2 * grey(images).sum((1, 2, 3), keepdim=True, dtype=torch.int64) + count) // (2 * count)
    return _away_from(mean.expand_as(images), images, level)


def sharpness(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """A smoothed image at level 0, the image at 1, sharper above; the outermost pixels stay."""
    smooth = images.to(torch.int32)
    if min(images.shape[2:]) >= 3:
        inner = smooth[:, :, 1:-1, 1:-1]
        sums = sum(_window(smooth, i, j) for i in range(3) for j in range(3)) + 4 * inner
        smooth = smooth.clone()
        smooth[:, :, 1:-1, 1:-1] = (2 * sums + 13) // 26  # weights 1, centre 5, over 13; no tie can occur
    return _away_from(smooth, images, level)


def autocontrast(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Stretch every channel so that its darkest byte is 0 and its lightest 255."""
    low, high = (_planes(images).amin(1), _planes(images).amax(1))
    width = (high.double() - low).clamp(min=1)
    scale = torch.full_like(width, 255) / width  # 255 / width would multiply by the reciprocal: another rounding
    offset = -low.double() * scale
    table = (_bytes(images) * scale[:, None] + offset[:, None]).clamp(0, 255).to(torch.uint8)
    return _looked_up(images, torch.where((high > low)[:, None], table, _bytes(images).to(torch.uint8)))


def equalise(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Spread the tones of every channel so that its histogram is as flat as a table of bytes can make it."""
    planes = _planes(images).long()
    ones = torch.ones_like(planes)
    histogram = planes.new_zeros(len(planes), 256).scatter_add_(1, planes, ones)
    last = histogram.gather(1, planes.amax(1, keepdim=True))
    step = (planes.shape[1] - last) // 255
    before = histogram.cumsum(1) - histogram
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    return _looked_up(images, torch.where(step > 0, table, _bytes(images).long()).to(torch.uint8))


def grey(images: Tensor) -> Int[Tensor, "n 1 h w"]:
    """Grey levels of images with 1 or 3 channels, in whole numbers."""
    x = images.to(torch.int32)
    return x if x.shape[1] == 1 else (RED * x[:, :1] + GREEN * x[:, 1:2] + BLUE * x[:, 2:] + HALF) >> 16


def _away_from(base: Tensor, images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """base + level (images - base) in float32, cut off to a byte."""
    start = base.to(torch.float32)
    return (start + _each(level.float(), images) * (images - start)).clamp(0, 255).to(torch.uint8)


def _each(value: Tensor, images: Tensor) -> Tensor:
    """One number per image, next to the images, ready to be combined with them."""
    return sent(value, images.device)[:, None, None, None]


def _window(x: Tensor, i: int, j: int) -> Tensor:
    """All pixels but two rows and two columns, from row i and column j on."""
    return x[:, :, i : x.shape[2] - 2 + i, j : x.shape[3] - 2 + j]


def _planes(images: Tensor) -> Tensor:
    """Every channel of every image as one row."""
    return images.reshape(-1, images.shape[2] * images.shape[3])


def _bytes(images: Tensor) -> Float[Tensor, "1 256"]:
    return torch.arange(256, dtype=torch.float64, device=images.device)[None]


def _looked_up(images: Tensor, table: Tensor) -> Tensor:
    """Every byte replaced by its entry in the table ``[n * ch, 256]`` of its channel."""
    return table.gather(1, _planes(images).long()).reshape(images.shape)
