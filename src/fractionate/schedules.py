"""Schedules: functions from a Progress to a number; plain frozen values, so they compare and pickle."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ._spoken import spoken
from .rows import Progress

__all__ = ["Schedule", "as_schedule", "constant", "cosine", "phases", "ramp", "round_count", "times", "warmup"]

Schedule = Callable[[Progress], float]
PUBLISHED_EPOCHS = 240  # of the CIFAR-100 runs that the methods' default warm-up (in epochs) was made for


@dataclass(frozen=True)
class constant:
    """The same value always.

    Example:
        >>> constant(8.0)(Progress())
        8.0
    """

    value: float

    @spoken
    def __call__(self, progress: Progress) -> float:
        """Value at this point of training."""
        return self.value


def fitted(epochs: float, progress: Progress) -> float:
    """A number of epochs at the beginning of a run; cut to its share of a published run where the run is shorter.

    Example:
        >>> [fitted(20, Progress(epochs=e)) for e in (240, 20, 12, 1)]
        [20, 20, 1, 1]
    """
    if progress.epochs >= epochs:
        return epochs
    return max(1, round(epochs * progress.epochs / PUBLISHED_EPOCHS))


@dataclass(frozen=True)
class warmup:
    """Linear warm-up of a loss: value * min(epoch / epochs, 1); ``epochs <= 1`` means none.

    Epochs count from 1, as in DKD (arXiv 2203.08679). A run that is shorter than the warm-up would never see the full
    weight, so the warm-up is cut there to the share that it has of a published run of 240 epochs, at least 1 epoch.

    Example:
        >>> warmup(8.0, epochs=20)(Progress(epoch=5))
        2.0
        >>> [warmup(8.0, epochs=20)(Progress(epoch=e, epochs=12)) for e in (1, 2)]  # 20 of 240 is 1 of 12
        [8.0, 8.0]
    """

    value: float
    epochs: float = 1

    @spoken
    def __call__(self, progress: Progress) -> float:
        """Value at this point of training."""
        epochs = fitted(self.epochs, progress)
        return self.value if epochs <= 1 else self.value * min(progress.epoch / epochs, 1.0)


@dataclass(frozen=True)
class ramp:
    """Linear from ``start`` to ``end`` over the first ``epochs`` epochs (all of them if not given), or ``steps`` steps.

    Published warm-ups that count from 0 are ramps: min(e / W, 1) of epochs e = 0, 1, ... is ``ramp(0, 1, W + 1)``.

    Args:
        start: value of the first epoch, or step, and of those that are waited for.
        end: value of the last one, and of all that follow.
        epochs: number of epochs from ``start`` to ``end``, both included.
        after: so many epochs (or steps, with ``steps``) pass before that.
        steps: number of optimizer steps from ``start`` to ``end``, both included, in place of epochs.

    Raises:
        ValueError: both epochs and steps, or a number out of range.

    Example:
        >>> ramp(0.0, 1.0)(Progress(epoch=121, epochs=241))
        0.5
        >>> [ramp(0.0, 1.0, epochs=5, after=3)(Progress(epoch=e)) for e in (1, 4, 5, 8)]
        [0.0, 0.0, 0.25, 1.0]
        >>> ramp(0.0, 1.0, steps=5001)(Progress(step=2500))
        0.5
    """

    start: float
    end: float
    epochs: int | None = None
    after: int = 0
    steps: int | None = None

    @spoken
    def __post_init__(self) -> None:
        if self.epochs is not None and self.steps is not None:
            raise ValueError(f"ramp: epochs or steps, not both; got epochs={self.epochs} and steps={self.steps}")
        for name, value, least in (("epochs", self.epochs, 1), ("steps", self.steps, 1), ("after", self.after, 0)):
            if value is not None and value < least:
                raise ValueError(f"ramp: {name} must be at least {least}, got {value}")

    @spoken
    def __call__(self, progress: Progress) -> float:
        """Value at this point of training."""
        over = progress.epoch - 1 if self.steps is None else progress.step
        last = (self.steps or self.epochs or progress.epochs - self.after) - 1
        part = min(1.0, max(0, over - self.after) / last) if last > 0 else float(over >= self.after)
        return self.start + (self.end - self.start) * part


@dataclass(frozen=True)
class cosine:
    """Half a cosine from ``start`` to ``end`` over the first ``epochs`` epochs (all of them if not given).

    Example:
        >>> round(cosine(1.0, 0.1)(Progress(epoch=240, epochs=240)), 6)
        0.1
    """

    start: float
    end: float
    epochs: int | None = None

    @spoken
    def __call__(self, progress: Progress) -> float:
        """Value at this point of training."""
        last = (self.epochs or progress.epochs) - 1
        part = min(1.0, (progress.epoch - 1) / last) if last > 0 else 1.0
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * part)) / 2


@dataclass(frozen=True)
class times:
    """A schedule multiplied by a constant factor."""

    schedule: Schedule
    factor: float

    @spoken
    def __call__(self, progress: Progress) -> float:
        """Value at this point of training."""
        return self.factor * self.schedule(progress)


@dataclass(frozen=True)
class phases:
    """DeepKD's three phases of the dynamic top-k mask (arXiv 2505.15133): grow, hold, grow to all.

    With r the fraction of training done: from ``start`` to ``plateau`` for r < grow_until, ``plateau`` until
    hold_until, then on to 1. Called with a progress it gives a fraction of the classes; :meth:`count` gives
    the number of classes k = min(C, max(2, round(f(r)))), where the curve starts at max(2, start * C).

    The phase boundaries 30 % and 70 % and the 5 % start are the paper's; interpolation, rounding and the
    lower limit of 2 are a reconstruction.

    Args:
        plateau: share of the classes kept in the middle phase (.55 for CIFAR-100).
        start: share of the classes kept at the beginning.
        grow_until, hold_until: boundaries of the phases, as fractions of training.
        granularity: ``"epoch"`` (r from epochs) or ``"step"`` (needs ``Progress.steps``).

    Example:
        >>> schedule = phases(plateau=0.55)
        >>> [schedule.count(Progress(epoch=e, epochs=240), 100) for e in (1, 73, 168, 240)]
        [5, 55, 55, 100]
    """

    plateau: float
    start: float = 0.05
    grow_until: float = 0.3
    hold_until: float = 0.7
    granularity: Literal["epoch", "step"] = "epoch"

    @spoken
    def __post_init__(self) -> None:
        if not 0 < self.start <= self.plateau <= 1:
            raise ValueError(
                f"phases: expected 0 < start <= plateau <= 1 (fractions of the classes), got "
                f"start={self.start}, plateau={self.plateau}"
            )
        if not 0 < self.grow_until <= self.hold_until < 1:
            raise ValueError(
                f"phases: expected 0 < grow_until <= hold_until < 1, got {self.grow_until} and {self.hold_until}"
            )
        if self.granularity not in ("epoch", "step"):
            raise ValueError(f"phases: granularity is 'epoch' or 'step', got {self.granularity!r}")

    @spoken
    def __call__(self, progress: Progress) -> float:
        """Value at this point of training."""
        return self._curve(progress, self.start, self.plateau, 1.0)

    def _curve(self, progress: Progress, start: float, plateau: float, end: float) -> float:
        r = progress.fraction if self.granularity == "epoch" else progress.step_fraction
        if r < self.grow_until:
            return start + (plateau - start) * r / self.grow_until
        if r < self.hold_until:
            return plateau
        return plateau + (end - plateau) * (r - self.hold_until) / (1 - self.hold_until)

    @spoken
    def count(self, progress: Progress, classes: int) -> int:
        """Number of classes kept out of ``classes``."""
        start = max(2.0, self.start * classes)
        plateau = round(self.plateau * classes, 9)  # .55 * 100 is 55.00000000000001
        if start > plateau:
            raise ValueError(
                f"phases: with {classes} classes the mask starts at {start:g} classes, more than the "
                f"plateau of {plateau:g}; raise plateau to at least {start / classes:g}"
            )
        return round_count(self._curve(progress, start, plateau, classes), classes)


def round_count(count: float, classes: int) -> int:
    """min(C, max(2, round(count))), halves rounded up."""
    return min(classes, max(2, math.floor(count + 0.5)))


@spoken
def as_schedule(value: float | Schedule) -> Schedule:
    """A number becomes a constant schedule; a schedule stays as it is."""
    return value if callable(value) else constant(float(value))
