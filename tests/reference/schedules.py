"""Schedules as functions of the 1-based epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence


def cosine_warmup(
    epoch: int, *, lr: float, epochs: int, warmup_epochs: int, warmup_factor: float, min_lr: float
) -> float:
    """Linear from ``warmup_factor * lr`` while epoch < warmup_epochs, then cosine to ``min_lr`` at
    the last epoch."""
    if epoch < warmup_epochs:
        return lr * (warmup_factor + (1 - warmup_factor) * epoch / warmup_epochs)
    r = (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * r)) / 2


def steps(epoch: int, *, lr: float, milestones: Sequence[int], rate: float) -> float:
    """lr times rate for every milestone strictly below the epoch."""
    return lr * rate ** sum(milestone < epoch for milestone in milestones)


def ctkd_cosine(epoch: int, *, loops: int, start: float = 0.0, end: float = -1.0) -> float:
    """lambda(e): from ``start`` to ``end`` along a cosine over ``loops`` epochs."""
    r = min(epoch, loops) / loops
    return (math.cos(math.pi * r) + 1) / 2 * (start - end) + end


def ctkd_linear(epoch: int, *, loops: int, start: float = 0.0, end: float = -1.0) -> float:
    """As published: the epoch stops at loops - 1, and the line starts at 0 whatever ``start``
    is."""
    return (end - start) / loops * min(epoch, loops - 1)
