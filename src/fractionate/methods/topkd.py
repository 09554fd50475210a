"""TopKD, whole and as plug-ins for any method: a contrast, cosines, a scaled teacher; a reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from torch import Tensor

from .._choices import choose
from ..kernels import widen
from ..losses import SCALINGS, Scaling, logit_contrast, scale_top, top_cosine
from ..rows import Logits, Progress, with_logits
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_count, check_not_negative, check_positive
from .mapped import every_view, mapped, on_twin, over_terms
from .method import Method, Part, Role, Task, Terms
from .presets import preset, reconstruction

Hard = Literal["error", "argmax"]


@reconstruction
@preset
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
    warmup: float = 1,
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
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

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> m = fr.methods.topkd(k=3)
        >>> list(m.components(lg))
        ['task', 'contrastive', 'decoupled']
        >>> m
        <Method topkd(k=3) [reconstruction]>
    """
    check_scaling("topkd", k, gamma, lam, kappa, scaling)
    check_positive("topkd", tau=tau)
    check_not_negative("topkd", alpha=alpha, beta=beta, lam_con=lam_con, lam_tdl=lam_tdl)
    check_common("topkd", ce_weight, warmup, label_smoothing, hard)

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        scaled = scale_top(
            lg.teacher, lg.labels, k=k, gamma=gamma, lam=lam, kappa=kappa, scaling=scaling, ranking=lg.rank_by
        )
        cosines = top_cosine(lg.student, scaled, lg.rank_by, k=k, alpha=alpha, beta=beta, center=center)
        return {"contrastive": logit_contrast(lg.student, lg.teacher, tau=tau, weight=lg.weight), "decoupled": cosines}

    return Method(
        name="topkd",
        parts={
            "task": Part(constant(ce_weight), "task"),
            "contrastive": Part(warmup_to(lam_con, warmup)),
            "decoupled": Part(warmup_to(lam_tdl, warmup)),
        },
        terms=terms,
        task=Task(label_smoothing),
        needs_labels=True,
        hard=hard,
        row_wise=False,
    )


def check_scaling(where: str, k: int, gamma: float, lam: float, kappa: float, scaling: str) -> None:
    """The arguments of ``scale_top``."""
    check_count(where, "k", k, 1)
    check_not_negative(where, gamma=gamma, lam=lam, kappa=kappa)
    choose(f"{where} scaling", scaling, SCALINGS)


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

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.with_scaled_teacher(fr.methods.kd(), k=3).components(lg))
        ['task', 'kd']
    """
    check_scaling("with_scaled_teacher", k, gamma, lam, kappa, scaling)

    def raise_top(teacher: Tensor, lg: Logits, ranking: Tensor) -> Tensor:
        return scale_top(teacher, lg.labels, k=k, gamma=gamma, lam=lam, kappa=kappa, scaling=scaling, ranking=ranking)

    def scaled(lg: Logits) -> Logits:
        changed = with_logits(lg, widen(lg.student), raise_top(lg.teacher, lg, lg.rank_by))
        return replace(changed, teachers=tuple(raise_top(teacher, lg, teacher) for teacher in lg.teachers))

    def finish(inner: Method) -> Method:
        return replace(inner, name=f"{inner.name}+scaled_teacher", needs_labels=True)

    return mapped(method, every_view(scaled), finish)


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

    Example:
        >>> import fractionate as fr
        >>> list(fr.methods.with_contrast(fr.methods.dkd()).parts)
        ['task', 'target', 'nontarget', 'contrastive']
    """
    check_positive("with_contrast", tau=tau)
    part = _part("with_contrast", weight, warmup, role)

    def rows(lg: Logits) -> Tensor:
        return logit_contrast(lg.student, lg.teacher, tau=tau, weight=lg.weight)

    return _added(method, "contrastive", part, rows, row_wise=False)


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

    Example:
        >>> import fractionate as fr
        >>> list(fr.methods.with_top_cosine(fr.methods.kd()).parts)
        ['task', 'kd', 'decoupled']
    """
    check_scaling("with_top_cosine", k, gamma, lam, kappa, scaling)
    check_not_negative("with_top_cosine", alpha=alpha, beta=beta)
    part = _part("with_top_cosine", weight, warmup, role)

    def rows(lg: Logits) -> Tensor:
        raised = scale_top(
            lg.teacher, lg.labels, k=k, gamma=gamma, lam=lam, kappa=kappa, scaling=scaling, ranking=lg.rank_by
        )
        return top_cosine(lg.student, raised, lg.rank_by, k=k, alpha=alpha, beta=beta, center=center)

    return _added(method, "decoupled", part, rows, needs_labels=True)


def _part(where: str, weight: float, warmup: float, role: Role | None) -> Part:
    check_not_negative(where, weight=weight, warmup=warmup)
    if role is not None:
        choose(f"{where} role", role, ("task", "target", "nontarget"))
    return Part(warmup_to(weight, warmup), role)


def _added(
    method: Method, name: str, part: Part, rows: Rows, *, needs_labels: bool = False, row_wise: bool = True
) -> Method:
    """The method with one more component, and its decoupled twin likewise."""
    if name in method.parts:
        raise ValueError(f"{method.name} already has a component {name!r}: {list(method.parts)}")
    if len(method.streams) > 1:
        raise ValueError(
            f"{method.name} has several streams {[s.name for s in method.streams]}, so the stream of {name!r} is "
            f"open: add it first, then wrap with dot(...), deepkd(...) or resplit(...)"
        )

    def more(terms: Terms) -> Terms:
        return lambda lg, progress: {**terms(lg, progress), name: rows(lg)}

    def again(twin: Method) -> Method:
        return _added(twin, name, part, rows, needs_labels=needs_labels, row_wise=row_wise)

    return replace(
        over_terms(method, more),
        name=f"{method.name}+{name}",
        parts={**method.parts, name: part},
        streams=(replace(method.streams[0], components=(*method.parts, name)),),
        needs_labels=method.needs_labels or needs_labels,
        row_wise=method.row_wise and row_wise,
        decouple=on_twin(method, again),
    )
