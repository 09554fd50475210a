"""Wrappers that choose streams: DOT, streams of one's own, fewer components, and the control without streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .._choices import choose, unknown
from ..optim.momenta import Orphan
from ..schedules import times
from .arguments import Call, check_numbers, preset
from .method import Method, Part
from .streams import Stream, UpdateRule

MOMENTUM = 0.9  # that a control counts with unless it is told another


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

    Map: stream task | distillation

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


def only(method: Method, names: list[str] | tuple[str, ...] | str) -> Method:
    """Keep some components: single-stream ablations and combinations of them.

    Args:
        method: any method; streams that lose all their components disappear.
        names: components to keep, at least one.

    Raises:
        ValueError: a name that is no component.

    Example:
        >>> import fractionate as fr
        >>> list(fr.methods.only(fr.methods.dkd(), ["nontarget"]).parts)
        ['nontarget']
    """
    kept = [names] if isinstance(names, str) else list(names)
    for name in kept:
        if name not in method.parts:
            raise ValueError(f"only: {unknown(f'component of {method.name}', name, method.parts)}")
    if not kept:
        raise ValueError(f"only: name at least one component of {list(method.parts)}")
    streams = [replace(s, components=tuple(c for c in s.components if c in kept)) for s in method.streams]
    return replace(
        method,
        name=f"{method.name}[{'+'.join(kept)}]",
        parts={name: part for name, part in method.parts.items() if name in kept},
        streams=tuple(s for s in streams if s.components),
        twin=None,
        origin=Call(only, {"method": method, "names": kept}),
    )


def resplit(
    method: Method,
    streams: Mapping[str, tuple[str, ...] | list[str]],
    shifts: Mapping[str, float],
    *,
    decay_on: str | None = None,
) -> Method:
    """Put the components of a method in other gradient streams; no weight changes.

    Args:
        method: any method.
        streams: stream name -> its components; every component exactly once.
        shifts: stream name -> momentum shift (0 if not named).
        decay_on: stream that carries weight decay (the first one unless given), or ``"decoupled"``.

    Raises:
        ValueError: a component that is missing or used twice, or a shift for an unknown stream.

    Example:
        >>> import fractionate as fr
        >>> m = fr.methods.resplit(fr.methods.dkd(), {"a": ["task", "target"], "b": ["nontarget"]}, {"b": 0.05})
        >>> dict(m.momenta(0.5))
        {'a': 0.5, 'b': 0.55}
    """
    for name in shifts:
        if name not in streams:
            raise ValueError(f"resplit: {unknown('stream', name, streams)}")
    return replace(
        method,
        streams=tuple(Stream(n, tuple(c), float(shifts.get(n, 0.0))) for n, c in streams.items()),
        update=UpdateRule(decay_on=decay_on),
        origin=Call(resplit, {"method": method, "streams": streams, "shifts": shifts, "decay_on": decay_on}),
    )


@preset
def reweighted(method: Method, *, momentum: float = MOMENTUM) -> Method:
    """Loss-reweighted SGD: every stream's larger step as a larger loss weight, without its longer memory.

    w_c <- w_c (1 - m) / (1 - m_c) for the components of every stream c; then one stream with momentum m

    A heavy-ball buffer multiplies a constant gradient by 1 / (1 - m_c), so a momentum shift also re-weights the loss.
    This method keeps that part and drops the rest, to tell the two apart; ``deepkd(normalize_gain=True)`` does the
    opposite. A further loss that joins later (:func:`with_extra`, the losses of a detector) takes the weight of its
    role's stream, and the trainer's ``optimizer.clip`` is multiplied by the largest of these weights, as the streams'
    gradients are bounded before their momenta multiply them.

    Args:
        method: a method with streams: dot, deepkd, ...
        momentum: the base momentum m it would be trained with.

    Returns:
        Method with the components of ``method`` in one stream, ``loss``.

    Raises:
        ValueError: a momentum or a shifted one outside [0, 1).

    Source: this package (a control for arXiv 2505.15133).

    Map: stream each with the loss weight of its momentum

    Example:
        >>> import fractionate as fr
        >>> m = fr.methods.reweighted(fr.methods.dot(fr.methods.kd(ce_weight=1.0), delta=0.25), momentum=0.5)
        >>> round(m.parts["task"].weight(fr.Progress()), 3), dict(m.momenta(0.5))
        (0.667, {'loss': 0.5})
    """
    check_numbers("reweighted", momentum=momentum)
    if not 0 <= momentum < 1:
        raise ValueError(f"reweighted: momentum must lie in [0, 1), got {momentum!r}")
    momenta = method.momenta(momentum, merge=False)
    gains = {
        component: momenta.gains.get(stream.name, 1.0) * (1 - momentum) / (1 - momenta[stream.name])
        for stream in method.streams
        for component in stream.components
    }
    before, carried = method.update.carried, dict[str, float]()
    for component, gain in gains.items() if before or set(gains.values()) != {1.0} else ():
        role = method.parts[component].role or component
        carried.setdefault(role, gain * before.get(role, 1.0))
    return replace(
        method,
        name=f"{method.name}+reweighted",
        parts={name: Part(times(part.weight, gains[name]), part.role) for name, part in method.parts.items()},
        streams=(),
        update=UpdateRule(carried=carried),
        twin=None,
    )
