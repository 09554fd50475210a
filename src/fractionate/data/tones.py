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
    threshold = level.ceil()
    reached = images >= _each(threshold.clamp(max=255).to(torch.uint8), images)
    # x ^ 255 is 255 - x, x ^ 0 is x; no byte reaches 256
    return images ^ (reached * _each((threshold < 256).to(torch.uint8) * 255, images))


def posterise(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Keep the highest bits of every byte: as many as the whole part of the level, 1 to 8."""
    bits = level.to(torch.int64).clamp(1, 8)
    return images & _each((256 - 2 ** (8 - bits)).to(torch.uint8), images)


def brightness(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Black at level 0, the image at 1, brighter above."""
    return _to_bytes(images.float().mul_(_each(level.float(), images)))


def colour(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Grey at level 0, the image at 1, more colourful above; grey images stay."""
    return images if images.shape[1] == 1 else _away_from(grey(images), images, level)


def contrast(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """The image's mean grey at level 0, the image at 1, more contrast above."""
    count = images.shape[2] * images.shape[3]
    mean = (2 * grey(images).sum((1, 2, 3), keepdim=True, dtype=torch.int64) + count) // (2 * count)
    return _away_from(mean, images, level)


def sharpness(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """A smoothed image at level 0, the image at 1, sharper above; the outermost pixels stay."""
    if min(images.shape[2:]) < 3:
        return images
    x = images.float()
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * x[:, :, 1:-1, 1:-1]
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = sums.mul_(1 / 13).add_(0.5).floor_()  # weights 1, centre 5, over 13: no tie can occur
    return _away_from(smooth, x, level)


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
    one = torch.ones((), dtype=torch.int32, device=images.device).expand(planes.shape)
    histogram = torch.zeros(len(planes), 256, dtype=torch.int32, device=images.device).scatter_add_(1, planes, one)
    last = histogram.gather(1, planes.amax(1, keepdim=True))
    step = (planes.shape[1] - last) // 255
    before = histogram.cumsum(1, dtype=torch.int32) - histogram
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    return _looked_up(images, torch.where(step > 0, table, _bytes(images).int()).to(torch.uint8))


def grey(images: Tensor) -> Int[Tensor, "n 1 h w"]:
    """Grey levels of images with 1 or 3 channels, in whole numbers."""
    x = images.to(torch.int32)
    return x if x.shape[1] == 1 else (RED * x[:, :1] + GREEN * x[:, 1:2] + BLUE * x[:, 2:] + HALF) >> 16


def _away_from(base: Tensor, images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """base + level (images - base) in float32, cut off to a byte."""
    start = base.float()
    return _to_bytes((images - start).mul_(_each(level.float(), images)).add_(start))


def _to_bytes(x: Tensor) -> Tensor:
    """Whole parts within 0..255; changes ``x``."""
    return x.clamp_(0, 255).to(torch.uint8)


def _each(value: Tensor, images: Tensor) -> Tensor:
    """One number per image, next to the images, ready to be combined with them."""
    return sent(value, images.device)[:, None, None, None]


def _planes(images: Tensor) -> Tensor:
    """Every channel of every image as one row."""
    return images.reshape(-1, images.shape[2] * images.shape[3])


def _bytes(images: Tensor) -> Float[Tensor, "1 256"]:
    return torch.arange(256, dtype=torch.float64, device=images.device)[None]


def _looked_up(images: Tensor, table: Tensor) -> Tensor:
    """Every byte replaced by its entry in the table ``[n * ch, 256]`` of its channel."""
    return table.gather(1, _planes(images).long()).reshape(images.shape)
