"""TopKD's parts as plug-ins for any method: a scaled teacher, an added contrast, an added cosine; a reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from .._choices import choose
from ..losses.split import widen
from ..losses.topk import Scaling, logit_contrast, scale_top, top_cosine
from ..rows import Logits, with_logits
from ..schedules import warmup as warmup_to
from .checks import check_not_negative, check_positive, preset
from .mapped import every_view, mapped, on_twin, over_terms
from .method import Method, Part, Role, Terms
from .reconstruction import reconstruction
from .topkd import check_scaling

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
