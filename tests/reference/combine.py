"""Combine rules (section 43) on a matrix ``[k, d]`` with one gradient per row, as their formulas are written down.

A rule returns the direction ``[d]`` and the weights ``[k]`` with which it is a sum of the rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

Found = tuple[Tensor, Tensor]


def total(g: Tensor) -> Found:
    """The sum."""
    return g.sum(0), torch.ones(len(g), dtype=g.dtype)


def min_norm(g: Tensor) -> Found:
    """The shortest vector among sum_i w_i g_i, w_i >= 0, sum_i w_i = 1: the best of the best over every set of rows.

    Over a set alone and without w >= 0 it solves G w = c 1; a set whose solution has a negative weight is no candidate.
    """
    best = torch.full((len(g),), torch.inf, dtype=g.dtype)
    for count in range(1, len(g) + 1):
        for rows in itertools.combinations(range(len(g)), count):
            chosen = g[list(rows)]
            system = torch.zeros(count + 1, count + 1, dtype=g.dtype)
            system[:count, :count], system[:count, count], system[count, :count] = chosen @ chosen.T, 1, 1
            right = torch.zeros(count + 1, dtype=g.dtype)
            right[count] = 1
            w = torch.zeros(len(g), dtype=g.dtype)
            w[list(rows)] = (torch.linalg.pinv(system) @ right)[:count]
            fits = bool((w >= -1e-12).all()) and abs(float(w.sum()) - 1) < 1e-9
            if fits and (not best.isfinite().all() or float((w @ g).norm()) < float((best @ g).norm()) - 1e-15):
                best = w
    return best @ g, best


def min_norm_of_logs(g: Tensor, losses: Tensor) -> Found:
    """DTO-KD: min_norm of the gradients of log L_i, which are g_i / L_i."""
    direction, w = min_norm(g / losses[:, None])
    return direction, w / losses


def pcgrad(g: Tensor, orders: Sequence[Sequence[int]]) -> Found:
    """Row i loses its part against row j, one j after the other in the order ``orders[i]``; the results are added."""
    projected, weights = g.clone(), torch.eye(len(g), dtype=g.dtype)
    for i, order in enumerate(orders):
        for j in order:
            product = projected[i] @ g[j]
            if j != i and product < 0:
                share = product / (g[j] @ g[j])
                projected[i] -= share * g[j]
                weights[i, j] -= share
    return projected.sum(0), weights.sum(0)
