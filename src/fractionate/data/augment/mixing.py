"""Mixup and CutMix: pairs of images of a batch, and their labels, in shares."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._typing import Int
from ..batch import Batch, sent


@dataclass(frozen=True)
class Mix:
    """One batch's mixture.

    Args:
        partner: ``[n]`` the other image of every pair, on the CPU.
        share: of the image itself; the partner has the rest.
        box: rows and columns ``(top, bottom, left, right)`` that show the partner (CutMix);
            ``None`` blends all (mixup).
    """

    partner: Int[Tensor, " n"]
    share: float
    box: tuple[int, int, int, int] | None = None


def draw(n: int, size: tuple[int, int], mixup: float, cutmix: float, generator: torch.Generator) -> Mix:
    """A mixture for a batch: by mixup or by CutMix, with equal chance where both are on.

    Args:
        n: images of the batch.
        size: their height and width.
        mixup: parameter a of Beta(a, a), from which the share is drawn; 0 = off.
        cutmix: the same.
        generator: on the CPU.

    Example:
        >>> draw(4, (8, 8), mixup=0.0, cutmix=1.0, generator=torch.Generator().manual_seed(1)).box is None
        False
    """
    partner = torch.randperm(n, generator=generator)
    rng = random.Random(int(torch.randint(2**62, (), generator=generator)))  # torch draws Beta from no generator
    paste = rng.random() < 0.5 if mixup and cutmix else bool(cutmix)
    alpha = cutmix if paste else mixup
    share = rng.betavariate(alpha, alpha)
    if not paste:
        return Mix(partner, share)
    box = _box(size, math.sqrt(1 - share), rng)
    top, bottom, left, right = box
    return Mix(partner, 1 - (bottom - top) * (right - left) / (size[0] * size[1]), box)


def mixed(batch: Batch, mix: Mix, num_classes: int) -> Batch:
    """The batch with its pairs mixed: both views in the same way, labels soft, ``[n, c]`` float32.

    Args:
        batch: with labels ``[n]``, or without any.
        mix: what is mixed.
        num_classes: c.

    Source: mixup, Zhang et al., arXiv 1710.09412; CutMix, Yun et al., arXiv 1905.04899.

    Example:
        >>> batch = Batch(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), torch.arange(2))
        >>> mixed(batch, Mix(torch.tensor([1, 0]), share=0.75), num_classes=2).target.tolist()
        [[0.75, 0.25], [0.25, 0.75]]
    """
    partner = sent(mix.partner, batch.images.device)
    labelled = batch.labelled != 0
    target = F.one_hot(batch.target, num_classes).float() if labelled else batch.target
    return replace(
        batch,
        images=_pixels(batch.images, partner, mix),
        strong=None if batch.strong is None else _pixels(batch.strong, partner, mix),
        target=mix.share * target + (1 - mix.share) * target[partner] if labelled else target,
        variant=None,
    )


def _pixels(images: Tensor, partner: Tensor, mix: Mix) -> Tensor:
    if mix.box is None:
        return mix.share * images + (1 - mix.share) * images[partner]
    top, bottom, left, right = mix.box
    pasted = images.clone()
    pasted[:, :, top:bottom, left:right] = images[:, :, top:bottom, left:right][partner]
    return pasted


def _box(size: tuple[int, int], side: float, rng: random.Random) -> tuple[int, int, int, int]:
    """Rows and columns of a box around a uniform centre, ``side`` of the image in both directions, clipped."""
    bounds: list[int] = []
    for length in size:
        centre, half = rng.randrange(length), int(length * side) // 2
        bounds += [max(0, centre - half), min(length, centre + half)]
    return bounds[0], bounds[1], bounds[2], bounds[3]
