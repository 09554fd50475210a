"""Terms that are read off one split: a partition, and which part of it each component is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..losses.partition import Partition
from ..losses.split import KL, has_split_mean, split_kl, split_mean
from ..rows import Logits, Progress


@dataclass(frozen=True, eq=False)
class SplitTerms:
    """The terms of a method whose components are parts of one split; also their weighted mean at once.

    Args:
        partition: function of rows that gives the groups.
        parts: component name -> the group whose ``within`` it is, or ``None`` for ``between``.
        temperature: T.
        kl: direction inside the groups.

    Example:
        >>> import torch
        >>> from fractionate.losses import by_target
        >>> terms = SplitTerms(lambda lg, progress: by_target(lg), {"target": None, "nontarget": 1}, 4.0)
        >>> lg = Logits(torch.randn(2, 5), torch.randn(2, 5), torch.tensor([0, 1]))
        >>> {name: x.shape for name, x in terms(lg, Progress()).items()}
        {'target': torch.Size([2]), 'nontarget': torch.Size([2])}
    """

    partition: Callable[[Logits, Progress], Partition]
    parts: Mapping[str, int | None]
    temperature: float | Tensor
    kl: KL = "forward"

    def __call__(self, lg: Logits, progress: Progress) -> dict[str, Tensor]:
        """Every component, ``[n]``."""
        split = split_kl(lg.student, lg.teacher, self.partition(lg, progress), self.temperature, self.kl)
        return {name: split.between if g is None else split.within[:, g] for name, g in self.parts.items()}

    def mean(self, lg: Logits, progress: Progress, weights: Mapping[str, float]) -> Tensor | None:
        """Mean over the rows of the weighted components, from one look at the logits; ``None`` where that is no gain.

        Args:
            lg: rows.
            progress: position in training.
            weights: weight of every component that counts.
        """
        temperature = self.temperature
        if lg.weight is not None or isinstance(temperature, Tensor):
            return None
        if not has_split_mean(lg.student, lg.teacher, temperature, self.kl):
            return None
        partition = self.partition(lg, progress)
        each = [0.0] * (partition.size + 1)
        for name, g in self.parts.items():
            each[0 if g is None else g + 1] = weights.get(name, 0.0)
        return split_mean(lg.student, lg.teacher, partition, temperature, tuple(each))
