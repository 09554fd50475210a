"""Operations on images, a batch at a time: each gives the bytes that Pillow gives for every image.

An operation takes ``[n, ch, h, w]`` uint8 images with 1 or 3 channels, anywhere, and one float64 level per image, on
the CPU. Where Pillow computes in floating point, these compute the same roundings in the same order. Those that move
pixels take the nearest one, and black outside: Pillow walks through the source image in steps of 1/65536 of a pixel; so
do these, in whole numbers, with steps computed on the CPU in float64, whatever the device of the images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._typing import Float, Int
from ..batch import sent

# [n, ch, h, w] uint8 images and [n] float64 levels on the CPU -> images
Operation = Callable[[Tensor, Tensor], Tensor]


def apply(
    operations: Sequence[Operation], images: Tensor, which: Int[Tensor, " n"], level: Float[Tensor, " n"]
) -> Tensor:
    """One operation per image.

    Args:
        operations: to choose from.
        images: ``[n, ch, h, w]`` uint8.
        which: position of every image's operation, on the CPU.
        level: float64, on the CPU.

    Example:
        >>> from fractionate.data.augment.operations import identity, invert
        >>> images = torch.tensor([10, 20], dtype=torch.uint8).reshape(2, 1, 1, 1)
        >>> which = torch.tensor([1, 0])
        >>> apply([invert, identity], images, which, torch.zeros(2).double()).flatten().tolist()
        [10, 235]
    """
    order = which.argsort(stable=True)
    counts = torch.bincount(which, minlength=len(operations)).tolist()
    groups = images.contiguous().index_select(0, sent(order, images.device)).split(counts)
    levels = level[order].split(counts)
    done = [f(x, v) for f, x, v in zip(operations, groups, levels, strict=True) if len(x)]
    return torch.cat(done).index_select(0, sent(order.argsort(), images.device)) if done else images


def check_images(images: Tensor) -> None:
    """Refuse what no operation can work on."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"augmentation needs uint8 images [n, 1 or 3, h, w], got {images.dtype} {list(images.shape)}")


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


ONE = 65536  # a pixel, in the whole numbers that Pillow walks in


def rotate(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Turn around the centre, by degrees counter-clockwise."""
    angle = -(level % 360) * (math.pi / 180)
    cos, sin = (_rounded(x) for x in (angle.cos(), angle.sin()))
    y, x = images.shape[2] / 2, images.shape[3] / 2
    return _walked(images, _fixed(cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y))


def shear_x(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Row y is read from ``level * y`` pixels further right."""
    return _walked(images, _fixed(1.0, level, 0.0, 0.0, 1.0, 0.0))


def shear_y(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Column x is read from ``level * x`` pixels further down."""
    return _walked(images, _fixed(1.0, 0.0, 0.0, level, 1.0, 0.0))


def translate_x(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Everything is read from further right by this share of the width, in whole pixels."""
    width = images.shape[3]
    x = sent(_shifted(level * width, width), images.device)[:, None, :]
    return _read(images, x, _arange(images, 2)[:, None])


def translate_y(images: Tensor, level: Float[Tensor, " n"]) -> Tensor:
    """Everything is read from further down by this share of the height, in whole pixels."""
    height = images.shape[2]
    y = sent(_shifted(level * height, height), images.device)[:, :, None]
    return _read(images, _arange(images, 3), y)


def _rounded(x: Tensor) -> Tensor:
    """To 15 places, so that the cosine of a right angle is 0."""
    return (x * 1e15).round() / 1e15


def _fixed(*matrix: Tensor | float) -> Int[Tensor, "n 6"]:
    """Steps and start ``x: (0, 1, 2), y: (3, 4, 5)`` of the walk for the map (x, y) -> (ax + by + c, dx + ey + f)."""
    n = next(len(m) for m in matrix if isinstance(m, Tensor))
    m = torch.stack([torch.as_tensor(x, dtype=torch.float64).expand(n) for x in matrix], 1)
    start = m[:, 2::3] + m[:, 0::3] * 0.5 + m[:, 1::3] * 0.5  # the centre of the first pixel
    m = torch.stack([m[:, 0], m[:, 1], start[:, 0], m[:, 3], m[:, 4], start[:, 1]], 1)
    return (m * ONE + 0.5).floor().to(torch.int32)


def _shifted(by: Float[Tensor, " n"], size: int) -> Int[Tensor, "n size"]:
    """Where each pixel of a line is read from. Pillow adds ones up from the first: so do the roundings here."""
    first = (by + 0.5)[:, None]
    return torch.cat([first, torch.ones(len(by), size - 1, dtype=first.dtype)], 1).cumsum(1).floor().to(torch.int32)


def _walked(images: Tensor, walk: Int[Tensor, "n 6"]) -> Tensor:
    """Read every pixel from where the walk says."""
    step = sent(walk, images.device)[:, :, None, None]
    down, right = _arange(images, 2)[:, None], _arange(images, 3)
    x = (step[:, 0] * right + step[:, 1] * down + step[:, 2]) >> 16
    y = (step[:, 3] * right + step[:, 4] * down + step[:, 5]) >> 16
    return _read(images, x, y)


def _read(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The pixels at int32 columns x and rows y, both broadcast to ``[n, h, w]``; black where there is none."""
    n, ch, height, width = images.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    source = (y * width + x).masked_fill_(~inside, height * width).long().flatten(1)[:, None].expand(n, ch, -1)
    return F.pad(images.flatten(2), (0, 1)).gather(2, source).reshape(images.shape)  # one black pixel at the end


def _arange(images: Tensor, dim: int) -> Int[Tensor, " m"]:
    return torch.arange(images.shape[dim], dtype=torch.int32, device=images.device)
