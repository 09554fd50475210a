"""Means over rows, evaluation piece by piece, and where training stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from .._spoken import spoken
from .._typing import Float
from .logits import Logits


@spoken
def weighted_mean(x: Float[Tensor, " n"], weight: Float[Tensor, " n"] | None) -> Float[Tensor, ""]:
    """sum(weight * x) / sum(weight); 0 with a graph when there are no rows or no weight.

    Example:
        >>> import torch
        >>> weighted_mean(torch.tensor([1.0, 3.0]), torch.tensor([3.0, 1.0]))
        tensor(1.5000)
    """
    if weight is None:
        return x.sum() / max(1, x.shape[0])
    total = weight.sum()
    return (weight * x).sum() / torch.where(total == 0, torch.ones_like(total), total)


@spoken
def chunks(lg: Logits, size: int) -> Iterator[Logits]:
    """The rows in pieces of at most ``size``; one empty piece if there are no rows."""
    if size < 1:
        raise ValueError(f"rows.chunks: a chunk needs at least 1 row, got {size}")
    return (lg[start : start + size] for start in range(0, max(1, lg.rows), size))


@spoken
def chunked(loss: Callable[[Logits], dict[str, Tensor]], lg: Logits, size: int) -> dict[str, Float[Tensor, " n"]]:
    """Evaluate a row-wise loss piece by piece: the same rows, a fraction of the temporary memory.

    Args:
        loss: a function of rows that returns named ``[n]`` values, for example
            ``lambda part: method.components(part, progress)``.
        lg: all rows.
        size: rows per piece.
    """
    pieces = [loss(part) for part in chunks(lg, size)]
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


_LAST = 2**31 - 1  # an epoch and a step behind every schedule of a real run


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stands; every schedule is a function of it.

    A loss that is given no progress takes :meth:`end`: every schedule at its end, no warm-up. Arguments go by name:
    two numbers in a row could be an epoch and how many there are, or a step and an epoch.

    Args:
        step: optimizer steps done, from 0.
        epoch: current epoch, from 1 (as in the published schedules); if not given, that in which ``step`` of ``steps``
            lies, and 1 where there are no ``steps``.
        epochs: number of epochs of the run.
        steps: number of steps of the run, if known; a loop that counts in steps alone gives it and ``step``.

    Example:
        >>> Progress(step=500, steps=1000).epoch  # of 240, as published runs have
        121
        >>> Progress(epoch=121, epochs=241).fraction
        0.5
    """

    step: int = 0
    epoch: int = cast("int", None)  # an int from here on
    epochs: int = 240
    steps: int | None = None

    @spoken
    def __post_init__(self) -> None:
        if cast("int | None", self.epoch) is None:
            among = min(self.step * self.epochs // self.steps, self.epochs - 1) if self.steps else 0
            object.__setattr__(self, "epoch", 1 + max(0, among))
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
