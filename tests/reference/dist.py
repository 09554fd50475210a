"""DIST (section 16): Pearson correlation of probabilities along rows and along classes."""

from __future__ import annotations

import torch
from torch import Tensor

from .basics import softmax


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Cosine of the centred vectors; 1e-8 added to the product of the norms."""
    x, y = x - x.mean(), y - y.mean()
    return (x * y).sum() / (x.norm() * y.norm() + 1e-8)


def dist(student: Tensor, teacher: Tensor, *, temperature: float) -> dict[str, Tensor]:
    """T^2 (1 - rho) per row (``inter``) and as one number over the classes (``intra``)."""
    q, p = softmax(student / temperature), softmax(teacher / temperature)
    rows = torch.stack([pearson(a, b) for a, b in zip(q, p, strict=True)])
    columns = torch.stack([pearson(a, b) for a, b in zip(q.T, p.T, strict=True)])
    square = temperature**2
    return {"inter": square * (1 - rows), "intra": square * (1 - columns.mean())}
