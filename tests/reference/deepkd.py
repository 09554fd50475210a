"""DeepKD's losses and its three-phase top-k mask (sections 9.1, 9.2)."""

from __future__ import annotations

import math

from torch import Tensor

from .dkd import dkd, target_mass
from .split import by_target_top, split_kl


def components(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    temperature: float,
    keep: int = 0,
    count_target: bool = True,
) -> dict[str, Tensor]:
    """TCKD over all classes, NCKD over the kept non-targets (``keep=0``: all of them)."""
    full = dkd(student, teacher, target, temperature=temperature)
    if not keep:
        return full
    partition = by_target_top(teacher, target, keep, count_target=count_target)
    masked = split_kl(student, teacher, partition, temperature)
    return {"target": full["target"], "nontarget": masked.within[:, 1]}


def kd_mode(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    temperature: float,
    keep: int = 0,
    form: str = "per_row",
) -> dict[str, Tensor]:
    """KD in streams: NCKD times 1 - a, per row or as the product of the two batch means."""
    terms = components(student, teacher, target, temperature=temperature, keep=keep)
    rest = 1 - target_mass(teacher, target, temperature)
    if form == "batch_means":
        rest = rest.mean().expand_as(rest)
    return {"target": terms["target"], "nontarget": rest * terms["nontarget"]}


def kept_classes(r: float, classes: int, plateau: float, start: float = 0.05) -> int:
    """k(r): from 5 % of the classes to ``plateau`` classes, hold, to all; r is the fraction of
    training."""
    k0 = max(2.0, start * classes)
    if not k0 <= plateau <= classes:
        raise ValueError(f"expected {k0} <= plateau <= {classes}, got {plateau}")
    if r < 0.3:
        f = k0 + (plateau - k0) * r / 0.3
    elif r < 0.7:
        f = plateau
    else:
        f = plateau + (classes - plateau) * (r - 0.7) / 0.3
    return min(classes, max(2, math.floor(f + 0.5)))


def epoch_fraction(epoch: int, epochs: int) -> float:
    return 0.0 if epochs == 1 else (epoch - 1) / (epochs - 1)
