"""DKD: the label against the rest, each with its own weight; ADKD has a weight of its own for every class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import torch
from torch import Tensor

from .._choices import choose
from ..kernels import KL, KLS, Direction
from ..losses import by_target, by_teacher_top1, class_mean, confidence_ratio
from ..rows import Logits, Progress
from ..schedules import Schedule, cosine
from ..schedules import warmup as warmup_to
from .arguments import Common, check_not_negative, check_numbers, check_positive, with_common
from .inner import Mask
from .method import Method, distillation
from .split import Readings, split_method
from .terms import NO_TEMPERATURE, Components, OnRows, RowMap, Terms


@with_common(warmup=20)
def dkd(
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    kl: KL = "forward",
    direction: Direction | str = "forward",
    **common: Unpack[Common],
) -> Method:
    """Decoupled knowledge distillation: KL of {label, rest} and KL inside the rest, weighted apart.

    L = ce_weight CE + W(e) mean[ alpha TCKD + beta NCKD ], both times T^2, where KD = TCKD + (1 - a) NCKD
    per row and a is the teacher's probability of the label.

    Args:
        alpha: weight of ``target`` (TCKD).
        beta: weight of ``nontarget`` (NCKD).
        temperature: T.
        warmup: W, epochs over which the distillation weights grow linearly, where a loop passes ``Progress``; 1 = none.
        kl: direction inside the non-targets: ``"forward"`` (teacher first), ``"reverse"``, ``"both"``.
        direction: of both terms, as in :func:`kd`; against a mixture ``nontarget`` holds its masses.
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
    check_not_negative("dkd", alpha=alpha, beta=beta)
    parts: Readings = {"target": (None, alpha, "target"), "nontarget": (1, beta, "nontarget")}
    return split_method(
        "dkd", by_target, parts, temperature=temperature, direction=direction, kl=kl, needs_labels=True, **common
    )


@with_common(warmup=20)
def dkd_top1(
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    kl: KL = "forward",
    direction: Direction | str = "forward",
    **common: Unpack[Common],
) -> Method:
    """DKD with the teacher's best class in the place of the label; reads no label.

    L = ce_weight CE + W(e) mean[ alpha between + beta within[rest] ] over {argmax z^T}, {rest}. Equals GDKD with
    k = 1, w0 = alpha, w2 = beta for every input.

    Args:
        alpha, beta, temperature, warmup, kl, direction, ce_weight, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``target``, ``nontarget``.

    Source: the study in arXiv 2512.04625 ("DKDMod", strategy top1).

    Example:
        >>> import fractionate as fr
        >>> fr.methods.dkd_top1().needs_labels
        False
    """
    check_not_negative("dkd_top1", alpha=alpha, beta=beta)
    parts: Readings = {"target": (None, alpha, "target"), "nontarget": (1, beta, "nontarget")}
    return split_method(
        "dkd_top1", by_teacher_top1, parts, temperature=temperature, direction=direction, kl=kl, **common
    )


@dataclass(frozen=True)
class Faded:
    """A warm-up multiplied by a second schedule."""

    warmup: Schedule
    gamma: Schedule

    def __call__(self, progress: Progress) -> float:
        """Value at this point of training."""
        return self.warmup(progress) * self.gamma(progress)


@with_common()
def drkl(*, gamma: float = 0.5, temperature: float = 1.0, **common: Unpack[Common]) -> Method:
    """Decoupled reverse KL: DKD with both terms turned round, the student first.

    L = ce_weight CE + W(e) T^2 mean[ KL( (sigma, 1 - sigma) || (a, 1 - a) ) + gamma KL( hat q || hat p ) ]

    sigma and a are the student's and the teacher's probability of the label, hat q and hat p their distributions over
    the other classes. Equals ``dkd(alpha=1, beta=gamma, direction="reverse")``.

    Args:
        gamma: weight of ``nontarget``.
        temperature: T.
        ce_weight, warmup, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``target``, ``nontarget``.

    Raises:
        ValueError: fewer than 3 classes, soft labels, an argument out of range.

    Source: arXiv 2604.00223 (the formula was read second-hand), for language models; it states no cross-entropy.

    Note:
        In whole reverse KL the mismatch among the other classes pushes the label's logit up, even where the label's
        probability is matched already; with a constant gamma in place of 1 - sigma that push is gone. The gradient of
        the first term carries sigma (1 - sigma): a student that is surely wrong gets no push from it, so keep the
        cross-entropy. ``dkd(kl="reverse")`` turns the second term only and is another loss.

    Example:
        >>> import torch, fractionate as fr
        >>> z = torch.randn(4, 10)
        >>> rows = fr.methods.drkl().components(fr.Logits(z, z, torch.tensor([0, 1, 2, 3])))
        >>> bool(rows["target"].abs().max() < 1e-6)
        True
    """
    check_not_negative("drkl", gamma=gamma)
    parts: Readings = {"target": (None, 1.0, "target"), "nontarget": (1, gamma, "nontarget")}
    return split_method(
        "drkl", by_target, parts, temperature=temperature, direction="reverse", needs_labels=True, **common
    )


