"""Logits of image regions: the classifier on the mean feature of every cell of several grids (SDD)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._typing import Float
from ..kernels import widen
from ..rows import Logits


def region_logits(
    features: Float[Tensor, "n d h w"], head: nn.Linear, scales: Sequence[int] = (1, 2, 4)
) -> Float[Tensor, "m c"]:
    """``[n * r, c]`` logits of the r = sum of s^2 regions of every image, the regions of an image one after the other.

    Args:
        features: ``[n, d, h, w]`` the last feature map, before pooling.
        head: the linear layer that follows the pooling.
        scales: sizes of the grids; scale 1 is the whole image, so its logits are the network's own.

    Source: arXiv 2403.13512.

    Example:
        >>> region_logits(torch.zeros(2, 8, 4, 4), nn.Linear(8, 10), (1, 2)).shape
        torch.Size([10, 10])
    """
    cells = [F.adaptive_avg_pool2d(features, s).flatten(2) for s in scales]
    return head(torch.cat(cells, 2).movedim(2, 1).flatten(0, 1))


def with_regions(
    lg: Logits,
    student: tuple[Float[Tensor, "n d h w"], nn.Linear],
    teacher: tuple[Float[Tensor, "n e i j"], nn.Linear],
    scales: Sequence[int] = (1, 2, 4),
) -> Logits:
    """The same rows with the logits of their regions, as ``fractionate.methods.sdd`` reads them.

    Args:
        lg: rows, one per image.
        student: its last feature map and its linear head.
        teacher: the same two of the teacher; the maps may differ in size.
        scales: as in :func:`region_logits`.

    Example:
        >>> lg = Logits(torch.zeros(2, 10), torch.zeros(2, 10), torch.tensor([1, 2]))
        >>> maps = torch.zeros(2, 8, 4, 4), nn.Linear(8, 10)
        >>> with_regions(lg, maps, maps, (1, 2)).regions.target
        tensor([1, 1, 1, 1, 1, 2, 2, 2, 2, 2])
    """
    own, other = (region_logits(features, head, scales) for features, head in (student, teacher))
    count = sum(s * s for s in scales)
    regions = Logits(own, other.to(own.dtype), lg.target.repeat_interleave(count, 0))
    return replace(lg, regions=regions)


def region_weights(lg: Logits, count: int) -> Float[Tensor, "n r"]:
    """``[n, r]``: 2 where exactly one of the teacher's global and regional predictions is right, else 1.

    Args:
        lg: rows with ``regions``, the first of every row being the whole image.
        count: r, regions per row.

    Source: arXiv 2403.13512 (consistent and complementary regions).
    """
    if lg.regions is None or lg.regions.rows != lg.rows * count:
        found = 0 if lg.regions is None else lg.regions.rows
        raise ValueError(f"sdd: expected {count} regions for each of {lg.rows} rows, got {found} in all")
    best = lg.regions.rank_by.argmax(1)
    right = (best == lg.regions.labels).view(lg.rows, count)
    return 1 + (right != right[:, :1]).to(widen(lg.student).dtype)
