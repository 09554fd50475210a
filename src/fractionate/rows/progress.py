"""Where training stands."""

from __future__ import annotations

from dataclasses import dataclass

_LAST = 2**31 - 1  # an epoch and a step behind every schedule of a real run


@dataclass(frozen=True)
class Progress:
    """Where training stands; every schedule is a function of it.

    A loss that is given no progress takes :meth:`end`: every schedule at its end, no warm-up.

    Args:
        step: optimizer steps done, from 0.
        epoch: current epoch, from 1 (as in the published schedules).
        epochs: number of epochs of the run.
        steps: number of steps of the run, if known (needed by step-wise schedules only).

    Example:
        >>> Progress(epoch=121, epochs=241).fraction
        0.5
    """

    step: int = 0
    epoch: int = 1
    epochs: int = 240
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.step < 0 or self.epoch < 1 or self.epochs < 1:
            raise ValueError(
                f"Progress: step counts from 0, epoch from 1 and epochs is at least 1, got "
                f"step={self.step}, epoch={self.epoch}, epochs={self.epochs}"
            )

    @classmethod
    def end(cls) -> Progress:
        """Where every schedule stands at its end: behind all warm-ups, ramps and phases.

        Example:
            >>> Progress.end().fraction, Progress.end().step_fraction
            (1.0, 1.0)
        """
        return cls(step=_LAST, epoch=_LAST, epochs=_LAST, steps=_LAST + 1)

    @property
    def fraction(self) -> float:
        """(epoch - 1) / (epochs - 1), at most 1; 0 for a run of one epoch."""
        return min(1.0, (self.epoch - 1) / (self.epochs - 1)) if self.epochs > 1 else 0.0

    @property
    def step_fraction(self) -> float:
        """step / (steps - 1), at most 1; needs ``steps``."""
        if self.steps is None:
            raise ValueError("Progress: a step-wise schedule needs Progress(steps=number of steps)")
        return min(1.0, self.step / (self.steps - 1)) if self.steps > 1 else 0.0
