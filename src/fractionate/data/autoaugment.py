"""AutoAugment: the policy that was found on CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import places, tones
from .operations import Operation, apply, check_images

LEVELS = 10  # 0..9


def _linear(first: float, last: float) -> tuple[float, ...]:
    return tuple(first + (last - first) * i / (LEVELS - 1) for i in range(LEVELS))


# What the ten levels of an operation mean; and whether the sign, or for an enhancement the side of 1, is drawn.
_SHIFT = _linear(0, 150 / 331)  # the paper's 150 pixels of a 331 pixel image, as a share
_ENHANCE = _linear(0, 0.9)
_UNUSED = (0.0,) * LEVELS
SCALES: dict[str, tuple[Operation, tuple[float, ...], bool]] = {
    "shear_x": (places.shear_x, _linear(0, 0.3), True),
    "shear_y": (places.shear_y, _linear(0, 0.3), True),
    "translate_x": (places.translate_x, _SHIFT, True),
    "translate_y": (places.translate_y, _SHIFT, True),
    "rotate": (places.rotate, _linear(0, 30), True),
    "brightness": (tones.brightness, _ENHANCE, True),
    "colour": (tones.colour, _ENHANCE, True),
    "contrast": (tones.contrast, _ENHANCE, True),
    "sharpness": (tones.sharpness, _ENHANCE, True),
    "posterise": (tones.posterise, tuple(float(8 - round(i * 4 / (LEVELS - 1))) for i in range(LEVELS)), False),
    "solarise": (tones.solarise, _linear(255, 0), False),
    "autocontrast": (tones.autocontrast, _UNUSED, False),
    "equalise": (tones.equalise, _UNUSED, False),
    "invert": (tones.invert, _UNUSED, False),
    "identity": (tones.identity, _UNUSED, False),
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
