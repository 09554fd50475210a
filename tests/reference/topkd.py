"""TopKD (section 11): scaled top logits, cosine on three groups, contrast between whole logit
vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from .basics import cross_entropy, ranked


def scale_top(
    teacher: Tensor,
    target: Tensor,
    *,
    k: int,
    gamma: float = 0.5,
    lam: float = 0.1,
    kappa: float = 0.5,
    literal: bool = False,
) -> Tensor:
    """v': the k largest logits and the label raised, everything else as it was."""
    rows = []
    for v, label in zip(teacher, target, strict=True):
        y, order = int(label), ranked(v)
        top, rest = order[:k], order[k:]
        delta = lam * (v[top].mean() - v[rest].mean())
        weight = {c: 1 + gamma * (k - rank) / k for rank, c in enumerate(top)}
        if order[0] != y:
            weight[y] = 1 + gamma + kappa
        scaled = v.clone()
        for c, w in weight.items():
            scaled[c] = w * v[c] + delta if literal else v[c] + (w - 1) * v[c].abs() + delta
        rows.append(scaled)
    return torch.stack(rows)


def top_cosine(
    student: Tensor,
    scaled: Tensor,
    teacher: Tensor,
    *,
    k: int,
    alpha: float = 2.0,
    beta: float = 1.0,
    center: bool = False,
) -> Tensor:
    """alpha (1 - cos on the k largest) + beta (1 - cos on the k smallest) + (1 - cos on the
    others), per row."""
    if center:
        student = student - student.mean(1, keepdim=True)
        scaled = scaled - scaled.mean(1, keepdim=True)
    rows = []
    for z, v, raw in zip(student, scaled, teacher, strict=True):
        order = ranked(raw)
        top, bottom = order[:k], order[len(order) - k :]
        middle = order[k : len(order) - k]
        row = alpha * (1 - _cosine(z[top], v[top])) + beta * (1 - _cosine(z[bottom], v[bottom]))
        rows.append(row + (1 - _cosine(z[middle], v[middle])) if middle else row)
    return torch.stack(rows)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.norm().clamp(min=1e-8) * b.norm().clamp(min=1e-8))


def logit_contrast(student: Tensor, teacher: Tensor, *, tau: float = 0.07) -> Tensor:
    """Each row's student and teacher vectors should find each other within the batch, in both
    directions, per row."""
    if len(student) < 2:
        return student.sum(1) * 0
    s = torch.stack([row / row.norm().clamp(min=1e-8) for row in student])
    t = torch.stack([row / row.norm().clamp(min=1e-8) for row in teacher])
    similarity, own = s @ t.T / tau, torch.arange(len(student))
    return (cross_entropy(similarity, own) + cross_entropy(similarity.T, own)) / 2
