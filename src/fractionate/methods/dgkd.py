"""DKD's relatives: DGKD adds the coupling of its two gradients, RLD refines the teacher with the label."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Unpack

import torch
from torch import Tensor

from .._choices import choose
from ..kernels import KL, KLS, Partition
from ..losses import COUPLINGS, Coupling, below_target, gradient_coupling, kl_inside, sample_confidence
from ..rows import Logits, Progress, weighted_mean
from .arguments import Common, check_not_negative, check_numbers, check_positive, with_common
from .inner import Mask
from .method import Method, Weights, distillation
from .terms import NO_TEMPERATURE, Components, OnRows, RowMap, Terms

Normalize = Literal["none", "batch"]
Form = Literal["dkd", "kd"]


@with_common(warmup=20)
def dgkd(
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    epsilon: float = 0.5,
    temperature: float = 4.0,
    coupling: Coupling = "full",
    normalize: Normalize = "none",
    floor: float = 1e-8,
    weights: Form = "dkd",
    **common: Unpack[Common],
) -> Method:
    """Decoupled-gradient KD: DKD, with the distance between the gradients of its two terms subtracted.

    L = ce_weight CE + W(e) mean[ alpha T^2 TCKD + beta T^2 NCKD - epsilon G ]
    G = |g_T - g_N|^2 = T^2 [ d^2 + |(1 + d) q - p|^2 ],  0 <= G <= 6 T^2

    with d the difference of the label's probabilities (student minus teacher) and q, p the softmax of student and
    teacher over the non-targets. G is differentiated once in this closed form; no double backward.

    The published code divides by the batch: its M is mean(G) / (n^2 c). Conversion for the form of June 2025:
    ``epsilon = eps_code / (n**2 * c)``; for that of April 2026: ``normalize="batch"``, ``epsilon = eps_code``,
    ``floor = 1e-8 * n**2 * c``.

    Args:
        alpha, beta: weights of ``target`` (TCKD) and ``nontarget`` (NCKD) with ``weights="dkd"``.
        epsilon: weight of the coupling; 0 is DKD bit for bit, a negative one adds G (a further matching term).
        temperature: T.
        warmup: W, epochs over which the distillation weights grow linearly; 1 = none.
        coupling: reading of G: ``"full"`` vectors, ``"masked"`` (g_T at the label only, g_N elsewhere) or
            ``"kd_weighted"`` (g_N times 1 - a).
        normalize: ``"batch"`` divides G by its detached batch mean (plus ``floor``): the newest published form, a
            constant push away from the teacher that needs the cross-entropy and can leave a wrong best class.
        floor: added to that mean.
        weights: ``"dkd"``, or ``"kd"`` for TCKD + (1 - a) NCKD with a the teacher's probability of the label.
        ce_weight, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``target``, ``nontarget``, ``coupling`` (weight -epsilon W(e)).

    Raises:
        ValueError: fewer than 3 classes, soft labels, an unknown choice, an argument out of range.

    Warns:
        UserWarning: epsilon above min(2 alpha / 3, beta / 2), up to which the distillation loss is proven to be
            smallest at the teacher; epsilon > 0 with ``normalize="batch"``.

    Source: omertafveez-2001/Decoupled-Gradient-Knowledge-Distilation (code and blog, no paper); not the densely
    guided KD that is also called DGKD.

    Map: partition by_target; direction forward; groups target = 1 between, nontarget = 8 within[1]; relation
    distance of the two terms' gradients

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.dgkd(epsilon=0.2).components(lg))
        ['task', 'target', 'nontarget', 'coupling']
    """
    check_positive("dgkd", temperature=temperature, floor=floor)
    check_not_negative("dgkd", alpha=alpha, beta=beta)
    check_numbers("dgkd", epsilon=epsilon)
    choose("dgkd coupling", coupling, COUPLINGS)
    choose("dgkd normalize", normalize, ("none", "batch"))
    choose("dgkd weights", weights, ("dkd", "kd"))
    _warn_if_unsafe(alpha, beta, epsilon, coupling, normalize, weights)
    alpha, beta = (1.0, 1.0) if weights == "kd" else (alpha, beta)
    return distillation(
        "dgkd",
        CoupledTerms(
            temperature, coupling, weights, observed=epsilon == 0, floor=floor if normalize == "batch" else None
        ),
        {"target": (alpha, "target"), "nontarget": (beta, "nontarget"), "coupling": (-epsilon, "nontarget")},
        needs_labels=True,
        row_wise=normalize == "none",
        **common,
    )


def _safe_epsilon(alpha: float, beta: float, coupling: str, weights: str) -> float:
    """Up to here target and nontarget terms outweigh the coupling for every student (by Pinsker's inequality)."""
    if weights == "dkd":
        return min(2 * alpha / 3, beta / 2)
    # The weight 1 - a of NCKD vanishes with a confident teacher; only a coupling that vanishes with it stays below.
    return 0.5 if coupling == "kd_weighted" else 0.0


def _warn_if_unsafe(alpha: float, beta: float, epsilon: float, coupling: str, normalize: str, weights: str) -> None:
    if epsilon <= 0:
        return
    if normalize == "batch":
        warnings.warn(
            "dgkd(normalize='batch') pushes the student away from the teacher with constant strength: the loss floats "
            "near epsilon and the teacher's best class can be missed; keep the cross-entropy, or use normalize='none'",
            stacklevel=4,
        )
        return
    safe = _safe_epsilon(alpha, beta, coupling, weights)
    if epsilon > safe:
        rule = "min(2 alpha / 3, beta / 2)" if weights == "dkd" else f"weights='kd' with coupling={coupling!r}"
        warnings.warn(
            f"dgkd: epsilon={epsilon:g} is above {safe:g}, the end of the proven safe range ({rule}): the distillation "
            f"loss may be smallest away from the teacher",
            stacklevel=4,
        )


@with_common(warmup=20)
def rld(
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    alpha_temperature: float = 1.0,
    kl: KL = "forward",
    **common: Unpack[Common],
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

    Map: partition by_target, below_target; direction forward; groups target = 1 between, nontarget = 8
    within[below]

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(1, 3), torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([2]))
        >>> fr.methods.rld().components(lg)["nontarget"].tolist()
        [0.0]
    """
    check_positive("rld", temperature=temperature, alpha_temperature=alpha_temperature)
    check_not_negative("rld", alpha=alpha, beta=beta)
    choose("kl direction", kl, KLS)
    terms = partial(_refined, temperature=temperature, alpha_temperature=alpha_temperature, kl=kl)
    weights: Weights = {"target": (alpha, "target"), "nontarget": (beta, "nontarget")}
    return distillation("rld", terms, weights, needs_labels=True, **common)


@dataclass(frozen=True, eq=False)
class CoupledTerms:
    """DGKD's terms.

    Args:
        temperature, coupling, weights: as in :func:`dgkd`.
        observed: keep the coupling out of the graph, where its weight is 0 and it is only looked at.
        floor: of the batch mean that the coupling is divided by; ``None`` without a division.
        mask: the non-targets that NCKD looks at.
    """

    temperature: float
    coupling: Coupling
    weights: Form
    observed: bool
    floor: float | None
    mask: Mask = Mask()

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """TCKD, NCKD and the coupling of their gradients."""
        target, nontarget, rest = self.mask.decoupled(lg, progress, self.temperature)
        if self.weights == "kd":
            nontarget = rest * nontarget
        return {"target": target, "nontarget": nontarget, "coupling": self._coupled(lg, progress)}

    def _coupled(self, lg: Logits, progress: Progress) -> Tensor:
        kept = self._kept(lg, progress)
        # At epsilon 0 the coupling is an observation: outside the graph it cannot touch a bit of the gradient.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.observed):
            rows = gradient_coupling(lg.student, lg.teacher, lg.labels, self.temperature, self.coupling, kept)
        return rows if self.floor is None else rows / (weighted_mean(rows.detach(), lg.weight) + self.floor)

    def _kept(self, lg: Logits, progress: Progress) -> Tensor | None:
        """``[n, c]`` the non-targets that DeepKD's mask keeps; ``None`` without a mask."""
        groups = self.mask.partition(lg, progress, self.temperature).groups
        if len(groups) == 1:
            return None
        return Partition(groups[1:], lg.classes).members(lg.rows, lg.teacher.device)

    def at(self, temperature: float | Tensor) -> Terms:
        """Refused: the coupling is a closed form at a number."""
        raise ValueError(NO_TEMPERATURE)

    def on(self, change: RowMap) -> Terms:
        """The terms of changed rows."""
        return OnRows(self, change)

    def masked(self, mask: Mask) -> Terms:
        """The same under a mask."""
        return replace(self, mask=mask)


def _refined(lg: Logits, progress: Progress, temperature: float, alpha_temperature: float, kl: KL) -> Components:
    below = kl_inside(lg.student, lg.teacher, below_target(lg), temperature, kl)
    return {"target": sample_confidence(lg, alpha_temperature), "nontarget": below}
