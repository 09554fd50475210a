"""Partitions of the classes, one per row: the only thing in which the KL methods differ.

A partition lists the members of all groups but the last; the last group is the rest and is never written out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .._typing import Bool, Int
from ..rows import Logits
from .ranking import top_classes


@dataclass(frozen=True, eq=False)
class Group:
    """Members of one group in every row.

    Args:
        index: ``[n, m]`` class indices.
        valid: ``[n, m]`` which entries count, for groups whose size differs from row to row; all if ``None``.
        first_counts: whether the first entry counts in every row, though others may not.
    """

    index: Int[Tensor, "n m"]
    valid: Bool[Tensor, "n m"] | None = None
    first_counts: bool = False


@dataclass(frozen=True, eq=False)
class Partition:
    """Disjoint groups of classes per row; all classes that are in none of ``groups`` form the last group.

    Args:
        groups: every group but the last (none at all: one group, the whole row).
        classes: number of classes c.
    """

    groups: tuple[Group, ...]
    classes: int

    @property
    def size(self) -> int:
        """Number of groups, the rest included."""
        return len(self.groups) + 1

    def members(self, n: int, device: torch.device) -> Bool[Tensor, "n c"]:
        """``[n, c]`` mask of the classes that are in a listed group."""
        mask = torch.zeros(n, self.classes + 1, dtype=torch.bool, device=device)
        for group in self.groups:
            # An entry that does not count is written to a column that is cut off again.
            index = group.index if group.valid is None else group.index.where(group.valid, self.classes)
            mask = mask.scatter(1, index, True)
        return mask[:, : self.classes]


def whole(lg: Logits) -> Partition:
    """One group that holds every class: ``within`` is plain KD."""
    return Partition((), lg.classes)


def by_target(lg: Logits) -> Partition:
    """{label}, {rest}: DKD (arXiv 2203.08679). Needs at least 3 classes for a rest with relations.

    Example:
        >>> lg = Logits(torch.zeros(1, 4), torch.zeros(1, 4), torch.tensor([2]))
        >>> by_target(lg).groups[0].index
        tensor([[2]])
    """
    need_classes("by_target", lg.classes, 3)
    return Partition((Group(lg.labels.unsqueeze(1)),), lg.classes)


def by_teacher_top1(lg: Logits) -> Partition:
    """{teacher's best class}, {rest}: the label-free form of DKD."""
    need_classes("by_teacher_top1", lg.classes, 3)
    return Partition((Group(top_classes(lg.rank_by, 1)),), lg.classes)


def by_top(lg: Logits, k: int, *, largest: bool = True) -> Partition:
    """{teacher's k largest logits}, {rest}: GDKD (arXiv 2512.04625).

    Args:
        lg: rows.
        k: 1..c-1.
        largest: ``False`` takes the k smallest logits.
    """
    _need_k("by_top", k, 1, lg.classes - 1)
    return Partition((Group(top_classes(lg.rank_by, k, largest=largest)),), lg.classes)


def by_top1_top(lg: Logits, k: int) -> Partition:
    """{teacher's best class}, {ranks 2..k}, {rest}: GDKD3.

    Args:
        lg: rows.
        k: 2..c-1.
    """
    _need_k("by_top1_top", k, 2, lg.classes - 1)
    top = top_classes(lg.rank_by, k)
    return Partition((Group(top[:, :1]), Group(top[:, 1:])), lg.classes)


def by_target_top(lg: Logits, k: int, *, count_target: bool = True) -> Partition:
    """{label}, {kept non-targets}, {dropped}: DeepKD's dynamic top-k mask (arXiv 2505.15133).

    At least one non-target is always kept.

    Args:
        lg: rows.
        k: 1..c: with ``count_target`` the k largest of all classes, minus the label, are kept; without,
            the k largest non-targets (k up to c-1).
        count_target: whether the label takes part in the ranking (the published code's rule).

    Example:
        >>> lg = Logits(torch.zeros(1, 4), torch.tensor([[9.0, 5.0, 7.0, 1.0]]), torch.tensor([0]))
        >>> kept = by_target_top(lg, 2).groups[1]
        >>> kept.index[kept.valid]
        tensor([2])
    """
    need_classes("by_target_top", lg.classes, 3)
    _need_k("by_target_top", k, 1, lg.classes if count_target else lg.classes - 1)
    label = lg.labels[:, None]
    ranked = top_classes(lg.rank_by, min(k + 1, lg.classes))
    other = ranked != label
    # Position of each class among the non-targets of its row: 1, 2, ...
    position = other.cumsum(1)
    if count_target:
        inside = torch.arange(ranked.shape[1], device=ranked.device) < k
        kept = other & (inside | (position == 1) & ~(other & inside).any(1, keepdim=True))
    else:
        kept = other & (position <= k)
    return Partition((Group(label), Group(ranked, kept)), lg.classes)


def need_classes(where: str, classes: int, least: int) -> None:
    """Refuse rows with too few classes for a division that sets the label apart."""
    if classes < least:
        raise ValueError(
            f"{where}: at least {least} classes are needed, so that several are left beside the label, "
            f"got c={classes}; kd takes two"
        )


def _need_k(where: str, k: int, low: int, high: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int) or not low <= k <= high:
        raise ValueError(f"{where}: k must be an integer in {low}..{high} for these classes, got {k!r}")
