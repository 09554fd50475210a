"""Which classes the teacher ranks first; equal logits are ordered by class index, on every device."""

from __future__ import annotations

from torch import Tensor

from .._typing import Float, Int
from ..rows import can_look


def top_classes(logits: Float[Tensor, "n c"], k: int, *, largest: bool = True) -> Int[Tensor, "n k"]:
    """Indices of the k largest (or smallest) logits of each row, best first, ties towards the lower index.

    ``torch.topk`` leaves the order of equal values open, so a partition could depend on the kernel. On CPU only
    the rows that have equal values among the first k + 1 are sorted again, which costs far less than sorting
    all; where values must not be read (CUDA, compile) every row is sorted stably.

    Args:
        logits: ``[n, c]``.
        k: 1..c.

    Example:
        >>> import torch
        >>> top_classes(torch.tensor([[1.0, 2.0, 2.0, 0.0]]), 2)
        tensor([[1, 2]])
    """
    n, c = logits.shape
    if not can_look(logits):
        return logits.sort(dim=1, descending=largest, stable=True).indices[:, :k]
    values, index = logits.topk(min(k + 1, c), dim=1, largest=largest)
    tied = (values[:, 1:] == values[:, :-1]).any(1)
    if n and bool(tied.any()):
        again = logits[tied].sort(dim=1, descending=largest, stable=True).indices
        index = index.clone()
        index[tied] = again[:, : index.shape[1]]
    return index[:, :k]
