"""NKD (section 17), TTM and WTTM (section 18), the OFA loss (section 19): cross-entropy-like
losses."""

from __future__ import annotations

import torch
from torch import Tensor

from .basics import kl, log_softmax, softmax


def nkd(student: Tensor, teacher: Tensor, target: Tensor, *, temperature: float) -> dict[str, Tensor]:
    """-a_1 log sigma_1 at T = 1, and -T^2 sum of hat p log hat q over the non-targets."""
    p, log_q = softmax(teacher), log_softmax(student)
    first, second = [], []
    for i, label in enumerate(target):
        y = int(label)
        others = [c for c in range(student.shape[1]) if c != y]
        first.append(-p[i, y] * log_q[i, y])
        hat_p = softmax(teacher[i, others] / temperature)
        log_hat_q = log_softmax(student[i, others] / temperature)
        second.append(-(temperature**2) * (hat_p * log_hat_q).sum())
    return {"target": torch.stack(first), "nontarget": torch.stack(second)}


def ttm(student: Tensor, teacher: Tensor, *, power: float) -> Tensor:
    """KL(softmax(l z^T) || softmax(z^S)), no T^2."""
    return kl(log_softmax(power * teacher), log_softmax(student))


def wttm(student: Tensor, teacher: Tensor, *, power: float) -> Tensor:
    """TTM, each row times U = sum over classes of (teacher probability)^l."""
    u = (softmax(teacher) ** power).sum(1)
    return u * ttm(student, teacher, power=power)


def ofa(student: Tensor, teacher: Tensor, target: Tensor, *, gamma: float, temperature: float) -> Tensor:
    """-sum_c [(p_c + 1[c = y])^gamma - 1[c = y]] log q_c, no T^2."""
    label = torch.nn.functional.one_hot(target, student.shape[1]).to(student.dtype)
    r = (softmax(teacher / temperature) + label) ** gamma - label
    return -(r * log_softmax(student / temperature)).sum(1)
