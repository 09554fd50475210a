"""Where teacher logits come from. A :class:`Teacher` is any function from a batch to logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..data import Batch
from ..models import logits_of


class Teacher(Protocol):
    """Logits of a batch, and of its strong view if it has one.

    A live network is one; a table of stored logits, read by ``batch.index``, or a folded network are others.
    """

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """``[n, c]`` logits of ``batch.images``, and of ``batch.strong`` or ``None``."""
        ...


@dataclass(frozen=True, eq=False)
class LiveTeacher:
    """A network run on every batch, in evaluation mode, without building a graph.

    Args:
        net: the teacher; it is frozen and put into evaluation mode.

    Example:
        >>> teacher = LiveTeacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
        >>> weak, strong = teacher(Batch(torch.zeros(5, 1, 8, 8), torch.zeros(5).long(), torch.arange(5)))
        >>> tuple(weak.shape), strong is None
        ((5, 10), True)
    """

    net: nn.Module

    def __post_init__(self) -> None:
        self.net.eval().requires_grad_(False)

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Logits of both views."""
        with torch.inference_mode():
            weak = logits_of(self.net, batch.images, "teacher")
            strong = None if batch.strong is None else logits_of(self.net, batch.strong, "teacher")
        # copies made out here are ordinary tensors, which a backward pass may keep
        return weak.clone(), None if strong is None else strong.clone()
