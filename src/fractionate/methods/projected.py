"""TPKD: the relations among the wrong classes, as far as they take nothing from the label."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from ..losses import by_target, conditional_projection, split_kl
from ..rows import Logits, Progress
from .arguments import Common, check_not_negative, with_common
from .method import Method, distillation
from .terms import Components


@with_common()
def tpkd(*, weight: float = 0.5, **common: Unpack[Common]) -> Method:
    """Task-preserving KD: the gradient of NCKD, projected so that no wrong class gains on the label by it.

    L = ce_weight CE + weight W(e) mean KL(q || r), with the projected gradient d in the place of r - q

    q, r are teacher's and student's distributions off the label at T = 1. d is the point nearest to (0, r - q) at which
    d_j >= d_y for every j, so a step keeps every margin that a step on the cross-entropy alone would have left.

    Args:
        weight: of ``conditional``.
        ce_weight: weight of the cross-entropy, which must be there: the projection protects it.
        warmup, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``conditional``, whose value and gradient belong to different functions.

    Raises:
        ValueError: fewer than 3 classes, soft labels, an argument out of range.

    Source: Yuan and Tao, "Learning beyond full imitation" (2026), eq. 6, 8 and 9.

    Map: partition by_target; direction forward, its gradient projected; groups conditional = 0.5 within[1]

    Note:
        The value that is shown is KL(q || r); no function has d as its gradient, so finite differences disagree. With a
        momentum of its own (``dot``, ``deepkd``) the guarantee holds for one plain step only. No temperature is
        offered: the proof is about T = 1.

    Example:
        >>> import torch, fractionate as fr
        >>> z = torch.zeros(1, 4, requires_grad=True)
        >>> lg = fr.Logits(z, torch.tensor([[0.0, 3.0, 0.0, 0.0]]), torch.tensor([0]))
        >>> fr.methods.only(fr.methods.tpkd(weight=1.0), "conditional").loss(lg).backward()
        >>> bool((z.grad[0, 1:] >= z.grad[0, 0] - 1e-6).all())  # no step raises a wrong logit above the label's
        True
    """
    check_not_negative("tpkd", weight=weight)
    return distillation("tpkd", _conditional, {"conditional": (weight, "nontarget")}, needs_labels=True, **common)


def _conditional(lg: Logits, progress: Progress) -> Components:
    value = split_kl(lg.student.detach(), lg.teacher, by_target(lg)).within[:, 1]
    direction = conditional_projection(lg.student, lg.teacher, lg.labels)
    return {"conditional": value + _only_gradient(lg.student, direction)}


def _only_gradient(student: Tensor, direction: Tensor) -> Tensor:
    """``[n]`` zeros whose gradient in the student's logits is the given one."""
    return (direction * (student - student.detach())).sum(1)
