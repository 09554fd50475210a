"""Estimates over a handful of seeds, their Student intervals, and the words for them on console and page."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fractionate.report.groups import LABELS_ALONE

if TYPE_CHECKING:
    from fractionate._headlines import Headline
    from fractionate.report.table import Row

LEVEL = 0.95  # confidence of every interval in a report
NAMED = 12  # methods that a sentence names at most
MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
PERCENT = "\N{NO-BREAK SPACE}%"
LEVEL_TEXT = f"{LEVEL * 100:g}{PERCENT}"
ALIKE = 1e-9  # spread of differences, in their mean, that is rounding

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

    ``low`` and ``high`` are ``mean -+ t_(n-1) std / sqrt(n)`` at ``LEVEL``; both None for one pair, and where all pairs
    differ by the same amount other than 0: scores are shares of a number of images, so two seeds may well agree by
    chance, and an interval of no width would call that certain. ``values`` holds the difference of every pair.
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
    if gaps.std is None or gaps.std <= ALIKE * abs(gaps.mean):
        exact = gaps.std is not None and gaps.mean == 0
        return Difference(gaps.values, 0.0, 0.0) if exact else Difference(gaps.values, None, None)
    from scipy.special import stdtrit  # the quantile of Student's t

    half = float(stdtrit(len(gaps.values) - 1, 0.5 + LEVEL / 2)) * gaps.std / math.sqrt(len(gaps.values))
    return Difference(gaps.values, gaps.mean - half, gaps.mean + half)


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number with a fixed number of digits and a real minus sign; a dash for None.

    Example:
        >>> number(-1.234), number(2.0, sign=True), number(None)
        ('−1.23', '+2.00', '–')
    """
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "not finite"
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if not any(c in text for c in "123456789"):
        text = text.lstrip("+-")  # no signed zero
    return text.replace("-", MINUS)


def spread(estimate: Estimate | None, digits: int = 2, scale: float = 1.0) -> str:
    """Mean and sample standard deviation; a single seed prints no deviation.

    Example:
        >>> spread(Estimate((92.0, 94.0))), spread(Estimate((92.0,))), spread(None)
        ('93.00 ± 1.41', '92.00', '–')
    """
    if estimate is None:
        return NONE
    mean = number(estimate.mean * scale, digits)
    if estimate.std is None or not math.isfinite(estimate.mean):
        return mean
    return f"{mean} ± {number(estimate.std * scale, digits)}"


def gap(difference: Difference | None, digits: int = 2) -> str:
    """A paired difference with its interval.

    Example:
        >>> gap(paired_difference([93.0, 94.0, 95.0], [90.0, 90.0, 90.0]))
        '+4.00 [+1.52, +6.48]'
    """
    if difference is None:
        return NONE
    mean = number(difference.mean, digits, sign=True)
    if difference.low is None or difference.high is None or not math.isfinite(difference.mean):
        return mean
    low, high = (number(v, digits, sign=True) for v in (difference.low, difference.high))
    return f"{mean} [{low}, {high}]"


def measured(value: Estimate | float | None, headline: Headline) -> str:
    r"""A value of the headline with its unit; a dash alone for None.

    Example:
        >>> from fractionate._headlines import HEADLINES
        >>> measured(Estimate((92.0,)), HEADLINES["miou"])
        '92.00\xa0%'
    """
    if value is None:
        return NONE
    text = spread(value) if isinstance(value, Estimate) else number(value)
    return f"{text}\N{NO-BREAK SPACE}{headline.unit}" if headline.unit else text


def listing(names: Sequence[str]) -> str:
    """Names as English: ``a``, ``a and b``, ``a, b and c``; of more than `NAMED` the number.

    Example:
        >>> listing(["kd", "dkd", "gdkd"])
        'kd, dkd and gdkd'
    """
    if len(names) < 2:
        return "".join(names)
    if len(names) > NAMED:
        return f"{', '.join(names[: NAMED - 2])} and {len(names) - NAMED + 2} more"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def finding(rows: Sequence[Row]) -> list[str]:
    """The finding of one setting in a few sentences, the first the headline.

    A difference "exceeds the seeds' spread" when the Student interval of its paired differences at `LEVEL` excludes
    zero; the sentences say so of those and of no others.

    Example:
        >>> finding([])
        ['No run has finished yet.']
    """
    if not rows:
        return ["No run has finished yet."]
    baseline = next((row for row in rows if row.is_baseline), None)
    others = [row for row in rows if not row.is_baseline]
    if baseline is None or not others:
        return [_alone(row) for row in rows]
    sentences = [_versus(others, baseline.label), *_largest(others, baseline.label)]
    return sentences + _leader(rows) + _untaught(baseline, others)


def _untaught(alone: Row, taught: Sequence[Row]) -> list[str]:
    known = [s.teacher_last for row in taught for s in row.group.summaries if s.teacher_last is not None]
    if not known or alone.group.summaries[0].method.lower() not in LABELS_ALONE:
        return []
    return untaught("The teacher", statistics.fmean(known), alone.label, alone.last.mean, alone.headline)


