"""MLKD (section 13) and CRLD (section 14): two views, confidence masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .basics import cross_entropy, kd, softmax

Inner = Callable[[Tensor, Tensor], Tensor]


class Views(NamedTuple):
    """Raw logits of both networks on both views."""

    student_weak: Tensor
    student_strong: Tensor
    teacher_weak: Tensor
    teacher_strong: Tensor


def class_correlation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """|P_T' P_T - P_S' P_S|_F^2 / C, no T^2."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return ((p.T @ p - q.T @ q) ** 2).sum() / student.shape[1]


def batch_correlation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """|P_T P_T' - P_S P_S'|_F^2 / n, no T^2."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return ((p @ p.T - q @ q.T) ** 2).sum() / student.shape[0]


def unsure_rows(teacher: Tensor) -> Tensor:
    """[n] the rows whose largest probability (T = 1) is at or below the batch median."""
    confidence = softmax(teacher).max(1).values
    return confidence <= torch.quantile(confidence, 0.5)


def unsure_classes(teacher: Tensor) -> Tensor:
    """[C] the classes whose summed probability is at or below the median class."""
    confidence = softmax(teacher).sum(0)
    return confidence <= torch.quantile(confidence, 0.5)


def mlkd_published(v: Views, temperatures: Sequence[float], raw: Views) -> dict[str, Tensor]:
    """As coded: the masks shrink to the fractions of selected rows and classes, and the fourth and
    fifth strong terms read the weak view. ``v`` may be standardised; masks and correlation terms
    read the ``raw`` logits."""
    rows = unsure_rows(raw.teacher_weak).double().mean()
    classes = unsure_classes(raw.teacher_weak).double().mean()
    weak = sum(kd(v.student_weak, v.teacher_weak, t).mean() for t in temperatures)
    strong_views = [(v.student_strong, v.teacher_strong)] * 3 + [(v.student_weak, v.teacher_weak)] * 2
    strong = sum(kd(s, t, temperature).mean() for (s, t), temperature in zip(strong_views, temperatures, strict=True))
    cc = sum(class_correlation(raw.student_weak, raw.teacher_weak, t) for t in temperatures)
    bc = sum(batch_correlation(raw.student_weak, raw.teacher_weak, t) for t in temperatures)
    return {"kd": rows * weak + strong, "cc": classes * cc, "bc": rows * bc}


def mlkd_masked(v: Views, temperatures: Sequence[float]) -> dict[str, Tensor]:
    """As described: weak KD of the unsure rows only (the others count as 0), BC among them, CC
    among the unsure classes; strong KD of every row on its own view."""
    rows, classes = unsure_rows(v.teacher_weak), unsure_classes(v.teacher_weak)
    n, c = v.student_weak.shape
    weak = sum(kd(v.student_weak, v.teacher_weak, t) for t in temperatures) * rows
    strong = sum(kd(v.student_strong, v.teacher_strong, t) for t in temperatures)
    cc = bc = v.student_weak.sum() * 0
    for t in temperatures:
        p, q = softmax(v.teacher_weak / t), softmax(v.student_weak / t)
        bc = bc + ((p[rows] @ p[rows].T - q[rows] @ q[rows].T) ** 2).sum() / n
        a, b = p[:, classes], q[:, classes]
        cc = cc + ((a.T @ a - b.T @ b) ** 2).sum() / c
    return {"weak": weak, "strong": strong, "cc": cc, "bc": bc}


def both_views_cross_entropy(v: Views, target: Tensor) -> Tensor:
    return cross_entropy(v.student_weak, target) + cross_entropy(v.student_strong, target)


def confident(teacher: Tensor, threshold: float) -> Tensor:
    """[n] 1 where the largest probability (T = 1) reaches the threshold."""
    return (softmax(teacher).max(1).values >= threshold).to(teacher.dtype)


def crld(v: Views, *, inner: Inner, tau_weak: float, tau_strong: float, published: bool = False) -> dict[str, Tensor]:
    """Within-view and cross-view sums of ``inner(student, teacher)`` ``[n]``, unweighted.

    A row counts where the teacher is confident on the weak (strong) view; ``published=True``
    multiplies the batch means by the fraction of such rows instead.
    """
    weak, strong = confident(v.teacher_weak, tau_weak), confident(v.teacher_strong, tau_strong)
    if published:
        weak, strong = weak.mean().expand_as(weak), strong.mean().expand_as(strong)
    within = inner(v.student_weak, v.teacher_weak) + inner(v.student_strong, v.teacher_strong)
    across = inner(v.student_strong, v.teacher_weak) + inner(v.student_weak, v.teacher_strong)
    return {"within_view": weak * within, "cross_view": strong * across}
