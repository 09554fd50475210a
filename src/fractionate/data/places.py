"""Operations that move pixels, a batch at a time: each gives the bytes that Pillow gives, nearest pixel, black outside.

Pillow walks through the source image in steps of 1/65536 of a pixel; so do these, in whole numbers. The steps are
computed on the CPU in float64, whatever the device of the images.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .._typing import Float, Int
from .device import sent

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
