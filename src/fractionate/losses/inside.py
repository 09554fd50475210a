"""KL inside one set of classes per row, where nothing else of the split is needed."""

from __future__ import annotations

import torch
from torch import Tensor

from .._typing import Bool, Float
from .plain import KL, kl_rows, widen


def kl_inside(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    inside: Bool[Tensor, "n c"],
    temperature: float = 1.0,
    kl: KL = "forward",
) -> Float[Tensor, " n"]:
    """T^2 KL(q^T || q^S) with q the softmax over the classes inside; 0 for fewer than two classes.

    Equals ``split_kl(...).within`` of that group, at a fraction of the cost when the sets differ from row to row.

    Args:
        student, teacher: ``[n, c]`` raw logits.
        inside: ``[n, c]`` the classes that count; may be empty in a row.
        temperature: T.
        kl: direction: ``"forward"`` (teacher first), ``"reverse"`` or their mean, ``"both"``.

    Example:
        >>> z = torch.tensor([[1.0, 0.0, 5.0]])
        >>> kl_inside(z, z.flip(1), torch.tensor([[True, False, False]]))
        tensor([0.])
    """
    empty = ~inside.any(1, keepdim=True)
    counts = inside | empty  # a row without members is taken whole, and cut off below
    log_t, log_s = (_log_softmax(widen(z), counts, temperature) for z in (teacher.detach(), student))
    rows = kl_rows(log_t, log_s) if kl != "reverse" else kl_rows(log_s, log_t)
    if kl == "both":
        rows = (rows + kl_rows(log_s, log_t)) / 2
    return temperature**2 * rows.masked_fill(empty[:, 0], 0.0)


def _log_softmax(z: Tensor, counts: Tensor, temperature: float) -> Tensor:
    z = z.masked_fill(~counts, -torch.inf)
    return ((z - z.detach().amax(1, keepdim=True)) / temperature).log_softmax(1)
