"""Which coefficient and how much weight decay a parameter gets in one stream's move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .momenta import Momenta


@dataclass(frozen=True)
class Move:
    """One stream's move of one parameter.

    Args:
        coefficient: heavy-ball coefficient; 0 means no buffer, a plain gradient step.
        decay: multiples of weight_decay * theta added to the gradient.
        first_decay: the same on the first step of the buffer.
    """

    coefficient: float
    decay: int = 0
    first_decay: int = 0


Plan = Callable[[Momenta, str, frozenset[str]], Move]


def together(momenta: Momenta, stream: str, reached_by: frozenset[str]) -> Move:
    """All streams move the weights from the same point; decay sits in one of them."""
    orphan = momenta.orphan == "mean" and len(reached_by) == 1 and len(momenta) > 1
    decay = int(stream == momenta.decay_stream)
    if orphan:
        decay = int(stream in reached_by and momenta.decay_stream is not None)
        return Move(momenta.average, decay, decay)
    return Move(momenta[stream], decay, decay)


def published_deepkd(momenta: Momenta, stream: str, reached_by: frozenset[str]) -> Move:
    """DeepKD's published code: coefficients depend on which losses reach the parameter.

    Every stream has its own coefficient when all losses reach the parameter. Otherwise the task uses the
    target's, else the nontarget's; the nontarget its own if the task is there, else the target's; the target its
    own if the task is there, else the nontarget's; and a stream that is alone the mean of all three. Decay:
    never in task, in nontarget only when alone and not on the first step, in target always, twice when alone
    (once on the first step).
    """
    alone = reached_by == {stream}
    value = momenta.average if alone else momenta[_lender(stream, reached_by)]
    if stream in momenta.no_buffer:
        value = 0.0
    decay, first = {"task": (0, 0), "nontarget": (int(alone), 0), "target": (1 + alone, 1)}[stream]
    return Move(value, decay, first)


def _lender(stream: str, reached_by: frozenset[str]) -> str:
    """The stream whose coefficient is used; ``momenta['task']`` already is the target's."""
    if stream == "task":
        return "target" if "target" in reached_by else "nontarget"
    if "task" in reached_by:
        return stream
    return "target" if stream == "nontarget" else "nontarget"
