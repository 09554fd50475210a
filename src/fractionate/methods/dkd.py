"""DKD: the label against the rest, each with its own weight."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .._choices import choose
from ..losses import by_target, by_teacher_top1
from ..losses.split import KL, KLS
from ..rows import Logits, Progress
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_not_negative, check_positive, preset
from .mask import Mask
from .method import Method, Part, Task, Terms
from .split_terms import SplitTerms

Hard = Literal["error", "argmax"]


@preset
def dkd(
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    warmup: float = 20,
    kl: KL = "forward",
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Decoupled knowledge distillation: KL of {label, rest} and KL inside the rest, weighted apart.

    L = ce_weight CE + W(e) mean[ alpha TCKD + beta NCKD ], both times T^2, where KD = TCKD + (1 - a) NCKD
    per row and a is the teacher's probability of the label.

    Args:
        alpha: weight of ``target`` (TCKD).
        beta: weight of ``nontarget`` (NCKD).
        temperature: T.
        warmup: W, epochs over which the distillation weights grow linearly; 1 = none.
        kl: direction inside the non-targets: ``"forward"`` (teacher first), ``"reverse"``, ``"both"``.
        ce_weight: weight of the cross-entropy.
        label_smoothing: in the cross-entropy only.
        hard: what to do with soft labels: ``"error"``, or ``"argmax"`` for their most likely class.

    Returns:
        Method with components ``task``, ``target``, ``nontarget``.

    Raises:
        ValueError: fewer than 3 classes, soft labels, an argument out of range.

    Source: arXiv 2203.08679; beta is tuned per pair there (CIFAR-100: 1 to 8).

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.dkd(beta=2).components(lg))
        ['task', 'target', 'nontarget']
    """
    _check("dkd", alpha, beta, temperature, kl)
    check_common("dkd", ce_weight, warmup, label_smoothing, hard)

    def masked(mask: Mask, temperature: float | Tensor) -> Terms:
        if mask.keep is None:
            return SplitTerms(lambda lg, progress: by_target(lg), {"target": None, "nontarget": 1}, temperature, kl)

        def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
            target, nontarget, _ = mask.decoupled(lg, progress, temperature, kl)
            return {"target": target, "nontarget": nontarget}

        return terms

    def build(mask: Mask) -> Method:
        return Method(
            name="dkd",
            parts=_parts(alpha, beta, warmup, ce_weight),
            terms=masked(mask, temperature),
            task=Task(label_smoothing),
            needs_labels=True,
            hard=hard,
            decouple=lambda mask, form: build(mask),
            tempered=lambda value: masked(mask, value),
        )

    return build(Mask())


@preset
def dkd_top1(
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    warmup: float = 20,
    kl: KL = "forward",
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """DKD with the teacher's best class in the place of the label; reads no label.

    L = ce_weight CE + W(e) mean[ alpha between + beta within[rest] ] over {argmax z^T}, {rest}. Equals GDKD with
    k = 1, w0 = alpha, w2 = beta for every input.

    Args:
        alpha, beta, temperature, warmup, kl, ce_weight, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``target``, ``nontarget``.

    Source: the study in arXiv 2512.04625 ("DKDMod", strategy top1).

    Example:
        >>> import fractionate as fr
        >>> fr.methods.dkd_top1().needs_labels
        False
    """
    _check("dkd_top1", alpha, beta, temperature, kl)
    check_common("dkd_top1", ce_weight, warmup, label_smoothing, hard)

    return Method(
        name="dkd_top1",
        parts=_parts(alpha, beta, warmup, ce_weight),
        terms=SplitTerms(lambda lg, progress: by_teacher_top1(lg), {"target": None, "nontarget": 1}, temperature, kl),
        task=Task(label_smoothing),
        hard=hard,
    )


def _parts(alpha: float, beta: float, warmup: float, ce_weight: float) -> dict[str, Part]:
    return {
        "task": Part(constant(ce_weight), "task"),
        "target": Part(warmup_to(alpha, warmup), "target"),
        "nontarget": Part(warmup_to(beta, warmup), "nontarget"),
    }


def _check(where: str, alpha: float, beta: float, temperature: float, kl: str) -> None:
    check_positive(where, temperature=temperature)
    check_not_negative(where, alpha=alpha, beta=beta)
    choose("kl direction", kl, KLS)
