"""Gradient streams: which components are differentiated together, and with which momentum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..optim.momenta import Momenta, Orphan


@dataclass(frozen=True)
class Stream:
    """Components that share one backward pass and one momentum buffer.

    Args:
        name: stream name.
        components: names of its components.
        shift: added to the base momentum.
    """

    name: str
    components: tuple[str, ...]
    shift: float = 0.0


@dataclass(frozen=True)
class UpdateRule:
    """What the optimizer must know besides the shifts.

    Args:
        decay_on: stream that carries weight decay, or ``"decoupled"``; the first stream if not given.
        sequence: streams move the weights one after the other in this order (DeepKD's published code).
        declared: shifts as written by the source where the rule does not use them (the task shift of
            DeepKD's published code, which only enters the mean for orphans).
        normalize_gain: multiply a stream's step by (1 - m_stream) / (1 - m), so that a larger momentum means longer
            memory but no larger step.
        orphan: coefficient of parameters reached by one stream only.
        carried: gains of streams that are loss weights now, by role (or component without one), see :func:`reweighted`.
            A further loss of a role takes its gain, and a bound on the gradient's norm grows by the largest.
    """

    decay_on: str | None = None
    sequence: tuple[str, ...] = ()
    declared: Mapping[str, float] = field(default_factory=dict)
    normalize_gain: bool = False
    orphan: Orphan = "own"
    carried: Mapping[str, float] = field(default_factory=dict)

    @property
    def magnified(self) -> float:
        """How much larger than the base's a gradient may be before it is clipped."""
        return max(self.carried.values(), default=1.0)

    def momenta(self, momentum: float, all_streams: tuple[Stream, ...], streams: tuple[Stream, ...]) -> Momenta:
        """Coefficients for ``streams``, the merged form of ``all_streams``."""
        if momentum == 1:
            raise ValueError("momenta: momentum must lie in [0, 1), got 1")
        values = {s.name: momentum + s.shift for s in streams}
        merged = len(streams) < len(all_streams)
        shifts = {s.name: s.shift for s in all_streams} | dict(self.declared)
        gains = {s.name: (1 - values[s.name]) / (1 - momentum) for s in streams}
        names = [s.name for s in all_streams]
        return Momenta(
            values,
            decay_on=self._decay_stream(names, list(values)),
            sequence=() if merged else tuple(n for n in self.sequence if n in values),
            gains=gains if self.normalize_gain else {},
            orphan=self.orphan,
            mean=sum(momentum + shift for shift in shifts.values()) / len(shifts),
            no_buffer=tuple(n for n, d in self.declared.items() if momentum + d == 0 and n in values),
            inexact=_INEXACT if merged and self.sequence else None,
            base=momentum,
        )

    def _decay_stream(self, all_names: list[str], names: list[str]) -> str | None:
        """The (merged) stream that holds the decay; the first one when its own stream was left out."""
        if self.decay_on in (None, "decoupled"):
            return self.decay_on
        return next((n for n in names if self.decay_on in n.split("+")), names[0])


_INEXACT = (
    "the merged form of rule 'published-code' evaluates weight decay before the step instead of between its "
    "parts, so it is not bit-compatible with the published code (relative difference 2e-4 to 3e-2 after 30 to "
    "50 steps); use merge=False for bit-compatible runs, or weight_decay=0, where merging is exact"
)


def merged_streams(streams: tuple[Stream, ...], update: UpdateRule, merge: bool | None) -> tuple[Stream, ...]:
    """Streams with equal shift joined in declared order, named ``a+b``.

    Heavy-ball buffers are linear in the gradient, so this is exact, except where streams move the weights one after the
    other: there ``merge=None`` keeps them apart.
    """
    if merge is None:
        merge = not update.sequence
    if not merge or len(streams) == 1:
        return streams
    groups: dict[float, list[Stream]] = {}
    for stream in streams:
        groups.setdefault(stream.shift, []).append(stream)
    return tuple(
        Stream("+".join(s.name for s in group), sum((s.components for s in group), ()), shift)
        for shift, group in groups.items()
    )
