"""Partitions and sets of classes, one per row: the only thing in which the KL methods differ."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from .._spoken import spoken
from .._typing import Bool, Float
from ..kernels import Group, Partition, need_k, top_classes, top_set, widen
from ..rows import Logits, Progress, can_look

MANY = 512  # from this many classes on, a mask takes its classes without ranking them


@spoken
def whole(lg: Logits) -> Partition:
    """One group that holds every class: ``within`` is plain KD."""
    return Partition((), lg.classes)


@spoken
def by_target(lg: Logits) -> Partition:
    """{label}, {rest}: DKD (arXiv 2203.08679). Needs at least 3 classes for a rest with relations.

    Example:
        >>> lg = Logits(torch.zeros(1, 4), torch.zeros(1, 4), torch.tensor([2]))
        >>> by_target(lg).groups[0].index
        tensor([[2]])
    """
    need_classes("by_target", lg.classes, 3)
    return Partition((Group(lg.labels.unsqueeze(1)),), lg.classes)


@spoken
def by_teacher_top1(lg: Logits) -> Partition:
    """{teacher's best class}, {rest}: the label-free form of DKD."""
    need_classes("by_teacher_top1", lg.classes, 3)
    return Partition((Group(top_classes(lg.rank_by, 1)),), lg.classes)


@spoken
def by_top(lg: Logits, k: int, *, largest: bool = True) -> Partition:
    """{teacher's k largest logits}, {rest}: GDKD (arXiv 2512.04625).

    Args:
        lg: rows.
        k: 1..c-1.
        largest: ``False`` takes the k smallest logits.
    """
    need_k("by_top", k, 1, lg.classes - 1)
    return Partition((Group(top_classes(lg.rank_by, k, largest=largest)),), lg.classes)


@spoken
def by_top1_top(lg: Logits, k: int) -> Partition:
    """{teacher's best class}, {ranks 2..k}, {rest}: GDKD3.

    Args:
        lg: rows.
        k: 2..c-1.
    """
    need_k("by_top1_top", k, 2, lg.classes - 1)
    top = top_classes(lg.rank_by, k)
    return Partition((Group(top[:, :1]), Group(top[:, 1:])), lg.classes)


@spoken
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
    need_k("by_target_top", k, 1, lg.classes if count_target else lg.classes - 1)
    label = lg.labels[:, None]
    if lg.classes >= MANY and can_look(lg.rank_by) and k > 1:  # where sorting is what costs
        if count_target:
            kept = top_set(lg.rank_by, k)
            return Partition((Group(label), Group(kept, kept != label)), lg.classes)
        others = top_set(lg.rank_by.scatter(1, label, -torch.inf), k)
        return Partition((Group(label), Group(others)), lg.classes)
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


@spoken
def by_target_mass(lg: Logits, theta: float, temperature: float | Tensor) -> Partition:
    """{label}, {kept non-targets}, {dropped}: the teacher's best non-targets that hold theta of the non-target mass.

    Every row keeps the shortest prefix of its ranking whose share of the non-target mass at T is at least theta, so a
    row with one rival keeps one class and a row without any keeps nearly all. At least one non-target is kept.

    Args:
        lg: rows.
        theta: share of the mass, in (0, 1].
        temperature: T of the teacher's probabilities.

    Example:
        >>> teacher = torch.tensor([[0.6, 0.3, 0.08, 0.02]]).log()
        >>> kept = by_target_mass(Logits(teacher, teacher, torch.tensor([0])), 0.9, 1.0).groups[1]
        >>> kept.index[kept.valid]
        tensor([1, 2])
    """
    need_classes("by_target_mass", lg.classes, 3)
    label = lg.labels[:, None]
    ranked = top_classes(lg.rank_by, lg.classes)
    other = ranked != label
    warm = widen(lg.teacher) / temperature
    share = warm.scatter(1, label, -torch.inf).softmax(1).detach().gather(1, ranked)
    before = share.cumsum(1) - share
    kept = other & ((before < theta) | (other.cumsum(1) == 1))
    return Partition((Group(label), Group(ranked, kept)), lg.classes)


@spoken
def by_classes(lg: Logits, groups: Sequence[Sequence[int]]) -> Partition:
    """Fixed sets of classes, the same for every row, such as frequent and rare ones (:func:`class_groups`).

    Args:
        lg: rows.
        groups: class indices of every group; each class in exactly one.

    Raises:
        ValueError: a class is in no group, or in two.

    Source: arXiv 2506.18496 (LTKD).

    Example:
        >>> lg = Logits(torch.zeros(2, 4), torch.zeros(2, 4))
        >>> by_classes(lg, [[2, 0], [1, 3]]).groups[0].index
        tensor([[2, 0],
                [2, 0]])
    """
    placed = sorted(c for group in groups for c in group)
    if placed != list(range(lg.classes)) or not all(groups):
        raise ValueError(f"by_classes: every class 0..{lg.classes - 1} must be in exactly one group, got {groups}")
    index = [torch.tensor(group, device=lg.student.device).expand(lg.rows, -1) for group in groups[:-1]]
    return Partition(tuple(Group(i) for i in index), lg.classes)


@spoken
def class_groups(counts: Sequence[float] | Tensor, number: int = 3) -> tuple[tuple[int, ...], ...]:
    """Classes in groups of about the same number of classes, from the most frequent to the rarest.

    Args:
        counts: ``[c]`` training images of every class; equal ones keep the order of their index.
        number: of groups, 1..c.

    Raises:
        ValueError: fewer classes than groups.

    Example:
        >>> class_groups([5, 90, 40, 9, 60], 2)
        ((1, 4), (2, 3, 0))
    """
    values = [float(count) for count in counts]
    need_k("class_groups", number, 1, len(values))
    order = sorted(range(len(values)), key=lambda c: (-values[c], c))
    ends = [len(values) * i // number for i in range(number + 1)]
    return tuple(tuple(order[a:b]) for a, b in itertools.pairwise(ends))


def need_classes(where: str, classes: int, least: int) -> None:
    """Refuse rows with too few classes for a division that sets the label apart."""
    if classes < least:
        raise ValueError(
            f"{where}: at least {least} classes are needed, so that several are left beside the label, "
            f"got c={classes}; kd takes two"
        )


# An operator of its own, because torch.compile cannot create a generator inside a compiled function; the position is
# made of SymInts, so that another step does not compile again.
@torch.library.custom_op(
    "fractionate::uniform", mutates_args=(), schema="(Tensor like, SymInt seed, SymInt epoch, SymInt step) -> Tensor"
)
def _uniform(like: Tensor, seed: int, epoch: int, step: int) -> Tensor:
    mixed = ((seed * 1_000_003 + epoch) * 1_000_003 + step) % 2**63
    generator = torch.Generator(device=like.device).manual_seed(mixed)
    return torch.rand(like.shape, generator=generator, device=like.device, dtype=torch.float32)


@_uniform.register_fake
def _(like: Tensor, seed: int, epoch: int, step: int) -> Tensor:
    return torch.empty(like.shape, device=like.device, dtype=torch.float32)


def draws(lg: Logits, seed: int, progress: Progress) -> Float[Tensor, "n c"]:
    """One uniform number per row and class; the same for the same seed, epoch and step.

    Example:
        >>> lg = Logits(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, 1]))
        >>> bool((draws(lg, 0, Progress(step=7)) == draws(lg, 0, Progress(step=7))).all())
        True
    """
    return _uniform(lg.teacher, seed, progress.epoch, progress.step)


@spoken
def by_target_random(lg: Logits, eta: float, seed: int, progress: Progress) -> Partition:
    """{label}, {random non-targets}, {rest}: every non-target joins with probability eta.

    At least one non-target stays in the rest: if all would join, the one drawn last stays.

    Args:
        lg: rows.
        eta: probability of joining, in [0, 1].
        seed: of the draw.
        progress: position in training; another step draws another group.

    Source: ZaberKo/GDKD (SGDKD).
    """
    label = lg.labels[:, None]
    u = draws(lg, seed, progress).scatter(1, label, -1.0)
    joins = (u < eta).scatter(1, u.argmax(1, keepdim=True), False).scatter(1, label, False)
    every = torch.arange(lg.classes, device=joins.device).expand(lg.rows, -1)
    return Partition((Group(label), Group(every, joins)), lg.classes)


@spoken
def random_classes(lg: Logits, eta: float, seed: int, progress: Progress) -> Bool[Tensor, "n c"]:
    """Random classes: every class joins with probability eta; there may be none.

    Args:
        lg, eta, seed, progress: as in :func:`by_target_random`.

    Source: ZaberKo/GDKD (SKD).
    """
    return draws(lg, seed, progress) < eta


@spoken
def below_target(lg: Logits) -> Bool[Tensor, "n c"]:
    """Classes that the teacher puts strictly below the label; none where the label is the teacher's minimum.

    Args:
        lg: rows with labels.

    Source: arXiv 2408.07703 (MCD).

    Example:
        >>> lg = Logits(torch.zeros(1, 4), torch.tensor([[1.0, 3.0, 2.0, 2.0]]), torch.tensor([2]))
        >>> below_target(lg)
        tensor([[ True, False, False, False]])
    """
    need_classes("below_target", lg.classes, 3)
    return lg.rank_by < lg.rank_by.gather(1, lg.labels[:, None])
