"""Which momentum each gradient stream gets, how a parameter moves along it, and how saved buffers fit other streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from .._spoken import spoken
from .sharded import is_sharded, placed_as

DecayOn = Literal["decoupled"] | str
Orphan = Literal["own", "mean"]
OPTIONS = ("lr", "weight_decay", "dampening", "nesterov", "beta2", "eps")  # of the groups that either optimizer saves
SHARED = ("exp_avg_sq", "step")  # state that belongs to a parameter and to no stream


@dataclass(frozen=True)
class Momenta(Mapping[str, float]):
    """Momentum coefficient of every stream: a mapping from stream name to coefficient.

    Args:
        coefficients: stream name to heavy-ball coefficient in [0, 1).
        decay_on: the stream whose buffer carries the weight decay, or ``"decoupled"`` for
            theta <- (1 - lr * weight_decay) theta; the first stream if not given.
        sequence: if given, streams move the weights one after the other in this order, and the decay is
            evaluated at the moved point (DeepKD's published code); else all streams move them together.
        gains: factor on the step of each stream, 1 unless given.
        orphan: a parameter that only one stream reaches uses that stream's ``"own"`` coefficient, or the
            ``"mean"`` of all (DOT's published code).
        mean: the coefficient published code uses for orphans; the mean of ``coefficients`` if not given.
        no_buffer: streams whose buffer is off: a plain gradient step (DeepKD's published code at momentum 0).
        inexact: why a merged form is not bit-compatible when weight decay is on, if so.
        base: the momentum from which the coefficients are shifted; 0.9 if not given.

    Raises:
        ValueError: a coefficient outside [0, 1), or names that do not fit.

    Example:
        >>> Momenta({"task": 0.825, "distillation": 0.975})["task"]
        0.825
    """

    coefficients: Mapping[str, float]
    decay_on: DecayOn | None = None
    sequence: tuple[str, ...] = ()
    gains: Mapping[str, float] = field(default_factory=dict)
    orphan: Orphan = "own"
    mean: float | None = None
    no_buffer: tuple[str, ...] = ()
    inexact: str | None = None
    base: float | None = None

    @spoken
    def __post_init__(self) -> None:
        if not self.coefficients:
            raise ValueError("Momenta: at least one stream is needed")
        for name, value in self.coefficients.items():
            if not 0 <= value < 1:
                raise ValueError(
                    f"Momenta: the coefficient of stream {name!r} must lie in [0, 1), got {value:g}; "
                    f"choose a smaller momentum or shift"
                )
        known = {"decoupled", *self.coefficients}
        if self.decay_on is not None and self.decay_on not in known:
            raise ValueError(f"Momenta: decay_on={self.decay_on!r} is none of {sorted(known)}")
        if self.sequence and set(self.sequence) != set(self.coefficients):
            raise ValueError(
                f"Momenta: sequence {self.sequence} must name every stream of {list(self.coefficients)} once"
            )

    def __getitem__(self, stream: str) -> float:
        return self.coefficients[stream]

    def __iter__(self) -> Iterator[str]:
        return iter(self.coefficients)

    def __len__(self) -> int:
        return len(self.coefficients)

    @property
    def decay_stream(self) -> str | None:
        """The stream that carries weight decay; ``None`` when it is decoupled."""
        if self.decay_on == "decoupled":
            return None
        return self.decay_on or next(iter(self.coefficients))

    @property
    def order(self) -> list[str]:
        """The stream with weight decay first (it looks at the unmoved weights), or the given sequence."""
        first = self.decay_stream
        return list(self.sequence) or sorted(self.coefficients, key=lambda name: name != first)

    @property
    def average(self) -> float:
        """The coefficient of a parameter that belongs to no stream's own rule."""
        return self.mean if self.mean is not None else sum(self.values()) / len(self)


def as_momenta(momentum: float | Mapping[str, float]) -> Momenta:
    """A float becomes one stream ``loss``; a plain mapping carries decay on its first stream."""
    if isinstance(momentum, Momenta):
        return momentum
    if isinstance(momentum, Mapping):
        return Momenta(dict(momentum))
    given: object = momentum
    if isinstance(given, str):  # float() would read it
        raise TypeError("a text is no momentum")
    return Momenta({"loss": float(momentum)}, base=float(momentum))


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
    decayed = momenta.decay_stream
    if momenta.orphan == "mean" and len(reached_by) == 1 and len(momenta) > 1:
        decay = int(stream in reached_by and decayed is not None)
        return Move(momenta.average, decay, decay)
    decay = int(stream == decayed)
    return Move(momenta.coefficients[stream], decay, decay)


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


def by_coefficient(momenta: Mapping[str, float]) -> dict[str, list[str]]:
    """Streams of one coefficient, under their names joined with ``+``.

    Raises:
        ValueError: two of these have one name.
    """
    groups: dict[float, list[str]] = {}
    for stream, value in momenta.items():
        groups.setdefault(value, []).append(stream)
    found: dict[str, list[str]] = {}
    for streams in groups.values():
        if (name := "+".join(streams)) in found:
            several = max(streams, found[name], key=len)
            raise ValueError(
                f"StreamAdamW: the streams {', '.join(map(repr, several))} share a first moment called {name!r}, as "
                f"another is called already; rename one of them"
            )
        found[name] = streams
    return found


def entries(who: str, state_dict: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What an optimizer's state holds of every parameter.

    Raises:
        ValueError: it is no optimizer's state, as a file that holds one among other things.
    """
    state, groups = state_dict.get("state"), state_dict.get("param_groups")
    if not isinstance(state, Mapping) or not isinstance(groups, list):
        raise ValueError(
            f"{who}.load_state_dict: expected what state_dict() of an optimizer gave, with 'state' and 'param_groups'; "
            f"found {list(state_dict)[:5]}"
        )
    return list(state.values())


def fitted(who: str, state_dict: Mapping[str, Any], groups: list[dict[str, Any]], streams: list[str]) -> dict[str, Any]:
    """A saved state with its buffers turned into those of ``streams``, and divided as sharded parameters are.

    Raises:
        ValueError: the saved streams cannot be turned into these, or the state is another optimizer's or another
            network's.
    """
    for saved, group in zip(state_dict["param_groups"], groups, strict=False):
        if lacking := [name for name in OPTIONS if name in group and name not in saved]:
            raise ValueError(
                f"{who}.load_state_dict: the state has no {lacking[0]!r}; was it saved by another kind of optimizer?"
            )
    state = {key: fit_state(who, entry, streams) for key, entry in state_dict["state"].items()}
    keys = [key for group in state_dict["param_groups"] for key in group["params"]]
    own = [p for group in groups for p in group["params"]]
    for key, p in zip(keys, own, strict=False):  # torch's own loading says what is wrong with their number
        if key in state:
            found = state[key].items()
            other = [x for name, x in found if isinstance(x, Tensor) and name != "step" and x.shape != p.shape]
            if other and not is_sharded([p]):
                raise ValueError(
                    f"{who}.load_state_dict: the state of a parameter {list(p.shape)} is {list(other[0].shape)}; it "
                    f"was saved for another network, or for the same parameters in another order"
                )
            state[key] = {name: placed_as(p, x) if isinstance(x, Tensor) else x for name, x in found}
    return {**state_dict, "state": state}


def fit_state(who: str, saved: Mapping[str, Any], streams: list[str]) -> dict[str, Any]:
    """What was saved of one parameter for ``streams``, from buffers saved under possibly other streams.

    Buffers are linear in the gradient, so those of separate streams add up to the merged one; the
    other way needs numbers that were never stored. What is no stream's (:data:`SHARED`) stays.

    Raises:
        ValueError: a saved buffer has no place in ``streams``.
    """
    found: dict[str, Any] = {}
    for name, buffer in saved.items():
        home = name if name in SHARED or name in streams else _home(name, streams)
        if home is None and streams == ["loss"]:
            home = "loss"  # one stream holds everything
        if home is None:
            raise ValueError(f"{who}.load_state_dict: {_why(name, streams)}")
        found[home] = found[home] + buffer if home in found else buffer
    return found


def _home(name: str, streams: list[str]) -> str | None:
    """The stream with the fewest parts that has all of a saved one's."""
    able = [s for s in streams if set(name.split("+")) <= set(s.split("+"))]
    return min(able, key=lambda s: len(set(s.split("+"))), default=None)


def _why(name: str, streams: list[str]) -> str:
    parts = {part for stream in streams for part in stream.split("+")}
    if name == "loss" or parts & set(name.split("+")):
        return (
            f"the saved buffer {name!r} cannot be taken apart into the streams {streams}: only the sum of its "
            f"parts was stored. Load it into an optimizer with merged streams."
        )
    return f"the saved buffer {name!r} belongs to none of the streams {streams}; was another method trained?"