@with_common(warmup=20)
def adkd(
    *,
    betas: Sequence[float] | Tensor | None = None,
    alpha: float = 1.0,
    gamma_start: float = 1.0,
    gamma_end: float = 0.1,
    beta_max: float = 1e4,
    temperature: float = 4.0,
    kl: KL = "forward",
    **common: Unpack[Common],
) -> Method:
    """Adaptive DKD: the non-target weight of a class grows with the teacher's confidence on it.

    L = ce_weight CE + W(e) mean[ alpha TCKD + gamma(e) beta_y NCKD ], both times T^2

    with beta_c the mean of p^T_(1) / p^T_(2) (at T) over the images of class c, and gamma a half cosine over training.

    Args:
        betas: beta of every class, c numbers: ``fractionate.losses.class_mean(losses.confidence_ratio(teacher, T),
            target, c)`` over the training set. ``None`` computes them from the rows of each batch instead, which
            makes the value of a row depend on its batch.
        alpha: weight of ``target`` (TCKD).
        gamma_start, gamma_end: gamma in the first and in the last epoch.
        beta_max: limit of the ratio p_(1) / p_(2), so that a saturated teacher stays finite (ours); read only without
            ``betas``.
        temperature, warmup, kl, ce_weight, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``target``, ``nontarget``; beta_y is inside ``nontarget``, gamma(e) is its
        weight.

    Raises:
        ValueError: fewer than 3 classes, soft labels, betas that are not c finite numbers, an argument out of range.

    Source: ZaberKo/GDKD (code beside arXiv 2512.04625).

    Map: partition by_target; direction forward; groups target = 1 between, nontarget = gamma(e) beta_y within[1]

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> a, b = (fr.methods.adkd(betas=[beta] * 10).components(lg)["nontarget"] for beta in (1.0, 3.0))
        >>> bool(torch.allclose(3 * a, b))
        True
    """
    check_positive("adkd", temperature=temperature)
    check_not_negative("adkd", alpha=alpha)
    check_not_negative("adkd", gamma_start=gamma_start, gamma_end=gamma_end)
    check_numbers("adkd", beta_max=beta_max)
    if beta_max < 1:
        raise ValueError(f"adkd: beta_max limits a ratio of at least 1, got {beta_max!r}")
    choose("kl direction", kl, KLS)
    given = None if betas is None else _checked_betas(betas)
    faded = Faded(warmup_to(1.0, common["warmup"]), cosine(gamma_start, gamma_end))
    return distillation(
        "adkd",
        AdaptiveTerms(temperature, kl, given, beta_max),
        {"target": (alpha, "target"), "nontarget": (faded, "nontarget")},
        needs_labels=True,
        row_wise=given is not None,
        **common,
    )


def _checked_betas(betas: Sequence[float] | Tensor) -> Tensor:
    """``[c]`` float64 on the CPU."""
    table = torch.as_tensor(betas, dtype=torch.float64).detach().cpu()
    if table.ndim != 1 or not len(table) or not bool(table.isfinite().all()):
        raise ValueError(f"adkd: betas must be one finite number per class, got {betas!r}")
    return table


def _table(betas: Tensor, lg: Logits) -> Tensor:
    if len(betas) != lg.classes:
        raise ValueError(f"adkd: betas hold {len(betas)} classes, the logits have {lg.classes}")
    dtype = torch.float64 if lg.teacher.dtype == torch.float64 else torch.float32
    return betas.to(dtype).to(lg.teacher.device)


@dataclass(frozen=True, eq=False)
class AdaptiveTerms:
    """ADKD's terms.

    Args:
        temperature, kl: as in :func:`adkd`.
        betas: ``[c]`` beta of every class, or ``None`` for those of each batch.
        beta_max: limit of a beta of the batch.
        mask: the non-targets that NCKD looks at.
    """

    temperature: float
    kl: KL
    betas: Tensor | None
    beta_max: float
    mask: Mask = Mask()

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """TCKD, and NCKD times the beta of the label's class."""
        target, nontarget, _ = self.mask.decoupled(lg, progress, self.temperature, self.kl)
        return {"target": target, "nontarget": self._betas(lg)[lg.labels] * nontarget}

    def _betas(self, lg: Logits) -> Tensor:
        if self.betas is not None:
            return _table(self.betas, lg)
        ratio = confidence_ratio(lg.teacher, self.temperature, most=self.beta_max)
        return class_mean(ratio, lg.labels, lg.classes, lg.weight)

    def at(self, temperature: float | Tensor) -> Terms:
        """Refused: beta depends on the temperature."""
        raise ValueError(NO_TEMPERATURE)

    def on(self, change: RowMap) -> Terms:
        """The terms of changed rows."""
        return OnRows(self, change)

    def masked(self, mask: Mask) -> Terms:
        """The same under a mask."""
        return replace(self, mask=mask)
