"""What can be done to a batch of images: functions of uint8 images, anywhere, and of a CPU generator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .autoaugment import autoaugment
from .device import sent
from .randaugment import randaugment

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def cutout(images: Tensor, generator: torch.Generator, largest: float = 0.5) -> Tensor:
    """Blacken a square at a random place of every image.

    Args:
        images: ``[n, ch, h, w]`` uint8.
        generator: on the CPU.
        largest: the side is uniform between 0 and this share of the width; squares are clipped at the border.

    Source: DeVries and Taylor, arXiv 1708.04552.

    Example:
        >>> white = torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)
        >>> cutout(white, torch.Generator().manual_seed(2)).eq(0).any().item()
        True
    """
    n, _, height, width = images.shape
    side, y, x = torch.rand(3, n, generator=generator) * torch.tensor([[largest * width], [height], [width]])
    return _blackened(images, torch.stack([y, x, side]))


def autoaugment_cutout(images: Tensor, generator: torch.Generator, side: int = 16) -> Tensor:
    """AutoAugment, then a black square of a fixed size whose centre is any pixel; clipped at the border.

    Args:
        images: ``[n, ch, h, w]`` uint8.
        generator: on the CPU.
        side: of the square, in pixels.

    Source: how ZaberKo/GDKD (arXiv 2512.04625) trains its teachers.

    Example:
        >>> white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
        >>> autoaugment_cutout(white, torch.Generator().manual_seed(0)).eq(0).all(1).sum().item() >= 64
        True
    """
    n, _, height, width = images.shape
    images = autoaugment(images, generator)
    y, x = (torch.randint(0, size, (n,), generator=generator).float() for size in (height, width))
    return _blackened(images, torch.stack([y, x, torch.full((n,), float(side))]))


def _blackened(images: Tensor, squares: Tensor) -> Tensor:
    """Without the pixels whose centre lies in a square ``[y, x, side]`` per image."""
    y, x, side = sent(squares, images.device)
    rows = torch.arange(images.shape[2], device=images.device) + 0.5
    columns = torch.arange(images.shape[3], device=images.device) + 0.5
    inside_rows = (rows - y[:, None]).abs() < side[:, None] / 2
    inside_columns = (columns - x[:, None]).abs() < side[:, None] / 2
    return images.masked_fill((inside_rows[:, :, None] & inside_columns[:, None, :])[:, None], 0)


# By the names of a config.
AUGMENTATIONS: dict[str, Augmentation | None] = {
    "none": None,
    "cutout": cutout,
    "autoaugment": autoaugment,
    "autoaugment+cutout": autoaugment_cutout,
    "randaugment": randaugment,
}
