"""Means over rows, and evaluation piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .._typing import Float
from .logits import Logits


def weighted_mean(x: Float[Tensor, " n"], weight: Float[Tensor, " n"] | None) -> Float[Tensor, ""]:
    """sum(weight * x) / sum(weight); 0 with a graph when there are no rows or no weight.

    Example:
        >>> import torch
        >>> weighted_mean(torch.tensor([1.0, 3.0]), torch.tensor([3.0, 1.0]))
        tensor(1.5000)
    """
    if weight is None:
        return x.sum() / max(1, x.shape[0])
    total = weight.sum()
    return (weight * x).sum() / torch.where(total == 0, torch.ones_like(total), total)


def chunks(lg: Logits, size: int) -> Iterator[Logits]:
    """The rows in pieces of at most ``size``; one empty piece if there are no rows."""
    if size < 1:
        raise ValueError(f"rows.chunks: a chunk needs at least 1 row, got {size}")
    for start in range(0, max(1, lg.rows), size):
        yield lg[start : start + size]


def chunked(loss: Callable[[Logits], dict[str, Tensor]], lg: Logits, size: int) -> dict[str, Float[Tensor, " n"]]:
    """Evaluate a row-wise loss piece by piece: the same rows, a fraction of the temporary memory.

    Args:
        loss: a function of rows that returns named ``[n]`` values, for example
            ``lambda part: method.components(part, progress)``.
        lg: all rows.
        size: rows per piece.
    """
    pieces = [loss(part) for part in chunks(lg, size)]
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
