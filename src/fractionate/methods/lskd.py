"""Standardised logits: under any method, and in the groups of GDKD."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal, Unpack

from .._choices import choose
from ..kernels import KL, KLS
from ..losses import Split, by_top, split_kl, standardize, zscored
from ..rows import Logits, Progress, with_logits
from ..schedules import times
from .arguments import Common, check_count, check_not_negative, check_positive, preset, with_common
from .method import Method, Part, Weights, distillation
from .terms import Components, EveryView, mapped


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

    Map: logits standardised

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

    return mapped(method, EveryView(_standardized), finish)


def _standardized(lg: Logits) -> Logits:
    """Both networks z-scored, ranked by the raw teacher."""
    rows = with_logits(lg, standardize(lg.student), standardize(lg.teacher))
    return replace(rows, teachers=tuple(standardize(t) for t in lg.teachers))


Mode = Literal["global", "both", "other"]
MODES: tuple[Mode, ...] = ("global", "both", "other")


@with_common(warmup=20)
def ls_gdkd(
    *,
    mode: Mode = "global",
    k: int = 5,
    w0: float = 1.0,
    w1: float = 1.0,
    w2: float = 8.0,
    kd_weight: float = 1.0,
    temperature: float = 4.0,
    kl: KL = "forward",
    **common: Unpack[Common],
) -> Method:
    """GDKD on standardised logits: of whole rows, of both groups, or of the rest alone.

    L = ce_weight CE + W(e) kd_weight T^2 mean[ w0 between + w1 within[top] + w2 within[rest] ]

    on z-scores (z - mean) / (std + 1e-7) of student and teacher. The groups come from the raw teacher.

    Args:
        mode: ``"global"`` standardises whole rows (std with c - 1); ``"both"`` keeps raw logits in ``between`` and
            standardises each group with its own mean and population std; ``"other"`` standardises the rest only.
        k: size of the top group, 1..c-1.
        w0, w1, w2: weights of ``between``, ``top`` and ``other``.
        kd_weight: multiplies all three.
        temperature, warmup, kl, ce_weight, label_smoothing, hard: as in :func:`gdkd`.

    Returns:
        Method with components ``task``, ``between``, ``top``, ``other``. A group whose std is near 0 in one of the
        networks, such as the top group at k = 1, contributes 0; a constant student row has no gradient.

    Raises:
        ValueError: k outside 1..c-1, an unknown mode, an argument out of range.

    Source: ZaberKo/GDKD (LS_GDKD), after the standardisation of arXiv 2403.01427.

    Map: partition by_top(k=5); direction forward; groups between = 1 between, top = 1 within[0], other = 8
    within[1]; logits standardised

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> fr.methods.ls_gdkd(mode="both", k=1).components(lg)["top"].tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    choose("ls_gdkd mode", mode, MODES)
    check_count("ls_gdkd", "k", k, 1)
    check_positive("ls_gdkd", temperature=temperature)
    check_not_negative("ls_gdkd", kd_weight=kd_weight)
    check_not_negative("ls_gdkd", w0=w0, w1=w1, w2=w2)
    choose("kl direction", kl, KLS)
    weights: Weights = {
        "between": (kd_weight * w0, "target"),
        "top": (kd_weight * w1, "nontarget"),
        "other": (kd_weight * w2, "nontarget"),
    }
    return distillation("ls_gdkd", partial(_scored, mode=mode, k=k, temperature=temperature, kl=kl), weights, **common)


def _standardised_split(lg: Logits, mode: Mode, k: int, temperature: float, kl: KL) -> Split:
    """The split of logits that are standardised in the groups that the mode names."""
    part = by_top(lg, k)
    if mode == "global":
        return split_kl(standardize(lg.student), standardize(lg.teacher), part, temperature, kl)
    top = part.members(lg.rows, lg.teacher.device)
    student, teacher = zscored(lg.student, lg.teacher, ~top)
    if mode == "both":
        student, teacher = zscored(student, teacher, top)
    return split_kl(student, teacher, part, temperature, kl)


def _scored(lg: Logits, progress: Progress, mode: Mode, k: int, temperature: float, kl: KL) -> Components:
    scored = _standardised_split(lg, mode, k, temperature, kl)
    between = scored.between
    if mode != "global":
        between = split_kl(lg.student, lg.teacher, by_top(lg, k), temperature).between
    return {"between": between, "top": scored.within[:, 0], "other": scored.within[:, 1]}
