"""RandAugment in the form that published distillation code uses for its strong view."""

from __future__ import annotations

import torch
from torch import Tensor

from .._typing import Float
from . import places, tones
from .device import sent
from .operations import Operation, apply, check_images

# Operations of the strong view of CRLD and MLKD, and the range of their levels.
STRONG: tuple[tuple[Operation, float, float], ...] = (
    (tones.autocontrast, 0, 1),
    (tones.brightness, 0.05, 0.95),
    (tones.colour, 0.05, 0.95),
    (tones.contrast, 0.05, 0.95),
    (tones.equalise, 0, 1),
    (tones.identity, 0, 1),
    (tones.posterise, 4, 8),
    (places.rotate, -30, 30),
    (tones.sharpness, 0.05, 0.95),
    (places.shear_x, -0.3, 0.3),
    (places.shear_y, -0.3, 0.3),
    (tones.solarise, 0, 256),
    (places.translate_x, -0.3, 0.3),
    (places.translate_y, -0.3, 0.3),
)
GREY = (125, 123, 114)  # colour of the square cut out of a strong view


def randaugment(images: Tensor, generator: torch.Generator) -> Tensor:
    """The strong view of CRLD and MLKD: two random operations at random levels, then a grey square.

    Every image has its own two out of 14, drawn with replacement, at levels uniform in their ranges (``STRONG``).

    Args:
        images: ``[n, 1 or 3, h, w]`` uint8.
        generator: on the CPU.

    Source: Cubuk et al., RandAugment, arXiv 1909.13719, in the form of FixMatch (arXiv 2001.07685) that published
    distillation code uses.

    Example:
        >>> images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
        >>> randaugment(images, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 8, 8])
    """
    check_images(images)
    operations = [operation for operation, _, _ in STRONG]
    low, high = (torch.tensor([row[i] for row in STRONG], dtype=torch.float64) for i in (1, 2))
    for _ in range(2):
        which = torch.randint(len(STRONG), (len(images),), generator=generator)
        share = torch.rand(len(images), generator=generator, dtype=torch.float64)
        images = apply(
            operations, images, which, (low + (high - low) * share[:, None])[torch.arange(len(which)), which]
        )
    side, x, y = torch.rand(3, len(images), generator=generator, dtype=torch.float64)
    height, width = images.shape[2:]
    return grey_square(images, side * 0.5 * width, x * width, y * height)


def grey_square(images: Tensor, side: Float[Tensor, " n"], x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> Tensor:
    """A filled square on every image, as published code draws it with Pillow.

    Its left upper corner is moved into the image, its other sides are clipped, and both borders belong to it.

    Args:
        images: ``[n, 1 or 3, h, w]`` uint8.
        side: in pixels, float64, on the CPU.
        x, y: centre, in pixels, likewise.
    """
    height, width = images.shape[2:]
    left, top = ((centre - side / 2).clamp(min=0).floor() for centre in (x, y))
    right, bottom = (left + side).clamp(max=width).floor(), (top + side).clamp(max=height).floor()
    left, top, right, bottom = sent(torch.stack([left, top, right, bottom]).to(torch.int32), images.device)[..., None]
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    covered = ((rows >= top) & (rows <= bottom))[:, :, None] & ((columns >= left) & (columns <= right))[:, None]
    ink = torch.tensor(GREY, dtype=torch.uint8).reshape(1, 3, 1, 1)
    ink = ink if images.shape[1] == 3 else tones.grey(ink).to(torch.uint8)
    # x ^ (x ^ ink) is ink, x ^ 0 is x: much faster on a CPU than choosing
    change = images ^ sent(ink, images.device)
    change &= (covered.to(torch.uint8) * 255)[:, None]
    change ^= images
    return change