def untaught(teacher: str, score: float, alone: str, mean: float, metric: Headline) -> list[str]:
    """That a teacher is no better than students without one, and so has little to teach; nothing where it is."""
    by = f"({measured(score, metric)}) is not ahead of {alone} ({measured(mean, metric)})"
    behind = score <= mean if metric.higher else score >= mean
    return [f"{teacher} {by}: a better one may order them otherwise."] if behind else []


def _alone(row: Row) -> str:
    if not math.isfinite(row.last.mean):
        return f"{row.label}: a run ended without a finite {row.headline.name}."
    seeds = f"{row.n} seed{'s' if row.n > 1 else ''}"
    return f"{row.label}: {measured(row.last, row.headline)} {row.headline.label} at the last epoch ({seeds})."


def _versus(others: Sequence[Row], baseline: str) -> str:
    """The headline: which methods differ from the baseline, and which do not."""
    by: dict[Verdict, list[str]] = {"above": [], "below": [], "within": [], "unknown": []}
    for row in others:
        by[row.difference.verdict if row.difference else "unknown"].append(row.label)
    parts = []
    for verdict in ("above", "below"):
        if names := by[verdict]:
            all_of = f"All {len(names)} methods" if len(names) == len(others) > 2 else listing(names)
            verb = "ends" if len(names) == 1 else "end"
            parts.append(f"{all_of} {verb} {verdict} {baseline} by more than the seeds’ spread")
    if names := by["within"]:
        stay = f"{'stays' if len(names) == 1 else 'stay'} within it"
        parts.append(f"{listing(names)} {stay if parts else f'cannot be told from {baseline} by the seeds at hand'}")
    if names := by["unknown"]:
        if len(names) == len(others):
            return f"The seeds at hand give no spread by which to judge a difference to {baseline}."
        parts.append(f"{listing(names)} cannot be judged by the seeds at hand")
    return "; ".join(parts) + "."


def _largest(others: Sequence[Row], baseline: str) -> list[str]:
    """The largest difference to the baseline, and whether it is one at all."""
    metric = others[0].headline
    gains = [(row.difference, row.label) for row in others if row.difference and math.isfinite(row.difference.mean)]
    if not gains:
        return []
    sign = 1 if metric.higher else -1
    best, label = max(gains, key=lambda pair: sign * pair[0].mean)
    if sign * best.mean <= 0:
        return [f"No method has a {'higher' if metric.higher else 'lower'} mean than {baseline} at the last epoch."]
    most = "most " if len(gains) > 1 else ""
    text = f"{label} gains {most}over {baseline}: {number(best.mean, sign=True)} {metric.of} at the last epoch"
    if best.low is None or best.high is None:
        seeds = "from one seed" if len(best.values) == 1 else f"the same for all {len(best.values)} seeds"
        return [f"{text}, {seeds}, so its spread is not known."]
    low, high = number(best.low, sign=True), number(best.high, sign=True)
    zero = "" if best.verdict == _better(metric) else ", which includes zero"
    return [f"{text} ({LEVEL_TEXT} interval {low} to {high}{zero}; paired over {len(best.values)} seeds)."]


def _better(metric: Headline) -> Verdict:
    return "above" if metric.higher else "below"


def _leader(rows: Sequence[Row]) -> list[str]:
    """Whether the best mean is really ahead of the other means."""
    metric = rows[0].headline
    ranked = [row for row in rows if math.isfinite(row.last.mean) and row.n > 1]
    ranked.sort(key=lambda row: row.last.mean, reverse=metric.higher)
    if len(ranked) < 2:
        return []
    first = ranked[0]
    ahead: list[str] = []
    level: list[str] = []
    for row in ranked[1:]:
        ours = dict(zip(first.group.seeds, first.last.values, strict=True))
        theirs = dict(zip(row.group.seeds, row.last.values, strict=True))
        seeds = [seed for seed in ours if seed in theirs]
        if len(seeds) > 1:
            lead = paired_difference([ours[s] for s in seeds], [theirs[s] for s in seeds])
            (ahead if lead.verdict == _better(metric) else level).append(row.label)
    judged = {first.label, *ahead, *level}
    apart = [row.label for row in rows if row.label not in judged]
    among = "Of the rows with common seeds " if apart else ""
    best = "highest" if metric.higher else "lowest"
    text = f"{among}{first.label} has the {best} mean ({measured(first.last.mean, metric)}); "
    end = f"; {listing(apart)} cannot be judged." if apart else "."
    if level and ahead:
        return [f"{text}its lead exceeds the seeds’ spread over {listing(ahead)}, not over {listing(level)}{end}"]
    if level:
        return [f"{text}its lead over {listing(level)} stays within the seeds’ spread{end}"]
    whom = listing(ahead) if apart else "every other row"
    return [f"{text}its lead over {whom} exceeds the seeds’ spread{end}"] if ahead else []
