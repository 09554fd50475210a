"""Rows of a language model from hidden states: what the linear losses do to one chunk of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..losses.linear import linear_sums
from ..losses.top_logits import TopLogits
from ..rows import Logits
from .method import Method
from .stored import check_stored, on_top_logits


@dataclass(frozen=True, eq=False)
class LinearLogits:
    """A teacher's logits as its hidden states and output matrix, multiplied chunk by chunk when they are needed.

    Args:
        hidden: ``[..., d]`` last hidden states, after the final norm.
        weight: ``[c, d]`` output matrix; d is the teacher's own.
        bias: ``[c]`` or ``None``.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None


Teacher = Tensor | LinearLogits | TopLogits


class LinearRows:
    """Checked arguments of a linear loss, one row per token; see :func:`linear_loss` for what they mean."""

    def __init__(
        self,
        method: Method,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        row_weight: Tensor | None,
        ignore_index: int | None,
        teacher: Teacher,
    ) -> None:
        _check_method(method)
        _check_shapes(hidden, weight, target, row_weight)
        self.method, self.weight, self.bias = method, weight, bias
        self.hidden, self.target = hidden.reshape(-1, hidden.shape[-1]), target.reshape(-1)
        self.row_weight = None if row_weight is None else row_weight.reshape(-1)
        self.teacher = _flat_teacher(teacher, target, len(weight))
        if isinstance(self.teacher, TopLogits):
            check_stored(method, self.teacher)
        kept = torch.ones_like(self.target) if ignore_index is None else self.target != ignore_index
        # Dropped by index, chunk by chunk: a mask would copy dense teacher logits, the largest tensor there is.
        self.rows = kept.nonzero()[:, 0]

    def means(
        self,
        losses: Callable[[Method, Logits], Mapping[str, Tensor]],
        names: tuple[str, ...],
        chunk: int,
        count: float | Tensor | None,
    ) -> dict[str, Tensor]:
        """Means over the kept tokens of all chunks."""

        def sums(logits: Tensor, part: Tensor) -> dict[str, Tensor]:
            method, lg = self._seen(logits, part)
            total = lg.rows if lg.weight is None else lg.weight.sum()
            return {name: x * total for name, x in losses(method, lg).items()}

        found = linear_sums(sums, names, self.hidden, self.weight, self.bias, self.rows, chunk)
        by = self._total() if count is None else count
        return {name: x / by for name, x in found.items()}

    def _seen(self, logits: Tensor, part: Tensor) -> tuple[Method, Logits]:
        """The rows of one chunk, and the method as it works on this kind of teacher."""
        weight = None if self.row_weight is None else self.row_weight[part]
        if isinstance(self.teacher, TopLogits):
            # The teacher in the rows is not read.
            lg = Logits(logits, logits, self.target[part], weight=weight)
            return on_top_logits(self.method, self.teacher[part]), lg
        teacher = _dense(self.teacher, part)
        dtype = torch.promote_types(logits.dtype, teacher.dtype)
        return self.method, Logits(logits.to(dtype), teacher.to(dtype), self.target[part], weight=weight)

    def _total(self) -> Tensor | int:
        if self.row_weight is None:
            return max(1, len(self.rows))
        total = self.row_weight[self.rows].sum()
        return torch.where(total == 0, torch.ones_like(total), total)


def _dense(teacher: Tensor | LinearLogits, part: Tensor) -> Tensor:
    """``[m, c]`` teacher logits of some rows."""
    if isinstance(teacher, Tensor):
        return teacher[part]
    with torch.no_grad():
        return F.linear(teacher.hidden[part], teacher.weight, teacher.bias)


def _flat_teacher(teacher: Teacher, target: Tensor, classes: int) -> Teacher:
    """One row per token, of the student's vocabulary; the teacher is detached where it could carry a graph."""
    if isinstance(teacher, TopLogits):
        _check_teacher(teacher.rest.shape, target)
        return teacher.flatten()
    hidden, found = (
        (teacher, teacher.shape[-1]) if isinstance(teacher, Tensor) else (teacher.hidden, len(teacher.weight))
    )
    _check_teacher(hidden.shape[:-1], target)
    if found != classes:
        raise ValueError(
            f"linear loss: the teacher has {found} classes, the student {classes}; both need one vocabulary "
            f"(cut padding rows off the larger output matrix)"
        )
    flat = hidden.detach().reshape(-1, hidden.shape[-1])
    return flat if isinstance(teacher, Tensor) else LinearLogits(flat, teacher.weight, teacher.bias)


def _check_teacher(shape: torch.Size, target: Tensor) -> None:
    if shape != target.shape:
        raise ValueError(f"linear loss: the teacher has rows {list(shape)}, the labels are {list(target.shape)}")


def _check_shapes(hidden: Tensor, weight: Tensor, target: Tensor, row_weight: Tensor | None) -> None:
    if weight.ndim != 2 or hidden.ndim < 2 or hidden.shape[-1] != weight.shape[1] or target.shape != hidden.shape[:-1]:
        raise ValueError(
            f"linear loss: expected hidden states [..., d], an output matrix [c, d] and labels [...], got "
            f"{list(hidden.shape)}, {list(weight.shape)} and {list(target.shape)}"
        )
    if row_weight is not None and row_weight.shape != target.shape:
        raise ValueError(f"linear loss: row_weight must be {list(target.shape)}, got {list(row_weight.shape)}")


def _check_method(method: Method) -> None:
    reason = None
    if not method.row_wise:
        reason = "relates the rows of a batch to each other, so a chunk of tokens is not enough"
    elif method.views != 1 or method.regions:
        reason = "needs a second view or image regions"
    elif method.module is not None:
        reason = "learns parameters of its own, which would get no gradient"
    if reason:
        raise ValueError(f"linear loss: {method.name} {reason}; use method.loss(fr.rows.tokens(...)) instead")
