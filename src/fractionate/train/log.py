"""Losses of one epoch, kept on their device and looked at once; and what to say when they are not finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..methods import Method
from ..rows import Logits, Progress
from .step import Step


class Diverged(ArithmeticError):
    """Training produced a number that is not finite; says at which step, in which stream and component."""


class EpochLog:
    """The loss and the components of every step of an epoch.

    Args:
        method: names the components and the streams they are in.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.names = list(method.parts)
        self.rows: list[Tensor] = []
        self.images = 0

    def add(self, step: Step, images: int) -> None:
        """Keep one step's numbers; nothing is synchronized."""
        self.rows.append(torch.stack([step.loss, *(step.components[name] for name in self.names)]))
        self.images += images

    def means(self, epoch: int, first_step: int) -> tuple[float, dict[str, float]]:
        """Mean loss and mean components over the steps.

        Args:
            epoch: for the message.
            first_step: number of the epoch's first step, for the message.

        Raises:
            Diverged: a number is not finite.
        """
        table = torch.stack(self.rows).double().cpu()
        for step, row in enumerate(table.tolist()):
            for name, value in zip(["", *self.names], row, strict=True):
                if not math.isfinite(value) and (name or all(map(math.isfinite, row[1:]))):
                    raise diverged(self.method, epoch, first_step + step, name, value)
        loss, *components = table.mean(0).tolist()
        return loss, dict(zip(self.names, components, strict=True))


def explain(error: ValueError, method: Method, lg: Logits, progress: Progress) -> Exception:
    """What to raise when a loss refused its rows: :class:`Diverged` if a component is not finite, else ``error``."""
    try:
        with torch.no_grad():
            rows = {"task": method.task(lg, progress), **method.terms(lg, progress)}
    except (ValueError, TypeError, AttributeError):  # the rows do not fit the method: that is the error
        return error
    for name in method.parts:
        bad = rows[name][~torch.isfinite(rows[name])]
        if len(bad):
            return diverged(method, progress.epoch, progress.step, name, float(bad[0]))
    return error


def diverged(method: Method, epoch: int, step: int, component: str, value: float) -> Diverged:
    """The error with its place; ``component`` is empty when only the weighted sum is not finite."""
    stream = next((s.name for s in method.streams if component in s.components), "")
    what = f"component {component!r} of stream {stream!r}" if component else "the weighted loss"
    return Diverged(
        f"training diverged in epoch {epoch}, step {step}: {what} is {value}; lower optimizer.lr, or the weights "
        f"or the momentum shifts of {method.name}"
    )
