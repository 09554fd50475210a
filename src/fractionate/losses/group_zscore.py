"""Logits standardised inside groups of classes, with nothing to match where a group is flat."""

from __future__ import annotations

import torch
from torch import Tensor

from .._typing import Bool, Float
from .split import widen
from .transforms import EPS, LEAST_STD


def zscored(
    student: Float[Tensor, "n c"], teacher: Float[Tensor, "n c"], members: Bool[Tensor, "n c"]
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
    """(z - mean) / (std + 1e-7) over the members of one group per row; other classes stay as they are.

    The standard deviation is that of the population (ddof 0), unlike in ``standardize``, which takes whole rows.
    Where the group is flat in the student or in the teacher (std below 1e-6, as in a group of one class) both
    become 0: the KL inside is then 0 with gradient 0, instead of a division by 1e-7.

    Args:
        student, teacher: ``[n, c]`` logits.
        members: ``[n, c]`` classes of the group, at least one per row.

    Returns:
        Both logits with the group standardised; float16 and bfloat16 become float32.

    Example:
        >>> z = torch.tensor([[1.0, 3.0, 7.0]])
        >>> zscored(z, z, torch.tensor([[True, True, False]]))[0]
        tensor([[-1.0000,  1.0000,  7.0000]])
    """
    s, t = widen(student), widen(teacher)
    (x_s, flat_s), (x_t, flat_t) = (_scores(z, members) for z in (s, t))
    flat = flat_s | flat_t
    x_s, x_t = (torch.where(members, x.masked_fill(flat, 0.0), z) for x, z in ((x_s, s), (x_t, t)))
    return x_s, x_t


def _scores(z: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """Standard scores of the members (0 elsewhere), and ``[n, 1]`` whether the group is flat."""
    count = members.sum(1, keepdim=True)
    # Relative to the largest member first: a constant group is then exactly 0, whatever its level.
    best = z.detach().masked_fill(~members, -torch.inf).amax(1, keepdim=True)
    level = (z - best).masked_fill(~members, 0.0)
    centred = (level - level.sum(1, keepdim=True) / count).masked_fill(~members, 0.0)
    variance = centred.square().sum(1, keepdim=True) / count
    flat = variance < LEAST_STD**2
    return centred / (variance.masked_fill(flat, 1.0).sqrt() + EPS), flat
