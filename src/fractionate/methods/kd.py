"""KD and its decoupled twin."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..losses import split_kl, whole
from ..rows import Logits, Progress, weighted_mean
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_not_negative, check_positive, preset
from .mask import Mask
from .method import Method, Part, Task

Hard = Literal["error", "argmax"]


@preset
def kd(
    *,
    temperature: float = 4.0,
    ce_weight: float = 0.1,
    kd_weight: float = 0.9,
    warmup: float = 1,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Knowledge distillation: cross-entropy plus KL to the softened teacher.

    L = ce_weight CE + kd_weight W(e) T^2 mean KL(p^T || p^S)

    Args:
        temperature: T.
        ce_weight: weight of the cross-entropy.
        kd_weight: weight of the ``kd`` component.
        warmup: epochs over which the distillation weight grows linearly; 1 = none.
        label_smoothing: in the cross-entropy only.
        hard: as in every method; KD's terms read no label, so soft labels are fine.

    Returns:
        Method with components ``task`` and ``kd``.

    Source: arXiv 1503.02531; defaults of the CIFAR-100 baselines (ImageNet: T 1, weights .5 and .5).

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.zeros(2, 5), torch.zeros(2, 5), torch.tensor([0, 4]))
        >>> {name: x.tolist() for name, x in fr.methods.kd().components(lg).items() if name == "kd"}
        {'kd': [0.0, 0.0]}
    """
    check_positive("kd", temperature=temperature)
    check_not_negative("kd", kd_weight=kd_weight)
    check_common("kd", ce_weight, warmup, label_smoothing, hard)

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        return {"kd": split_kl(lg.student, lg.teacher, whole(lg), temperature).within[:, 0]}

    def decouple(mask: Mask, form: str) -> Method:
        return _decoupled(temperature, ce_weight, weight, label_smoothing, hard, mask, form)

    weight = warmup_to(kd_weight, warmup)
    return Method(
        name="kd",
        parts={"task": Part(constant(ce_weight), "task"), "kd": Part(weight)},
        terms=terms,
        task=Task(label_smoothing),
        hard=hard,
        decouple=decouple,
    )


def _decoupled(
    temperature: float,
    ce_weight: float,
    weight: warmup_to,
    label_smoothing: float,
    hard: Hard,
    mask: Mask,
    form: str,
) -> Method:
    """KD as target + nontarget: TCKD and (1 - a) NCKD, whose sum is KD row by row."""

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        target, nontarget, rest = mask.decoupled(lg, progress, temperature)
        share = weighted_mean(rest, lg.weight) if form == "batch_means" else rest
        return {"target": target, "nontarget": share * nontarget}

    return Method(
        name="kd",
        parts={
            "task": Part(constant(ce_weight), "task"),
            "target": Part(weight, "target"),
            "nontarget": Part(weight, "nontarget"),
        },
        terms=terms,
        task=Task(label_smoothing),
        needs_labels=True,
        hard=hard,
        row_wise=form == "per_row",
    )
