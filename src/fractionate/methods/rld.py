"""RLD: a teacher's logits refined with the label."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .._choices import choose
from ..losses.inside import kl_inside
from ..losses.refined import below_target, sample_confidence
from ..losses.split import KL, KLS
from ..rows import Logits, Progress
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_not_negative, check_positive, preset
from .method import Method, Part, Task

Hard = Literal["error", "argmax"]


@preset
def rld(
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    alpha_temperature: float = 1.0,
    warmup: float = 20,
    kl: KL = "forward",
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Refined logit distillation: the teacher's confidence moved to the label, and its order below the label.

    L = ce_weight CE + W(e) mean[ alpha SCD + beta MCD ]
    SCD = T_a^2 KL( (max p^T, 1 - max p^T) || (p^S_y, 1 - p^S_y) ) at T_a
    MCD = T^2 KL inside the classes with z^T_c < z^T_y, at T

    Equals DKD on rows where the teacher is right, T_a = T and no class ties with the label.

    Args:
        alpha: weight of ``target`` (SCD).
        beta: weight of ``nontarget`` (MCD).
        temperature: T of MCD.
        alpha_temperature: T_a of SCD (the README of the source sets it to T).
        warmup: W, epochs over which the distillation weights grow linearly; 1 = none.
        kl: direction inside the classes below the label, as in :func:`dkd`.
        ce_weight, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``target``, ``nontarget``. Where the label is the teacher's minimum no class is
        below it and ``nontarget`` is 0; classes that tie with the label are left out.

    Raises:
        ValueError: fewer than 3 classes, soft labels, an argument out of range.

    Source: arXiv 2408.07703 and zju-SWJ/RLD.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(1, 3), torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([2]))
        >>> fr.methods.rld().components(lg)["nontarget"].tolist()
        [0.0]
    """
    check_positive("rld", temperature=temperature, alpha_temperature=alpha_temperature)
    check_not_negative("rld", alpha=alpha, beta=beta)
    choose("kl direction", kl, KLS)
    check_common("rld", ce_weight, warmup, label_smoothing, hard)

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        below = kl_inside(lg.student, lg.teacher, below_target(lg), temperature, kl)
        return {"target": sample_confidence(lg, alpha_temperature), "nontarget": below}

    return Method(
        name="rld",
        parts={
            "task": Part(constant(ce_weight), "task"),
            "target": Part(warmup_to(alpha, warmup), "target"),
            "nontarget": Part(warmup_to(beta, warmup), "nontarget"),
        },
        terms=terms,
        task=Task(label_smoothing),
        needs_labels=True,
        hard=hard,
    )
