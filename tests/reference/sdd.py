"""SDD (section 22): the classifier on pooled regions; rows are regions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def region_logits(features: Tensor, weight: Tensor, bias: Tensor | None, scales: Sequence[int]) -> Tensor:
    """``[n, d, h, w]`` features -> ``[n, N, C]`` logits of the mean feature of each cell of each
    grid."""
    n, _, h, w = features.shape
    regions = []
    for m in scales:
        for i in range(m):
            for j in range(m):
                # the cell [i/m, (i+1)/m): starts are rounded down and ends up, as adaptive pooling
                # does
                rows = slice(i * h // m, -(-(i + 1) * h // m))
                columns = slice(j * w // m, -(-(j + 1) * w // m))
                regions.append(features[:, :, rows, columns].mean((2, 3)))
    pooled = torch.stack(regions, 1) if n else features.new_zeros(0, len(regions), features.shape[1])
    logits = pooled @ weight.T
    return logits if bias is None else logits + bias


def region_weights(teacher_regions: Tensor, target: Tensor) -> Tensor:
    """``[n, N]``: 2 where exactly one of the global and the region prediction is right, else 1."""
    right = teacher_regions.argmax(2) == target[:, None]
    return 1.0 + (right != right[:, :1]).double()
