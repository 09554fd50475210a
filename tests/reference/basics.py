"""What every twin needs: softmax in the log domain, KL and cross-entropy, one value per row."""

from __future__ import annotations

import torch
from torch import Tensor


def log_softmax(z: Tensor) -> Tensor:
    return z - torch.logsumexp(z, dim=-1, keepdim=True)


def softmax(z: Tensor) -> Tensor:
    return log_softmax(z).exp()


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """sum p log(p / q) over the last dimension."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def kd(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """T^2 KL(p^T || p^S) of each row."""
    t = log_softmax(teacher / temperature)
    return temperature**2 * kl(t, log_softmax(student / temperature))


def cross_entropy(student: Tensor, target: Tensor) -> Tensor:
    """-log p_y for labels, -sum_c y_c log p_c for soft labels, of each row."""
    log_p = log_softmax(student)
    if target.is_floating_point():
        return -(target * log_p).sum(-1)
    return -torch.stack([log_p[i, int(y)] for i, y in enumerate(target)])


def ranked(values: Tensor, *, largest: bool = True) -> list[int]:
    """Classes of one row from best to worst; equal values in the order of the class index."""
    sign, numbers = (-1 if largest else 1), values.tolist()
    return sorted(range(len(numbers)), key=lambda c: (sign * numbers[c], c))


def warmup(epoch: int, epochs: int) -> float:
    """W(e) = min(e / W, 1); W <= 1 means none."""
    return 1.0 if epochs <= 1 else min(epoch / epochs, 1.0)
