"""What a budget buys: how many students, how long, and what is kept back for the confirmation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..._terminal import in_time
from ...runs.stop import duration

KEEP = 3  # one of so many goes on
FEWEST, MOST = 3, 18  # students of a later bracket
LARGER = 1.15  # a confirming run learns from all training images, a validation part included
ARMS = 3  # the winner, kd, and the best method as it comes
FINALISTS, REPEATS = 4, 2  # settings that are trained again with further seeds on the validation part


@dataclass(frozen=True)
class Budget:
    """So many seconds from the start of the command, teachers included; or so many students' runs of full length.

    Example:
        >>> Budget.parse("20m"), Budget.parse("40").unit
        (Budget(amount=1200.0, unit='seconds'), 'runs')
    """

    amount: float
    unit: Literal["seconds", "runs"]

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``20m``, ``2h`` or, for runs, a number alone.

        Raises:
            ValueError: neither.
        """
        try:
            timed = any(c.isalpha() for c in text)  # a time has a unit
            budget = cls(duration(text), "seconds") if timed else cls(float(int(text)), "runs")
        except ValueError:
            raise ValueError(f"--budget is a time (20m, 2h) or a whole number of runs (40), got {text!r}") from None
        if not budget.amount > 0:
            raise ValueError(f"--budget must be above 0, got {text!r}")
        return budget

    def __str__(self) -> str:
        return in_time(self.amount) if self.unit == "seconds" else f"{self.amount:g} runs"


def rungs(epochs: int) -> tuple[int, ...]:
    """Epochs after which students are compared: each third of the run.

    Earlier looks mislead. On digits, with every published method trained in full, the ranks after a ninth of the run
    say little about those at its end: losses that are warmed up have hardly begun.

    Example:
        >>> rungs(30), rungs(4), rungs(1)
        ((10, 20, 30), (2, 3, 4), (1,))
    """
    return tuple(sorted({math.ceil(epochs / 3), math.ceil(2 * epochs / 3), epochs}))


def surviving(count: int) -> int:
    """How many of so many students go on; always one.

    Example:
        >>> [surviving(n) for n in (1, 2, 9, 20)]
        [1, 1, 3, 6]
    """
    return max(1, count // KEEP)


def price(count: int, ladder: Sequence[int], guests: int = 0) -> float:
    """Runs of full length that a bracket of so many students amounts to.

    Args:
        count: students at the first rung.
        ladder: epochs, from :func:`rungs`.
        guests: students that go on whatever happens.

    Example:
        >>> price(18, (1, 2, 3))  # 18 x 1 + 6 x 1 + 2 x 1 epochs, in runs of 3
        8.666666666666666
    """
    total, before = 0, 0
    for epochs in ladder:
        total, before = total + count * (epochs - before), epochs
        count = min(count, surviving(count) + guests)
    return total / ladder[-1]


@dataclass(frozen=True)
class Plan:
    """How a number of runs is divided.

    Args:
        search: for the brackets.
        repeats: further seeds of the finalists, on the validation part.
        seeds: fresh seeds of the confirmation.
    """

    search: float
    repeats: int
    seeds: int

    @property
    def confirm(self) -> float:
        """Runs that the confirmation takes."""
        return ARMS * LARGER * self.seeds

    @property
    def kept(self) -> float:
        """Runs that the search may not use."""
        return self.repeats * FINALISTS + self.confirm


def divided(runs: float, seeds: int) -> Plan:
    """At most three tenths for the confirmation (two seeds at least), a sixth for finals, the rest for the search.

    Args:
        runs: of full length.
        seeds: wanted for the confirmation.

    Example:
        >>> divided(100, 5)
        Plan(search=74.75, repeats=2, seeds=5)
        >>> divided(12, 5)
        Plan(search=5.1, repeats=0, seeds=2)
    """
    confirmed = max(2, min(seeds, int(0.3 * runs / (ARMS * LARGER))))
    repeats = min(REPEATS, int(runs / 6 / FINALISTS))
    plan = Plan(0.0, repeats, confirmed)
    return Plan(round(runs - plan.kept, 6), repeats, confirmed)


def largest(runs: float, most: int, ladder: Sequence[int], guests: int = 0) -> int:
    """The largest bracket of at most ``most`` students that so many runs pay for; 0 if none.

    Example:
        >>> largest(8.7, 18, (1, 2, 3))
        18
    """
    return next((n for n in range(most, 0, -1) if price(n, ladder, guests) <= runs + 1e-9), 0)
