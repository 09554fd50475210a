"""DeepKD: three gradient streams with their own momentum, and a dynamic top-k mask."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Literal

from .._choices import choose
from ..schedules import Schedule, times, warmup
from .arguments import check_numbers, preset
from .inner import Auto, KdForm, Mask
from .method import Method, Part
from .streams import Stream, UpdateRule
from .terms import as_terms

Rule = Literal["paper", "published-code"]
DecayOn = Literal["task", "target", "decoupled"]
ROLES = ("task", "target", "nontarget")


@preset
def deepkd(
    method: Method,
    *,
    delta: float = 0.075,
    delta_task: float | None = None,
    delta_target: float | None = None,
    delta_nontarget: float | None = None,
    rule: Rule = "paper",
    keep: int | Schedule | Auto | None = None,
    count_target: bool = True,
    kd_form: KdForm | None = None,
    decay_on: DecayOn | None = None,
    normalize_gain: bool = False,
) -> Method:
    """DeepKD: task, target and non-target gradients each with their own momentum.

    With m_c = m + delta_c, rule ``"paper"`` moves all streams together:

        V_c   <- m_c V_c + g_c   for c in task (with + lambda theta), target, nontarget
        theta <- theta - lr (V_task + V_target + V_nontarget)

    Rule ``"published-code"``: the task buffer uses the target's coefficient (``delta_task`` has no effect), the
    streams move one after the other (task, nontarget, target), and weight decay enters the target buffer at the
    moved point.

    Args:
        method: a method whose components have roles: kd (through TCKD and (1 - a) NCKD), dkd, gdkd, ...
        delta: momentum shift; +delta for task and nontarget, -delta for target.
        delta_task, delta_target, delta_nontarget: signed shifts that replace those of ``delta``.
        rule: ``"paper"`` or ``"published-code"``.
        keep: top-k mask on the non-targets of a label partition: a number of classes, or a schedule that returns
            a fraction of them, such as ``fr.schedules.phases(plateau=.55)``; ``None`` or 0 keeps all; ``"auto"`` those
            that hold 90 % of a row's non-target mass at T, a number of its own for every row (this package's; not
            tested on accuracy yet).
        count_target: whether the label takes part in the ranking of the mask (the published code's rule).
        kd_form: over kd, (1 - a) NCKD ``"per_row"`` (default of the paper rule) or the product of
            ``"batch_means"`` (default of the published-code rule).
        decay_on: buffer that carries weight decay under rule ``"paper"``: ``"task"`` (default), ``"target"`` or
            ``"decoupled"``. The paper does not give the place.
        normalize_gain: multiply every stream's step by (1 - m_c) / (1 - m): longer memory without a larger step.

    Returns:
        Method with streams ``task``, ``target``, ``nontarget``, merged where they share a coefficient.

    Raises:
        ValueError: components without roles, ``keep`` on a partition that is not the label's, an unknown rule.

    Source: arXiv 2505.15133 (the paper's body was read second-hand) and haiduo/DeepKD; delta .075 (CIFAR-100),
    .05 (ImageNet).

    Map: stream task | target | nontarget

    Example:
        >>> import fractionate as fr
        >>> m = fr.methods.deepkd(fr.methods.dkd(), delta=0.25)
        >>> dict(m.momenta(0.5))
        {'task+nontarget': 0.75, 'target': 0.25}
    """
    choose("deepkd rule", rule, ("paper", "published-code"))
    check_keep(keep)
    shifts = _shifts(delta, delta_task, delta_target, delta_nontarget)
    base = _decoupled(method, Mask(keep, count_target, _form(kd_form, rule)))
    if rule == "published-code":
        base = _published_weights(base, method)
    return replace(
        base,
        name=f"{method.name}+deepkd",
        streams=_streams(base, shifts, rule),
        update=_update(rule, shifts, decay_on, normalize_gain),
        twin=None,
    )


def _shifts(delta: float, task: float | None, target: float | None, nontarget: float | None) -> dict[str, float]:
    shifts = {
        "task": delta if task is None else task,
        "target": -delta if target is None else target,
        "nontarget": delta if nontarget is None else nontarget,
    }
    check_numbers("deepkd", delta=delta, **{f"delta_{name}": x for name, x in shifts.items()})
    return shifts


def _form(kd_form: KdForm | None, rule: Rule) -> KdForm:
    if kd_form is None:
        return "per_row" if rule == "paper" else "batch_means"
    choose("deepkd kd_form", kd_form, ("per_row", "batch_means"))
    return kd_form


def _decoupled(method: Method, mask: Mask) -> Method:
    """The method with a role for every component, masked if asked."""
    base = method.twin or method
    if mask.keep or method.twin is not None:
        try:
            terms = as_terms(base.terms).masked(mask)
        except ValueError:
            raise ValueError(
                f"deepkd: keep masks the non-targets of a label partition (kd, dkd); {method.name} has none"
            ) from None
        # A mean over the batch in the terms of a twin, whose factor 1 - a it concerns.
        row_wise = base.row_wise and (method.twin is None or mask.form == "per_row")
        base = replace(base, terms=terms, row_wise=row_wise)
    nameless = [name for name, part in base.parts.items() if part.role is None]
    if nameless:
        raise ValueError(
            f"deepkd: {method.name} has components without a role (task, target, nontarget): {nameless} "
            f"of {list(base.parts)}. Use dot(...), or resplit(...) with streams of your own."
        )
    return base


def _published_weights(base: Method, method: Method) -> Method:
    """In KD mode the published code ignores kd_weight and the warm-up (they act as 1); a wrapper's factor stays."""
    core = method.origin.core if method.origin else None
    if core is None or core.function.__name__ != "kd":
        return base
    given = core.given
    ignored = [n for n in ("kd_weight", "warmup") if given.get(n, 1) != 1]
    if ignored:
        warnings.warn(
            f"deepkd(kd(...), rule='published-code'): {', '.join(ignored)} set to 1, as the published code does; "
            f"rule='paper' keeps them",
            stacklevel=4,
        )
    parts = {n: p if p.role == "task" else Part(_as_one(p.weight), p.role) for n, p in base.parts.items()}
    return replace(base, parts=parts)


def _as_one(weight: Schedule) -> Schedule:
    return times(_as_one(weight.schedule), weight.factor) if isinstance(weight, times) else warmup(1.0)


def _streams(base: Method, shifts: dict[str, float], rule: Rule) -> tuple[Stream, ...]:
    used = shifts | {"task": shifts["target"]} if rule == "published-code" else shifts
    members = {role: tuple(name for name, part in base.parts.items() if part.role == role) for role in ROLES}
    missing = [role for role, names in members.items() if not names]
    if missing:
        raise ValueError(
            f"deepkd: {base.name} has no component of role {missing[0]}; components are {list(base.parts)}"
        )
    return tuple(Stream(role, members[role], used[role]) for role in ROLES)


def _update(rule: Rule, shifts: dict[str, float], decay_on: DecayOn | None, normalize_gain: bool) -> UpdateRule:
    if rule == "paper":
        if decay_on is not None:
            choose("deepkd decay_on", decay_on, ("task", "target", "decoupled"))
        return UpdateRule(decay_on=decay_on or "task", normalize_gain=normalize_gain)
    if decay_on not in (None, "target"):
        raise ValueError(
            f"deepkd: rule 'published-code' puts weight decay in the target buffer, got decay_on={decay_on!r}"
        )
    return UpdateRule(
        decay_on="target",
        sequence=("task", "nontarget", "target"),
        declared={"task": shifts["task"]},
        normalize_gain=normalize_gain,
    )


def check_keep(keep: int | Schedule | Auto | None) -> None:
    """``keep`` is an integer, a schedule, ``"auto"`` or ``None``."""
    if keep is None or keep == "auto" or callable(keep):
        return
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 0:
        raise ValueError(
            f"deepkd: keep is a number of classes (an integer, 0 = no mask), 'auto' or a schedule that returns a "
            f"fraction of the classes, such as fr.schedules.phases(plateau=.55); got {keep!r}"
        )
