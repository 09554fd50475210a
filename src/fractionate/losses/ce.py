"""Cross-entropy per row: the task component of every method."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .._typing import Float
from ..rows import Logits
from .split import widen


def cross_entropy(lg: Logits, label_smoothing: float = 0.0) -> Float[Tensor, " n"]:
    """-sum_c y_c log softmax(student)_c for every row, at temperature 1 on raw logits.

    Args:
        lg: rows; hard or soft labels.
        label_smoothing: share of the label spread evenly over all classes.

    Example:
        >>> import torch
        >>> lg = Logits(torch.zeros(1, 4), torch.zeros(1, 4), torch.tensor([2]))
        >>> cross_entropy(lg)
        tensor([1.3863])
    """
    student = widen(lg.student)
    target = lg.target.to(student.dtype) if lg.soft else lg.target
    return F.cross_entropy(student, target, reduction="none", label_smoothing=label_smoothing)
