"""Means, sample standard deviations and Student intervals over a handful of seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

LEVEL = 0.95
"""Confidence level of every interval in a report."""

Verdict = Literal["above", "below", "within", "unknown"]


@dataclass(frozen=True)
class Estimate:
    """The values of one quantity, one per seed, in the order of the runs.

    Example:
        >>> e = Estimate((92.0, 93.0, 94.0))
        >>> e.mean, e.std, Estimate((92.0,)).std
        (93.0, 1.0, None)
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Arithmetic mean; not a number if a value is."""
        return math.fsum(self.values) / len(self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation (divisor n - 1); None for a single value."""
        if len(self.values) < 2:
            return None
        if not all(map(math.isfinite, self.values)):
            return math.nan
        return statistics.stdev(self.values)


@dataclass(frozen=True)
class Difference:
    """Paired difference to a baseline: mean over common seeds with its Student interval.

    ``low`` and ``high`` are ``mean -+ t_(n-1) std / sqrt(n)`` at ``LEVEL``; both None for one pair.
    ``values`` holds the difference of every pair.
    """

    values: tuple[float, ...]
    low: float | None
    high: float | None

    @property
    def mean(self) -> float:
        """Mean of the paired differences."""
        return Estimate(self.values).mean

    @property
    def verdict(self) -> Verdict:
        """Whether the interval excludes zero, that is, whether the seeds' spread is exceeded."""
        if self.low is None or self.high is None or not math.isfinite(self.low + self.high):
            return "unknown"
        if self.low > 0:
            return "above"
        return "below" if self.high < 0 else "within"


def paired_difference(ours: Sequence[float], baseline: Sequence[float]) -> Difference:
    """Difference of pairs with its Student interval at ``LEVEL``.

    Args:
        ours: values of the method, one per common seed.
        baseline: values of the baseline for the same seeds, in the same order.

    Raises:
        ValueError: the two do not have the same positive length.

    Example:
        >>> d = paired_difference([93.0, 94.0, 95.0], [90.0, 90.0, 90.0])
        >>> d.mean, round(d.low, 3), round(d.high, 3), d.verdict
        (4.0, 1.516, 6.484, 'above')
    """
    if not ours or len(ours) != len(baseline):
        raise ValueError(f"paired values must have the same positive length, got {len(ours)} and {len(baseline)}")
    gaps = Estimate(tuple(a - b for a, b in zip(ours, baseline, strict=True)))
    if gaps.std is None:
        return Difference(gaps.values, None, None)
    half = student_t_quantile(0.5 + LEVEL / 2, len(gaps.values) - 1) * gaps.std
    half /= math.sqrt(len(gaps.values))
    return Difference(gaps.values, gaps.mean - half, gaps.mean + half)


def student_t_cdf(t: float, dof: int) -> float:
    """Distribution function of Student's t for a whole number of degrees of freedom.

    The finite trigonometric sums of Abramowitz and Stegun, 26.7.3 and 26.7.4.

    Example:
        >>> round(student_t_cdf(1.0, 1), 12)
        0.75
    """
    theta = math.atan(t / math.sqrt(dof))
    cosine = math.cos(theta)
    odd = dof % 2
    term = total = 0.0
    if dof > 1:
        term = total = cosine if odd else 1.0
    for j in range(3 if odd else 2, dof - 1, 2):
        term *= cosine**2 * (j - 1) / j
        total += term
    inside = math.sin(theta) * total
    return 0.5 + ((theta + inside) / math.pi if odd else inside / 2)


def student_t_quantile(probability: float, dof: int) -> float:
    """Inverse of `student_t_cdf` for a probability in [0.5, 1), by bisection.

    Raises:
        ValueError: fewer than one degree of freedom, or a probability outside [0.5, 1).

    Example:
        >>> round(student_t_quantile(0.975, 2), 4)
        4.3027
    """
    if dof < 1:
        raise ValueError(f"dof must be at least 1, got {dof}")
    if not 0.5 <= probability < 1:
        raise ValueError(f"probability must lie in [0.5, 1), got {probability}")
    low, high = 0.0, 1.0
    while student_t_cdf(high, dof) < probability:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if student_t_cdf(middle, dof) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2
