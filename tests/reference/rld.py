"""RLD (section 20) and the SLD swap (section 21): teachers corrected with the label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .basics import cross_entropy, kd, kl, log_softmax, ranked


def rld(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    temperature: float,
    alpha_temperature: float,
) -> dict[str, Tensor]:
    """SCD at T_a, MCD at T inside the classes that the teacher puts strictly below the label."""
    scd, mcd = [], []
    for s, t, label in zip(student, teacher, target, strict=True):
        y, top = int(label), ranked(t)[0]
        scd.append(alpha_temperature**2 * kl(_binary(t / alpha_temperature, top), _binary(s / alpha_temperature, y)))
        below = [c for c in range(len(t)) if float(t[c]) < float(t[y])]
        inside = kl(log_softmax(t[below] / temperature), log_softmax(s[below] / temperature))
        mcd.append(temperature**2 * inside if below else s.sum() * 0)
    return {"scd": torch.stack(scd), "mcd": torch.stack(mcd)}


def _binary(z: Tensor, c: int) -> Tensor:
    """log of (p_c, 1 - p_c)."""
    others = [i for i in range(len(z)) if i != c]
    return log_softmax(torch.stack([z[c], torch.logsumexp(z[others], 0)]))


def swap(logits: Tensor, target: Tensor) -> Tensor:
    """Exchange the label's entry with the largest one wherever the largest is not the label."""
    rows = []
    for z, label in zip(logits, target, strict=True):
        order, top, y = list(range(len(z))), ranked(z)[0], int(label)
        order[y], order[top] = top, y
        rows.append(z[order])
    return torch.stack(rows) if rows else logits


def sld(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    temperatures: Sequence[float],
    with_student: bool,
    detach: bool,
) -> Tensor:
    """KD to the swapped teacher, plus (late in training) to the swapped student; one view."""
    aims = [swap(teacher, target)]
    if with_student:
        swapped = swap(student, target)
        aims.append(swapped.detach() if detach else swapped)
    return sum((kd(student, aim, t) for aim in aims for t in temperatures), student.sum(1) * 0)


def sld_two_views(
    views: Sequence[tuple[Tensor, Tensor]], target: Tensor, *, with_student: bool, detach: bool
) -> dict[str, Tensor]:
    """CE and SLD with T = 1..6 summed over the views (student, teacher)."""
    temperatures = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    losses = [sld(s, t, target, temperatures=temperatures, with_student=with_student, detach=detach) for s, t in views]
    return {"task": sum(cross_entropy(s, target) for s, _ in views), "kd": sum(losses)}
