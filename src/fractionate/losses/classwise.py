"""Statistics of the teacher by class: what the class-dependent methods are tuned with."""

from __future__ import annotations

import math

from torch import Tensor

from .._typing import Float, Int
from .ranking import top_classes
from .split import widen


def class_mean(
    values: Float[Tensor, "n ..."],
    target: Int[Tensor, " n"],
    classes: int,
    weight: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "c ..."]:
    """Mean of the rows of each label; 0 for a label without rows.

    Args:
        values: ``[n]`` or ``[n, m]``.
        target: ``[n]`` labels.
        classes: c.
        weight: ``[n]`` weight of each row.

    Example:
        >>> import torch
        >>> class_mean(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 2]), 3)
        tensor([1., 0., 3.])
    """
    rows = values.new_ones(len(values)) if weight is None else weight.to(values.dtype)
    shape = (len(values),) + (1,) * (values.ndim - 1)
    sums = values.new_zeros(classes, *values.shape[1:]).index_add(0, target, values * rows.view(shape))
    total = values.new_zeros(classes).index_add(0, target, rows)
    return sums / total.masked_fill(total == 0, 1.0).view(classes, *shape[1:])


def confidence_ratio(
    teacher: Float[Tensor, "n c"], temperature: float = 4.0, *, most: float = 1e4
) -> Float[Tensor, " n"]:
    """p_(1) / p_(2): how much more likely the teacher's best class is than its second.

    Args:
        teacher: ``[n, c]`` logits.
        temperature: T of the probabilities.
        most: upper limit, so that a saturated teacher does not give infinity.

    Source: ZaberKo/GDKD (ADKD); the limit is ours.

    Example:
        >>> import torch
        >>> confidence_ratio(torch.tensor([[0.6, 0.3, 0.1]]).log(), 1.0)
        tensor([2.0000])
    """
    best = widen(teacher).gather(1, top_classes(teacher, 2))
    return ((best[:, 0] - best[:, 1]) / temperature).clamp(max=math.log(most)).exp()
