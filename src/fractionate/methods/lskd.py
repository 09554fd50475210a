"""LSKD: standardised logits under any method."""

from __future__ import annotations

from dataclasses import replace

from ..losses.transforms import standardize
from ..rows import Logits, with_logits
from ..schedules import times
from .checks import check_not_negative, check_positive, preset
from .mapped import every_view, mapped
from .method import Method, Part


@preset
def lskd(method: Method, *, temperature: float | None = 2.0, weight: float = 9.0) -> Method:
    """Logit standardisation: every row of both networks is z-scored before the distillation terms.

    x(z) = (z - mean) / (std + 1e-7), the distillation terms read x(z^S) and x(z^T), the cross-entropy raw logits;
    every distillation weight is multiplied by ``weight``

    Classes are still ranked by the raw teacher, both views of a two-view method are standardised, and MLKD's
    correlation terms keep raw logits. The published recipe is ``lskd(kd(ce_weight=.1, kd_weight=1))``.

    Args:
        method: any method, alone or with streams (``lskd(dot(m))`` is ``dot(lskd(m))``, and so with ``deepkd``).
        temperature: T of the method; ``None`` keeps its own. A method without this argument (ttm, logit_mse, sld, ...)
            is left as it is.
        weight: factor on the weight of every component but ``task``.

    Returns:
        Method with the components and streams of ``method``.

    Source: arXiv 2403.01427; T 2 and weight 9 (CIFAR-100), other values per pair.

    Example:
        >>> import torch, fractionate as fr
        >>> m = fr.methods.lskd(fr.methods.kd(ce_weight=0.1, kd_weight=1.0))
        >>> z = torch.tensor([[3.0, 1.0, 2.0]])
        >>> m.components(fr.Logits(10 * z + 1, z, torch.tensor([0])))["kd"].abs() < 1e-6
        tensor([True])
    """
    check_not_negative("lskd", weight=weight)
    if temperature is not None:
        check_positive("lskd", temperature=temperature)
        if method.origin is not None and method.origin.finds("temperature"):
            method = method.with_args(temperature=temperature)

    def finish(inner: Method) -> Method:
        parts = {n: p if n == "task" else Part(times(p.weight, weight), p.role) for n, p in inner.parts.items()}
        return replace(inner, name=f"{inner.name}+lskd", parts=parts)

    return mapped(method, every_view(_standardized), finish)


def _standardized(lg: Logits) -> Logits:
    """Both networks z-scored, ranked by the raw teacher."""
    rows = with_logits(lg, standardize(lg.student), standardize(lg.teacher))
    return replace(rows, teachers=tuple(standardize(t) for t in lg.teachers))
