"""KD and its decoupled twin."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

from ..losses import whole as one_group
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_not_negative, check_positive, preset
from .inner import Decoupled, KdForm, at, kd_rows
from .mask import Mask
from .method import Method, Part, Task
from .split_terms import SplitTerms

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

    weight = warmup_to(kd_weight, warmup)
    task = Part(constant(ce_weight), "task")
    whole = Method(
        name="kd",
        parts={"task": task, "kd": Part(weight)},
        terms=SplitTerms(lambda lg, progress: one_group(lg), {"kd": 0}, temperature),
        tempered=partial(at, kd_rows),
        task=Task(label_smoothing),
        hard=hard,
    )

    def decouple(mask: Mask, form: KdForm) -> Method:
        inner = Decoupled(mask, form)
        return replace(
            whole,
            parts={"task": task, "target": Part(weight, "target"), "nontarget": Part(weight, "nontarget")},
            streams=(),
            terms=at(inner, temperature),
            tempered=partial(at, inner),
            needs_labels=True,
            row_wise=form == "per_row",
        )

    return replace(whole, decouple=decouple)
