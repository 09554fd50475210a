"""What schedules decide, where a recorded step can find it: numbers as tensors, and a note of what else was read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from ..data.batch import sent
from ..rows import Progress
from .prepare import Training

POSITION = tuple(f.name for f in fields(Progress))


class Noted(Progress):
    """A position in training that notes which of its numbers were read.

    Example:
        >>> noted = Noted(epoch=121, epochs=241)
        >>> noted.fraction, sorted(noted.read)
        (0.5, ['epoch', 'epochs'])
    """

    read: set[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "read", set())
        super().__post_init__()
        self.read.clear()

    @classmethod
    def of(cls, progress: Progress) -> Noted:
        """The same position, of which nothing has been read yet."""
        return cls(progress.step, progress.epoch, progress.epochs, progress.steps)

    def __getattribute__(self, name: str) -> Any:
        if name in POSITION:
            object.__getattribute__(self, "read").add(name)
        return object.__getattribute__(self, name)


class Numbers:
    """What schedules change from step to step, as tensors on the device.

    Args:
        training: whose method and optimizer.
        device: where.

    Attributes:
        method: the method, its weights being these tensors.
    """

    def __init__(self, training: Training, device: torch.device) -> None:
        self.optimizer, self.parts = training.optimizer, training.method.parts
        self._values: list[float] = []
        self._tensor = torch.zeros(len(self.parts) + len(self.optimizer.param_groups), device=device)
        weights, self._rates = self._tensor[: len(self.parts)].unbind(), self._tensor[len(self.parts) :].unbind()
        parts = {
            name: replace(part, weight=_always(weight))
            for (name, part), weight in zip(self.parts.items(), weights, strict=True)
        }
        self.method = replace(training.method, parts=parts)

    def set(self, progress: Progress) -> None:
        """Bring the tensors up to date; the host does not wait for that."""
        values = [part.weight(progress) for part in self.parts.values()]
        values += [float(group["lr"]) for group in self.optimizer.param_groups]
        if values != self._values:
            self._values = values
            self._tensor.copy_(sent(torch.tensor(values), self._tensor.device))

    @contextmanager
    def in_optimizer(self) -> Iterator[None]:
        """The optimizer's learning rates are these tensors meanwhile."""
        groups = self.optimizer.param_groups
        before = [group["lr"] for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate
        try:
            yield
        finally:
            for group, rate in zip(groups, before, strict=True):
                group["lr"] = rate


def _always(weight: Tensor) -> Any:
    return lambda progress: weight
