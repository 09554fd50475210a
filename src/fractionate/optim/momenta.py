"""Which momentum each gradient stream gets, and the facts of the update that go with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

DecayOn = Literal["decoupled"] | str
Orphan = Literal["own", "mean"]


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
    def average(self) -> float:
        """The coefficient of a parameter that belongs to no stream's own rule."""
        return self.mean if self.mean is not None else sum(self.values()) / len(self)


def as_momenta(momentum: float | Mapping[str, float]) -> Momenta:
    """A float becomes one stream ``loss``; a plain mapping carries decay on its first stream."""
    if isinstance(momentum, Momenta):
        return momentum
    if isinstance(momentum, Mapping):
        return Momenta(dict(momentum))
    return Momenta({"loss": float(momentum)})
