"""TopKD, whole and as plug-ins for any method: a contrast, cosines, a scaled teacher; a reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Unpack

from torch import Tensor

from .._choices import choose
from ..kernels import widen
from ..losses import SCALINGS, Scaling, logit_contrast, scale_top, top_cosine
from ..rows import Logits, Progress, with_logits
from ..schedules import warmup as warmup_to
from .arguments import (
    Common,
    Role,
    check_count,
    check_not_negative,
    check_positive,
    preset,
    reconstruction,
    with_common,
)
from .method import Method, Part, distillation
from .terms import Components, EveryView, beside, mapped


@reconstruction
@with_common()
def topkd(
    *,
    k: int = 5,
    gamma: float = 0.5,
    lam: float = 0.1,
    kappa: float = 0.5,
    alpha: float = 2.0,
    beta: float = 1.0,
    tau: float = 0.07,
    lam_con: float = 1.0,
    lam_tdl: float = 1.0,
    scaling: Scaling = "sign_safe",
    center: bool = False,
    **common: Unpack[Common],
) -> Method:
    """Top-k KD (reconstruction): contrast of whole logit vectors, and cosines on the top, bottom and middle classes.

    L = ce_weight CE + W(e) mean[ lam_con CON + lam_tdl TDL ]
    CON = 1/2 [ CE(A / tau, id) + CE(A^T / tau, id) ],  A the cosines between all student and all teacher rows
    TDL = alpha (1 - cos_top) + beta (1 - cos_bottom) + (1 - cos_middle),  student against the scaled teacher

    **Reconstruction.** The paper's appendix could not be read and no code is published. Only the range of k (3, 5,
    10; 50 collapses on CIFAR-100) and the unit weights of CON and TDL have a source. The scaling rule and gamma,
    lam, kappa, alpha, beta, tau, the normalisation and the weight of the cross-entropy are choices of this package:
    do not compare its numbers with published ones as if they were the authors' method.

    Args:
        k: size of the top and of the bottom group, 1..c/2.
        gamma, lam, kappa: strengths of the scaling, see ``fractionate.losses.scale_top``.
        alpha, beta: weights of the top and bottom cosines.
        tau: temperature of the contrast.
        lam_con, lam_tdl: weights of ``contrastive`` and ``decoupled``.
        scaling: ``"sign_safe"``, or the ``"literal"`` product, which lowers a negative logit of the label.
        center: subtract row means before the cosines.
        warmup: epochs over which the distillation weights grow linearly; 1 = none.
        ce_weight, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``contrastive``, ``decoupled``; the contrast needs the whole batch.

    Raises:
        ValueError: k outside 1..c/2, soft labels, an argument out of range.

    Source: arXiv 2508.04539, reconstruction (see above); not the topological KD that is also called TopKD.

    Map: partition top, middle, bottom by the teacher; relation contrast of rows, cosines of groups

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> fr.methods.topkd(k=3)
        <Method topkd(k=3) [reconstruction]>
        >>> list(fr.methods.topkd(k=3).components(lg))
        ['task', 'contrastive', 'decoupled']
    """
    raised = Raised(k, gamma, lam, kappa, scaling)
    raised.check("topkd")
    check_positive("topkd", tau=tau)
    check_not_negative("topkd", alpha=alpha, beta=beta, lam_con=lam_con, lam_tdl=lam_tdl)
    cosines = partial(_cosines, raised=raised, alpha=alpha, beta=beta, center=center)
    return distillation(
        "topkd",
        partial(_both, cosines=cosines, tau=tau),
        {"contrastive": (lam_con, None), "decoupled": (lam_tdl, None)},
        needs_labels=True,
        row_wise=False,
        **common,
    )


Rows = Callable[[Logits], Tensor]


@reconstruction
@preset
def with_scaled_teacher(
    method: Method,
    *,
    k: int = 5,
    gamma: float = 0.5,
    lam: float = 0.1,
    kappa: float = 0.5,
    scaling: Scaling = "sign_safe",
) -> Method:
    """TopKD's scaled teacher under any method: its top k and the label are raised before the distillation terms.

    v'_i = v_i + (w_i - 1) |v_i| + Delta on the teacher's top k and the label; v'_i = v_i elsewhere

    The classes are still ranked by the raw teacher, and every view, region and further teacher is scaled alike. All
    constants are a reconstruction, see :func:`topkd`.

    Args:
        method: any method; needs labels from now on.
        k, gamma, lam, kappa, scaling: as in :func:`topkd`; k is at most c - 1 here.

    Returns:
        Method with the components, weights, roles and streams of ``method``.

    Source: arXiv 2508.04539, reconstruction.

    Map: logits the teacher's best raised

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.with_scaled_teacher(fr.methods.kd(), k=3).components(lg))
        ['task', 'kd']
    """
    raised = Raised(k, gamma, lam, kappa, scaling)
    raised.check("with_scaled_teacher")

    change = EveryView(raised)
    return mapped(method, change, lambda m: replace(m, name=f"{m.name}+scaled_teacher", needs_labels=True))


@reconstruction
@preset
def with_contrast(
    method: Method, *, weight: float = 1.0, tau: float = 0.07, warmup: float = 1, role: Role | None = None
) -> Method:
    """TopKD's contrast of whole logit vectors, added to any method as the component ``contrastive``.

    L = L_method + weight W(e) mean 1/2 [ CE(A / tau, id) + CE(A^T / tau, id) ], A the cosines of all student and
    teacher rows

    Args:
        method: any method in one stream; put ``dot`` and ``deepkd`` around the result, not inside.
        weight: of the component.
        tau: temperature of the contrast (reconstruction).
        warmup: epochs over which the weight grows linearly; 1 = none.
        role: stream of the component under ``deepkd``; without a role ``deepkd`` refuses the method.

    Returns:
        Method with one more component, which needs the whole batch.

    Raises:
        ValueError: several streams, or a component of that name already there.

    Source: arXiv 2508.04539, reconstruction.

    Map: relation contrast of rows

    Example:
        >>> import fractionate as fr
        >>> list(fr.methods.with_contrast(fr.methods.kd()).parts)
        ['task', 'kd', 'contrastive']
    """
    check_positive("with_contrast", tau=tau)
    part = _part("with_contrast", weight, warmup, role)
    return beside(method, "contrastive", part, partial(_contrast, tau=tau), row_wise=False)


@reconstruction
@preset
def with_top_cosine(
    method: Method,
    *,
    weight: float = 1.0,
    k: int = 5,
    gamma: float = 0.5,
    lam: float = 0.1,
    kappa: float = 0.5,
    alpha: float = 2.0,
    beta: float = 1.0,
    scaling: Scaling = "sign_safe",
    center: bool = False,
    warmup: float = 1,
    role: Role | None = None,
) -> Method:
    """TopKD's decoupled cosines, added to any method as the component ``decoupled``.

    L = L_method + weight W(e) mean[ alpha (1 - cos_top) + beta (1 - cos_bottom) + (1 - cos_middle) ]

    Args:
        method: any method in one stream; needs labels from now on (the label's logit is raised).
        weight: of the component.
        k, gamma, lam, kappa, alpha, beta, scaling, center: as in :func:`topkd`.
        warmup: epochs over which the weight grows linearly; 1 = none.
        role: stream of the component under ``deepkd``; without a role ``deepkd`` refuses the method.

    Returns:
        Method with one more component.

    Raises:
        ValueError: several streams, or a component of that name already there.

    Source: arXiv 2508.04539, reconstruction.

    Map: relation cosines of groups

    Example:
        >>> import fractionate as fr
        >>> list(fr.methods.with_top_cosine(fr.methods.kd()).parts)
        ['task', 'kd', 'decoupled']
    """
    raised = Raised(k, gamma, lam, kappa, scaling)
    raised.check("with_top_cosine")
    check_not_negative("with_top_cosine", alpha=alpha, beta=beta)
    part = _part("with_top_cosine", weight, warmup, role)
    rows = partial(_cosines, raised=raised, alpha=alpha, beta=beta, center=center)
    return beside(method, "decoupled", part, rows, needs_labels=True)


def _part(where: str, weight: float, warmup: float, role: Role | None) -> Part:
    check_not_negative(where, weight=weight, warmup=warmup)
    if role is not None:
        choose(f"{where} role", role, ("task", "target", "nontarget"))
    return Part(warmup_to(weight, warmup), role)


@dataclass(frozen=True)
class Raised:
    """Rows with the teacher's top k and the label raised, see ``fractionate.losses.scale_top``."""

    k: int
    gamma: float
    lam: float
    kappa: float
    scaling: Scaling

    def check(self, where: str) -> None:
        """The arguments of ``scale_top``."""
        check_count(where, "k", self.k, 1)
        check_not_negative(where, **self._strengths)
        choose(f"{where} scaling", self.scaling, SCALINGS)

    @property
    def _strengths(self) -> dict[str, float]:
        return {"gamma": self.gamma, "lam": self.lam, "kappa": self.kappa}

    def of(self, teacher: Tensor, lg: Logits, ranking: Tensor) -> Tensor:
        """``[n, c]`` a raised teacher of these rows."""
        return scale_top(teacher, lg.labels, k=self.k, scaling=self.scaling, ranking=ranking, **self._strengths)

    def __call__(self, lg: Logits) -> Logits:
        """The same rows with every teacher raised, still ranked by the raw one."""
        changed = with_logits(lg, widen(lg.student), self.of(lg.teacher, lg, lg.rank_by))
        return replace(changed, teachers=tuple(self.of(teacher, lg, teacher) for teacher in lg.teachers))


def _contrast(lg: Logits, tau: float) -> Tensor:
    return logit_contrast(lg.student, lg.teacher, tau=tau, weight=lg.weight)


def _cosines(lg: Logits, raised: Raised, alpha: float, beta: float, center: bool) -> Tensor:
    scaled = raised.of(lg.teacher, lg, lg.rank_by)
    return top_cosine(lg.student, scaled, lg.rank_by, k=raised.k, alpha=alpha, beta=beta, center=center)


def _both(lg: Logits, progress: Progress, cosines: Rows, tau: float) -> Components:
    return {"decoupled": cosines(lg), "contrastive": _contrast(lg, tau)}
