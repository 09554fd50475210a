"""Which divergence a split is of, and the plain path for all but forward KL.

Every direction obeys the chain rule along a partition: the divergence of the masses, plus the sum over the groups of
the divergence inside, weighed by the masses of its first argument (a mixture weighs both sides).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .._choices import choose
from .._typing import Float
from .plain import Partition, Parts, group_logs, kl_rows

Name = Literal["forward", "reverse", "jsd", "skew", "skew_reverse"]
NAMES: tuple[Name, ...] = ("forward", "reverse", "jsd", "skew", "skew_reverse")
_ARGUMENT = {"jsd": ("beta", 0.5), "skew": ("lam", 0.1), "skew_reverse": ("lam", 0.1)}


@dataclass(frozen=True)
class Direction:
    """Which divergence of teacher and student; made by :func:`jsd`, :func:`skew`, :func:`skew_reverse` or from text.

    Args:
        name: ``"forward"`` KL(p^T || p^S), ``"reverse"`` KL(p^S || p^T), or one of the mixtures.
        weight: beta or lambda of a mixture.
    """

    name: Name
    weight: float = 0.0

    def __str__(self) -> str:
        return f"{self.name}({_ARGUMENT[self.name][0]}={self.weight:g})" if self.mixed else self.name

    __repr__ = __str__

    @property
    def mixed(self) -> bool:
        """Whether it is taken against a mixture; ``within`` of a split then holds its masses."""
        return self.name in _ARGUMENT

    @property
    def mixing(self) -> float:
        """Weight of the teacher in the mixture M."""
        return 1 - self.weight if self.name == "skew_reverse" else self.weight

    @property
    def factors(self) -> tuple[float, float]:
        """Of the KLs whose first argument is the teacher and the student."""
        if self.name == "jsd":
            return self.weight, 1 - self.weight
        return (1.0, 0.0) if self.name in ("forward", "skew") else (0.0, 1.0)

    def terms(self, teacher: Tensor, student: Tensor) -> list[tuple[float, Tensor]]:
        """What the divergence sums: factor and first argument of every KL(. || second)."""
        if self.name == "jsd":
            return [(self.weight, teacher), (1 - self.weight, student)]
        return [(1.0, teacher if self.name in ("forward", "skew") else student)]


FORWARD = Direction("forward")


def jsd(beta: float = 0.5) -> Direction:
    """Generalised Jensen-Shannon divergence against the mixture of both networks.

    beta KL(p^T || M) + (1 - beta) KL(p^S || M), M = beta p^T + (1 - beta) p^S

    Args:
        beta: in (0, 1). The divergence shrinks to 0 at both ends.

    Source: arXiv 2306.13649 (GKD).

    Example:
        >>> jsd(0.25)
        jsd(beta=0.25)
    """
    return _mixture("jsd", beta)


def skew(lam: float = 0.1) -> Direction:
    """Skewed KL(p^T || M), M = lam p^T + (1 - lam) p^S; at most -log lam.

    Args:
        lam: in (0, 1); towards 0 it becomes the forward KL.

    Source: arXiv 2402.03898 (DistiLLM).
    """
    return _mixture("skew", lam)


def skew_reverse(lam: float = 0.1) -> Direction:
    """Skewed reverse KL(p^S || M), M = (1 - lam) p^T + lam p^S.

    Args:
        lam: in (0, 1); towards 0 it becomes the reverse KL.

    Source: arXiv 2402.03898 (DistiLLM).
    """
    return _mixture("skew_reverse", lam)


def _mixture(name: Name, weight: float) -> Direction:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1:
        raise ValueError(f"{name}: {_ARGUMENT[name][0]} must lie between 0 and 1, got {weight!r}")
    return Direction(name, float(weight))


def as_direction(given: Direction | str) -> Direction:
    """A direction from itself or from its text, such as ``"reverse"`` or ``"jsd(beta=0.5)"``.

    Example:
        >>> as_direction("skew"), as_direction("jsd(0.3)")
        (skew(lam=0.1), jsd(beta=0.3))

    Raises:
        ValueError: an unknown name (the nearest is named), or a weight outside (0, 1).
    """
    if isinstance(given, Direction):
        return given
    found = re.fullmatch(r"\s*(\w+)\s*(?:\(\s*(?:(\w+)\s*=\s*)?([-+.\deE]+)?\s*\))?\s*", str(given))
    name = choose("direction", found[1] if found else str(given), NAMES)
    if name not in _ARGUMENT:
        return Direction(name)  # type: ignore[arg-type]
    argument, default = _ARGUMENT[name]
    if found is not None and found[2] is not None:
        choose(f"argument of {name}", found[2], (argument,))
    return _mixture(name, float(found[3]) if found is not None and found[3] else default)  # type: ignore[arg-type]


def directed_split(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    partition: Partition,
    temperature: float | Tensor,
    direction: Direction,
) -> Parts:
    """As the plain path, of another divergence: ``between``, ``within`` and both log masses.

    ``within`` of reverse KL is without its mass (the student's, with its graph); that of a mixture holds its masses.
    """
    groups = group_logs(student, teacher, partition, temperature)
    log_t, log_s = (torch.stack([g.sums[i] for g in groups], 1).log_softmax(1) for i in range(2))
    square = temperature * temperature
    inside = [inside_group(g.logs, (log_t[:, j], log_s[:, j]), g.empty, direction) for j, g in enumerate(groups)]
    return square * divergence(log_t, log_s, direction), square * torch.stack(inside, 1), log_t, log_s


def divergence(log_t: Float[Tensor, "n m"], log_s: Float[Tensor, "n m"], direction: Direction) -> Float[Tensor, " n"]:
    """The divergence of two distributions from their log-probabilities, -inf where a class is absent from both."""
    second = _second(log_t, log_s, direction)
    return _sum([factor * kl_rows(first, second) for factor, first in direction.terms(log_t, log_s)])


def _second(log_t: Tensor, log_s: Tensor, direction: Direction) -> Tensor:
    """The second argument of every KL: the other network, or the mixture."""
    if not direction.mixed:
        return log_s if direction.name == "forward" else log_t
    absent = (log_t == -torch.inf) & (log_s == -torch.inf)
    a, b = (x.masked_fill(absent, 0.0) for x in (log_t, log_s))
    return torch.logaddexp(a + math.log(direction.mixing), b + math.log1p(-direction.mixing))


def inside_group(
    logs: tuple[Tensor, Tensor], log_mass: tuple[Tensor, Tensor], empty: Tensor | None, direction: Direction
) -> Tensor:
    """``[n]`` the divergence inside one group; for a mixture, times its masses."""
    if not direction.mixed:
        value = divergence(*logs, direction)
    else:
        mass_t, mass_s = (x if empty is None else x.masked_fill(empty, 0.0) for x in log_mass)
        mixture = _second(logs[0] + mass_t[:, None], logs[1] + mass_s[:, None], direction)
        mixture = mixture - _second(mass_t, mass_s, direction)[:, None]
        sides = zip(direction.terms(*logs), direction.terms(mass_t, mass_s), strict=True)
        value = _sum([factor * mass.exp() * kl_rows(first, mixture) for (factor, first), (_, mass) in sides])
    return value if empty is None else value.masked_fill(empty, 0.0)


def _sum(values: Sequence[Tensor]) -> Tensor:
    return sum(values[1:], values[0])
