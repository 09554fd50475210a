"""LSKD (section 12): z-score every row of both networks, then any loss; CTKD (section 15): a
learned temperature."""

from __future__ import annotations

import torch
from torch import Tensor


def standardize(z: Tensor) -> Tensor:
    """(z - mean) / (std + 1e-7), std with ddof 1; the statistics are differentiated."""
    rows = [(row - row.mean()) / (row.std(unbiased=True) + 1e-7) for row in z]
    return torch.stack(rows)


def ctkd_temperature(parameter: Tensor, *, start: float, end: float) -> Tensor:
    """T = t_start + t_end sigmoid(theta)."""
    return start + end * torch.sigmoid(parameter)


def ctkd_parameter_gradient(total: Tensor, parameter: Tensor, gradient_weight: float) -> Tensor:
    """What the parameter's optimizer sees: the gradient times lambda (negative = reversed)."""
    (grad,) = torch.autograd.grad(total, parameter, retain_graph=True)
    return gradient_weight * grad
