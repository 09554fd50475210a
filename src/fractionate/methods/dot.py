"""DOT: the task and the distillation loss in streams of their own."""

from __future__ import annotations

from dataclasses import replace

from .._choices import choose
from ..optim.momenta import Orphan
from .checks import check_numbers, preset
from .method import Method
from .streams import Stream, UpdateRule


@preset
def dot(method: Method, *, delta: float = 0.075, orphan: Orphan = "own") -> Method:
    """Distillation-oriented trainer: momentum m - delta for the task, m + delta for the distillation.

        V_task <- (m - delta) V_task + g_task + lambda theta
        V_kd   <- (m + delta) V_kd   + g_kd
        theta  <- theta - lr (V_task + V_kd)

    Args:
        method: any method; ``task`` is its cross-entropy, everything else is distillation.
        delta: momentum shift; 0 is plain SGD.
        orphan: coefficient of parameters that only one of the two losses reaches: the stream's ``"own"``, or
            the ``"mean"`` of both, as the published code does.

    Returns:
        Method with streams ``task`` and ``distillation``; components and weights are those of ``method``.

    Source: arXiv 2307.08436; delta .075 (CIFAR-100, Tiny-ImageNet), .09 (ImageNet).

    Example:
        >>> import fractionate as fr
        >>> dict(fr.methods.dot(fr.methods.kd(), delta=0.05).momenta(0.5))
        {'task': 0.45, 'distillation': 0.55}
    """
    check_numbers("dot", delta=delta)
    choose("orphan rule", orphan, ("own", "mean"))
    rest = tuple(name for name in method.parts if name != "task")
    if "task" not in method.parts or not rest:
        raise ValueError(
            f"dot: needs a task and at least one distillation component, {method.name} has {list(method.parts)}"
        )
    return replace(
        method,
        name=f"{method.name}+dot",
        streams=(Stream("task", ("task",), -delta), Stream("distillation", rest, delta)),
        update=UpdateRule(decay_on="task", orphan=orphan),
    )
