"""What can be done to a batch of images: functions of uint8 images, anywhere, and of a CPU generator.

AutoAugment is the policy that was found on CIFAR-10; RandAugment is in the form that published distillation code uses
for its strong view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..._typing import Float
from ..batch import sent
from . import operations as op
from .operations import Operation, apply, check_images

Augmentation = Callable[[Tensor, torch.Generator], Tensor]

LEVELS = 10  # 0..9


def _linear(first: float, last: float) -> tuple[float, ...]:
    return tuple(first + (last - first) * i / (LEVELS - 1) for i in range(LEVELS))


# What the ten levels of an operation mean; and whether the sign, or for an enhancement the side of 1, is drawn.
_SHIFT = _linear(0, 150 / 331)  # the paper's 150 pixels of a 331 pixel image, as a share
_ENHANCE = _linear(0, 0.9)
_UNUSED = (0.0,) * LEVELS
SCALES: dict[str, tuple[Operation, tuple[float, ...], bool]] = {
    "shear_x": (op.shear_x, _linear(0, 0.3), True),
    "shear_y": (op.shear_y, _linear(0, 0.3), True),
    "translate_x": (op.translate_x, _SHIFT, True),
    "translate_y": (op.translate_y, _SHIFT, True),
    "rotate": (op.rotate, _linear(0, 30), True),
    "brightness": (op.brightness, _ENHANCE, True),
    "colour": (op.colour, _ENHANCE, True),
    "contrast": (op.contrast, _ENHANCE, True),
    "sharpness": (op.sharpness, _ENHANCE, True),
    "posterise": (op.posterise, tuple(float(8 - round(i * 4 / (LEVELS - 1))) for i in range(LEVELS)), False),
    "solarise": (op.solarise, _linear(255, 0), False),
    "autocontrast": (op.autocontrast, _UNUSED, False),
    "equalise": (op.equalise, _UNUSED, False),
    "invert": (op.invert, _UNUSED, False),
    "identity": (op.identity, _UNUSED, False),
}
ENHANCEMENTS = ("brightness", "colour", "contrast", "sharpness")  # their signed level is added to 1

# Each of the 25 sub-policies is two steps: operation, probability, level.
Step = tuple[str, float, int]
CIFAR10: tuple[tuple[Step, Step], ...] = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalise", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterise", 0.3, 7)),
    (("colour", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalise", 0.6, 5), ("equalise", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("colour", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalise", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("colour", 0.2, 8)),
    (("solarise", 0.5, 2), ("invert", 0.0, 3)),
    (("equalise", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalise", 0.2, 8), ("equalise", 0.6, 4)),
    (("colour", 0.9, 9), ("equalise", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarise", 0.2, 8)),
    (("brightness", 0.1, 3), ("colour", 0.7, 0)),
    (("solarise", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarise", 0.8, 3)),
    (("equalise", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)


def autoaugment(images: Tensor, generator: torch.Generator) -> Tensor:
    """One of the 25 sub-policies found on CIFAR-10 for every image: two operations, each with its own probability.

    Levels have ten values; shears, shifts, rotations and enhancements go either way. Shifts are shares of the image as
    the paper's 150 of 331 pixels are; the square of the paper's CIFAR runs is not in it (see :func:`cutout`).

    Args:
        images: ``[n, 1 or 3, h, w]`` uint8.
        generator: on the CPU.

    Source: Cubuk et al., arXiv 1805.09501, the policy of CIFAR-10.

    Example:
        >>> images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
        >>> autoaugment(images, torch.Generator().manual_seed(0)).dtype
        torch.uint8
    """
    check_images(images)
    n = len(images)
    policy = torch.randint(len(CIFAR10), (n,), generator=generator)
    chance = torch.rand(2, n, generator=generator)
    sign = torch.randint(2, (2, n), generator=generator).double() * 2 - 1
    names = list(SCALES)
    for step, column in enumerate(zip(*CIFAR10, strict=True)):
        which, probability, plain, signed = _table(column, names)
        level = plain[policy] + signed[policy] * sign[step]
        chosen = torch.where(chance[step] < probability[policy], which[policy], names.index("identity"))
        images = apply([SCALES[name][0] for name in names], images, chosen, level)
    return images


def _table(column: Sequence[Step], names: Sequence[str]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Operation, probability, and the level as a fixed and a signed part, of every sub-policy."""
    which = torch.tensor([names.index(name) for name, _, _ in column])
    probability = torch.tensor([p for _, p, _ in column])
    values = [SCALES[name][1][level] for name, _, level in column]
    fixed = [1.0 if name in ENHANCEMENTS else 0.0 for name, _, _ in column]
    both = [(f, v) if SCALES[name][2] else (v, 0.0) for f, v, (name, _, _) in zip(fixed, values, column, strict=True)]
    plain, signed = torch.tensor(both, dtype=torch.float64).unbind(1)
    return which, probability, plain, signed


# Operations of the strong view of CRLD and MLKD, and the range of their levels.
STRONG: tuple[tuple[Operation, float, float], ...] = (
    (op.autocontrast, 0, 1),
    (op.brightness, 0.05, 0.95),
    (op.colour, 0.05, 0.95),
    (op.contrast, 0.05, 0.95),
    (op.equalise, 0, 1),
    (op.identity, 0, 1),
    (op.posterise, 4, 8),
    (op.rotate, -30, 30),
    (op.sharpness, 0.05, 0.95),
    (op.shear_x, -0.3, 0.3),
    (op.shear_y, -0.3, 0.3),
    (op.solarise, 0, 256),
    (op.translate_x, -0.3, 0.3),
    (op.translate_y, -0.3, 0.3),
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
    ink = ink if images.shape[1] == 3 else op.grey(ink).to(torch.uint8)
    # x ^ (x ^ ink) is ink, x ^ 0 is x: much faster on a CPU than choosing
    change = images ^ sent(ink, images.device)
    change &= (covered.to(torch.uint8) * 255)[:, None]
    change ^= images
    return change


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
