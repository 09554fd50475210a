"""Slow twins of the directions of a split and of weighted rows: definitions on probabilities, row after row."""

from __future__ import annotations

import torch
from torch import Tensor

from fractionate import Direction


def mixture(direction: Direction, p: Tensor, q: Tensor) -> Tensor:
    """M of a mixture from the teacher's p and the student's q."""
    if direction.name == "skew_reverse":
        return (1 - direction.weight) * p + direction.weight * q
    return direction.weight * p + (1 - direction.weight) * q


def divergence(direction: Direction, p: Tensor, q: Tensor) -> Tensor:
    """The divergence of two vectors of probabilities; also of masses."""

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (a * (a.log() - b.log())).sum()

    if direction.name == "forward":
        return kl(p, q)
    if direction.name == "reverse":
        return kl(q, p)
    m = mixture(direction, p, q)
    if direction.name == "jsd":
        return direction.weight * kl(p, m) + (1 - direction.weight) * kl(q, m)
    return kl(p if direction.name == "skew" else q, m)


def inside(direction: Direction, p: Tensor, q: Tensor, group: list[int]) -> Tensor:
    """The divergence inside a group of classes; against a mixture, times its masses."""
    a, b = p[group].sum(), q[group].sum()
    if direction.name in ("forward", "reverse"):
        return divergence(direction, p[group] / a, q[group] / b)
    m = mixture(direction, p, q)[group]
    m = m / m.sum()

    def side(mass: Tensor, x: Tensor) -> Tensor:
        x = x[group] / mass
        return mass * (x * (x.log() - m.log())).sum()

    if direction.name == "jsd":
        return direction.weight * side(a, p) + (1 - direction.weight) * side(b, q)
    return side(a, p) if direction.name == "skew" else side(b, q)


def split(
    direction: Direction, student: Tensor, teacher: Tensor, groups: list[list[list[int]]], temperature: float
) -> tuple[Tensor, Tensor]:
    """``between`` [n] and ``within`` [n, g], T^2 included, for the groups of every row."""
    between, within = [], []
    for z, t, parts in zip(student, teacher, groups, strict=True):
        q, p = (z / temperature).softmax(0), (t / temperature).softmax(0)
        masses = (torch.stack([x[g].sum() for g in parts]) for x in (p, q))
        between.append(divergence(direction, *masses))
        within.append(torch.stack([inside(direction, p, q, g) for g in parts]))
    return temperature**2 * torch.stack(between), temperature**2 * torch.stack(within)


def soft_labels(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """WSLD's term of every row (ICLR 2021): T^2 (1 - exp(-CE_S / CE_T)) times the soft cross-entropy at T."""
    rows = []
    for z, t, y in zip(student, teacher, labels.tolist(), strict=True):
        ratio = z.softmax(0)[y].log() / t.softmax(0)[y].log()
        soft = -((t / temperature).softmax(0) * (z / temperature).softmax(0).log()).sum()
        rows.append(temperature**2 * (1 - (-ratio.detach()).exp()) * soft)
    return torch.stack(rows)
