"""The chain rule over a partition (methods.md, section 1), group by group and row by row.

A partition is written out in full: for each row a list of groups, each a list of class indices.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .basics import kl, ranked

Groups = list[list[int]]


class Split(NamedTuple):
    """T^2 KL of the masses ``[n]``, T^2 KL inside each group ``[n, g]``, the teacher's masses ``[n,
    g]``."""

    between: Tensor
    within: Tensor
    mass: Tensor


def split_kl(
    student: Tensor,
    teacher: Tensor,
    partition: list[Groups],
    temperature: float | Tensor = 1.0,
    direction: str = "forward",
) -> Split:
    rows = [
        _split_row(s / temperature, t / temperature, groups, direction)
        for s, t, groups in zip(student, teacher, partition, strict=True)
    ]
    between, within, mass = (torch.stack([row[i] for row in rows]) for i in range(3))
    return Split(temperature**2 * between, temperature**2 * within, mass)


def _split_row(s: Tensor, t: Tensor, groups: Groups, direction: str) -> tuple[Tensor, ...]:
    between, within, mass = s.sum() * 0, [], []
    for group in groups:
        if not group:  # 0 log 0 = 0
            within.append(s.sum() * 0)
            mass.append(t.sum() * 0)
            continue
        log_b_t = torch.logsumexp(t[group], 0) - torch.logsumexp(t, 0)
        log_b_s = torch.logsumexp(s[group], 0) - torch.logsumexp(s, 0)
        between = between + log_b_t.exp() * (log_b_t - log_b_s)
        within.append(_inside(s[group], t[group], direction))
        mass.append(log_b_t.exp())
    return between, torch.stack(within), torch.stack(mass)


def _inside(s: Tensor, t: Tensor, direction: str) -> Tensor:
    """KL between the two softmaxes restricted to one group."""
    log_p, log_q = t - torch.logsumexp(t, 0), s - torch.logsumexp(s, 0)
    forward, reverse = kl(log_p, log_q), kl(log_q, log_p)
    return {"forward": forward, "reverse": reverse, "both": (forward + reverse) / 2}[direction]


def with_rest(listed: list[Groups], classes: int) -> list[Groups]:
    """Append to each row the group of all classes that are in none of its groups."""
    rows = []
    for groups in listed:
        taken = {c for group in groups for c in group}
        rows.append([*groups, [c for c in range(classes) if c not in taken]])
    return rows


def whole(teacher: Tensor) -> list[Groups]:
    return with_rest([[] for _ in teacher], teacher.shape[1])


def by_target(teacher: Tensor, target: Tensor) -> list[Groups]:
    return with_rest([[[int(y)]] for y in target], teacher.shape[1])


def by_teacher_top1(teacher: Tensor) -> list[Groups]:
    return by_top(teacher, 1)


def by_top(teacher: Tensor, k: int, *, largest: bool = True) -> list[Groups]:
    return with_rest([[ranked(t, largest=largest)[:k]] for t in teacher], teacher.shape[1])


def by_top1_top(teacher: Tensor, k: int) -> list[Groups]:
    return with_rest([[ranked(t)[:1], ranked(t)[1:k]] for t in teacher], teacher.shape[1])


def by_target_top(teacher: Tensor, target: Tensor, k: int, *, count_target: bool = True) -> list[Groups]:
    """{label}, {kept}, {dropped}; the best non-target is kept if the rule leaves none."""
    rows = []
    for t, label in zip(teacher, target, strict=True):
        y = int(label)
        others = [c for c in ranked(t) if c != y]
        kept = [c for c in ranked(t)[:k] if c != y] if count_target else others[:k]
        rows.append([[y], kept or others[:1]])
    return with_rest(rows, teacher.shape[1])


def by_mass(teacher: Tensor, theta: float, temperature: float) -> list[Groups]:
    """Shortest prefix of the ranking with mass >= theta, at most C - 1 classes; the rest."""
    rows = []
    for t in teacher:
        p, order = torch.softmax(t / temperature, 0), ranked(t)
        size = 1
        while size < len(order) - 1 and float(p[order[:size]].sum()) < theta:
            size += 1
        rows.append([order[:size]])
    return with_rest(rows, teacher.shape[1])
