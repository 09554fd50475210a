"""Logit matching: the squared distance of the logits."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..losses.soft import logit_distance
from ..rows import Logits, Progress
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_not_negative, preset
from .method import Method, Part, Task

Hard = Literal["error", "argmax"]


@preset
def logit_mse(
    *,
    weight: float = 1.0,
    center: bool = False,
    ce_weight: float = 1.0,
    warmup: float = 1,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Mean squared error of the logits: what KD becomes for a large temperature, if the rows are centred.

    L = ce_weight CE + weight W(e) mean (1 / C) |z^S - z^T|^2

    Args:
        weight: weight of ``mse``.
        center: subtract the mean of every row first, so that a shift of the logits costs nothing.
        ce_weight, warmup, label_smoothing, hard: as in :func:`kd`; reads no label.

    Returns:
        Method with components ``task``, ``mse``.

    Source: logit matching, "Do deep nets really need to be deep?" (arXiv 1312.6184).

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]), torch.tensor([0]))
        >>> [float(fr.methods.logit_mse(center=c).components(lg)["mse"]) for c in (False, True)]
        [5.0, 1.0]
    """
    check_not_negative("logit_mse", weight=weight)
    check_common("logit_mse", ce_weight, warmup, label_smoothing, hard)

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        return {"mse": logit_distance(lg.student, lg.teacher, center=center)}

    return Method(
        name="logit_mse",
        parts={"task": Part(constant(ce_weight), "task"), "mse": Part(warmup_to(weight, warmup))},
        terms=terms,
        task=Task(label_smoothing),
        hard=hard,
    )
