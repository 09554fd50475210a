"""What a run's momenta make of the weights of its losses, and whether a control has the same."""

from __future__ import annotations

import math
from typing import cast

from ..config.run import Run
from ..methods import Allocation, Method, effective_weights
from ..methods.effective import Update, said, warning_of
from ..methods.restream import MOMENTUM


def allocation(run: Run, method: Method | None = None) -> Allocation:
    """What the run's momenta make of the weights of its losses.

    Args:
        run: config.
        method: its method, if it is there already.

    Example:
        >>> from fractionate.config.method import MethodSpec
        >>> from fractionate.config.run import Network
        >>> spec = MethodSpec.parse("dkd(beta=2)+deepkd")
        >>> run = Run(student=Network("resnet8"), teacher=Network("resnet20"), method=spec)
        >>> round(allocation(run).pressure(lr=0.1)[0], 2)
        0.8
    """
    o, update = run.optimizer, "sgd"
    if o.name == "adamw":
        update = "adamw" if o.gain == "normalised" else "adamw-heavy-ball"
    return effective_weights(
        method or run.method.build(),
        o.base,
        update=cast(Update, update),
        dampening=getattr(o, "dampening", 0.0),
        one_buffer=run.combine != "none",
    )


def gain_of_rest(run: Run) -> float:
    """What the run's streams multiply its largest non-target weight by; of a control, those that it stands for.

    Example:
        >>> from fractionate.config.method import MethodSpec
        >>> from fractionate.config.run import Network
        >>> spec = MethodSpec.parse("dkd+deepkd+reweighted")
        >>> run = Run(student=Network("resnet8"), teacher=Network("resnet20"), method=spec)
        >>> round(gain_of_rest(run), 6)
        4.0
    """
    return max((e.ratio for e in allocation(run, run.method.in_streams.build()).distilled), default=1.0)


def weighed(run: Run) -> list[str]:
    """A line about a method whose streams weigh its losses otherwise than without them, and one if that is too much.

    None of a method whose weights wait for its teacher (``weights=auto``).
    """
    method = run.method
    if method.unsettled:
        return []
    found = allocation(run)
    warning = warning_of(found, run.optimizer.lr) if run.optimizer.name == "sgd" else None
    return [f"{method.title}: {line}" for line in (said(found) if found.streamed else None, warning) if line]


def check_control(run: Run) -> None:
    """Refuse a control whose weights are not those that the streams inside it would have in this run.

    Raises:
        ValueError: ``reweighted`` for another momentum, or where momentum weighs nothing.
    """
    spec = run.method
    if spec == spec.in_streams:
        return
    momentum = run.optimizer.base
    streams, control = (
        {e.component: e.effective for e in allocation(run, m).components}
        for m in (spec.in_streams.build(), spec.build())
    )
    if all(math.isclose(x, control.get(name, x), rel_tol=1e-6) for name, x in streams.items()):
        return
    given = spec.wrappers[-1].args.get("momentum", MOMENTUM)
    if run.combine != "none" or (run.optimizer.name == "adamw" and run.optimizer.gain == "normalised"):
        raise ValueError(
            f"{spec.title}: here the momentum of a stream changes no weight (optimizer {run.optimizer.name}, combine "
            f"{run.combine}), so there is none to take over; the control is {spec.in_streams} without its streams"
        )
    raise ValueError(
        f"{spec.title} takes weights over as they are at momentum {given:g}, and this run has {momentum:g}: write "
        f"'{spec.in_streams}+reweighted(momentum={momentum:g})'"
    )
