"""Statistics of the teacher by class, and top groups whose size the teacher decides."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._spoken import spoken
from .._typing import Float, Int
from ..kernels import Group, Partition, top_classes, widen
from ..rows import Logits, can_look


@spoken
def class_mean(
    values: Float[Tensor, "n ..."],
    target: Int[Tensor, " n"],
    classes: int,
    weight: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "c ..."]:
    """Mean of the rows of each label; 0 for a label without rows.

    Args:
        values: ``[n]`` or ``[n, m]``.
        target: ``[n]`` labels.
        classes: c.
        weight: ``[n]`` weight of each row.

    Example:
        >>> import torch
        >>> class_mean(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 2]), 3)
        tensor([1., 0., 3.])
    """
    rows = values.new_ones(len(values)) if weight is None else weight.to(values.dtype)
    shape = (len(values),) + (1,) * (values.ndim - 1)
    sums = values.new_zeros(classes, *values.shape[1:]).index_add(0, target, values * rows.view(shape))
    total = values.new_zeros(classes).index_add(0, target, rows)
    return sums / total.masked_fill(total == 0, 1.0).view(classes, *shape[1:])


@spoken
def confidence_ratio(
    teacher: Float[Tensor, "n c"], temperature: float = 4.0, *, most: float = 1e4
) -> Float[Tensor, " n"]:
    """p_(1) / p_(2): how much more likely the teacher's best class is than its second.

    Args:
        teacher: ``[n, c]`` logits.
        temperature: T of the probabilities.
        most: upper limit, so that a saturated teacher does not give infinity.

    Source: ZaberKo/GDKD (ADKD); the limit is ours.

    Example:
        >>> import torch
        >>> confidence_ratio(torch.tensor([[0.6, 0.3, 0.1]]).log(), 1.0)
        tensor([2.0000])
    """
    best = widen(teacher).gather(1, top_classes(teacher, 2))
    return ((best[:, 0] - best[:, 1]) / temperature).clamp(max=math.log(most)).exp()


@spoken
def auto_k(
    teacher: Float[Tensor, "n c"], temperature: float = 4.0, *, ratio: float = 2.0, cap: int = 100
) -> Int[Tensor, " n"]:
    """Number of classes above the first jump of the teacher's sorted probabilities.

    With p = softmax(teacher / T) sorted upwards and r_j = p_(j) / mean(p_(1..j)), the first j (from 0) with r_j >=
    ratio is the jump, and k = c - j, or 1 if there is none; at most ``cap``. Since r_0 = 1 < ratio, 1 <= k <= c -
    1. Computed from log-probabilities, so probabilities that underflow keep their order of magnitude.

    Args:
        teacher: ``[n, c]`` logits.
        temperature: T.
        ratio: height of the jump, above 1.
        cap: largest k.

    Returns:
        ``[n]`` int64.

    Source: ZaberKo/GDKD (code beside arXiv 2512.04625).

    Example:
        >>> auto_k(torch.tensor([[9.0, 9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]]), 1.0)
        tensor([2, 1])
    """
    return _jump((widen(teacher) / temperature).log_softmax(1), ratio, cap)


@spoken
def class_auto_k(
    teacher: Float[Tensor, "n c"],
    target: Int[Tensor, " n"],
    temperature: float = 4.0,
    *,
    ratio: float = 2.0,
    cap: int = 100,
    weight: Float[Tensor, " n"] | None = None,
) -> Int[Tensor, " c"]:
    """One k per label: :func:`auto_k` of the teacher's mean distribution over the rows of that label.

    Run it once over the training set in a fixed order and without augmentation; ``.tolist()`` of the result is what
    ``gdkd_class_k(counts=...)`` takes.

    Args:
        teacher: ``[n, c]`` logits.
        target: ``[n]`` labels.
        temperature, ratio, cap: as in :func:`auto_k`.
        weight: ``[n]`` weight of each row in the means.

    Returns:
        ``[c]`` int64; 1 for a label without rows.

    Example:
        >>> class_auto_k(torch.tensor([[9.0, 9.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0]]), torch.tensor([0, 2]), 1.0)
        tensor([2, 1, 1, 1])
    """
    p = (widen(teacher) / temperature).softmax(1)
    return _jump(class_mean(p, target, teacher.shape[1], weight).log(), ratio, cap)


def _jump(log_p: Float[Tensor, "m c"], ratio: float, cap: int) -> Int[Tensor, " m"]:
    c = log_p.shape[1]
    ascending = log_p.sort(dim=1).values
    steps = torch.arange(1, c + 1, device=log_p.device, dtype=log_p.dtype)
    log_mean = ascending.logcumsumexp(1) - steps.log()
    # Where all probabilities so far are 0 the difference is nan, and a comparison with nan is no jump.
    jumps = ascending - log_mean >= math.log(ratio)
    first = jumps.int().argmax(1)
    return torch.where(jumps.any(1), c - first, 1).clamp(max=min(cap, c - 1))


@spoken
def knee_k(teacher: Float[Tensor, "n c"], *, cap: int = 100) -> Int[Tensor, " n"]:
    """Number of classes above the knee of the teacher's sorted logits.

    With z_(1) >= ... >= z_(c) and the straight line from (1, z_(1)) to (c, z_(c)), the knee is the first rank at which
    the logits lie deepest below the line; k is the number of ranks before it, 1..c-1 and at most ``cap``. Logits that
    nowhere lie below the line by a thousandth of their range have no knee: k = 1.

    The same for every temperature and every shift and scale of a row, so one rule serves teachers whose best logit
    stands far above all others (transformers: the knee is at rank 2, k = 1, and the others stay together) and those
    whose logits fall off in a bend (k is where it ends). It has not been tested on accuracy yet.

    Args:
        teacher: ``[n, c]`` logits.
        cap: largest k.

    Returns:
        ``[n]`` int64.

    Source: the knee of a curve by its largest distance from the chord (Satopaa et al. 2011, "Kneedle").

    Example:
        >>> knee_k(torch.tensor([[9.0, 8.0, 0.2, 0.1, 0.0], [9.0, 1.0, 1.0, 0.9, 0.8], [0.0, 0.0, 0.0, 0.0, 0.0]]))
        tensor([2, 1, 1])
    """
    ranked = widen(teacher).sort(dim=1, descending=True).values
    c = ranked.shape[1]
    share = torch.arange(c, device=ranked.device, dtype=ranked.dtype) / (c - 1)
    span = ranked[:, :1] - ranked[:, -1:]
    depth = (ranked[:, :1] - span * share) - ranked
    deepest = depth.max(1, keepdim=True).values
    first = (depth >= deepest).int().argmax(1)
    bent = (deepest > FLAT * span)[:, 0]
    return torch.where(bent, first, 1).clamp(min=1, max=min(cap, c - 1))


FLAT = 1e-3  # of the range of a row's logits


@spoken
def by_knee(lg: Logits, cap: int = 100) -> Partition:
    """{the teacher's classes above the knee of its sorted logits}, {rest}, with a k of its own for every row.

    Args:
        lg: rows.
        cap: largest k (:func:`knee_k`).

    Example:
        >>> teacher = torch.tensor([[0.1, 9.0, 8.0, 0.0, 0.2]])
        >>> by_knee(Logits(teacher, teacher, torch.tensor([1]))).groups[0].index
        tensor([[1, 2]])
    """
    return by_top_sizes(lg, knee_k(lg.rank_by, cap=cap), min(cap, lg.classes - 1))


@spoken
def by_top_sizes(lg: Logits, sizes: Int[Tensor, " n"], most: int) -> Partition:
    """{teacher's k largest logits}, {rest}, with a k of its own for every row.

    Args:
        lg: rows.
        sizes: ``[n]`` k of each row, 1..most.
        most: upper limit of all k, at most c - 1: the width of the stored group where values must not be read (CUDA).

    Example:
        >>> lg = Logits(torch.zeros(2, 4), torch.tensor([[4.0, 3.0, 2.0, 1.0]] * 2), torch.tensor([0, 0]))
        >>> by_top_sizes(lg, torch.tensor([1, 3]), 3).groups[0].valid.tolist()
        [[True, False, False], [True, True, True]]
    """
    if lg.rows and can_look(sizes):
        most = min(most, int(sizes.max()))
    index = top_classes(lg.rank_by, most)
    inside = torch.arange(most, device=index.device) < sizes[:, None]
    return Partition((Group(index, inside, first_counts=True),), lg.classes)


@spoken
def by_mass(lg: Logits, theta: float, temperature: float = 4.0) -> Partition:
    """{shortest prefix of the teacher's ranking that holds a mass of theta}, {rest}: Grouped KD.

    Args:
        lg: rows.
        theta: mass in (0, 1]; at least one class stays outside.
        temperature: T of the teacher's probabilities.

    Source: arXiv 2304.04462.

    Example:
        >>> teacher = torch.tensor([[0.5, 0.3, 0.1, 0.1]]).log()
        >>> by_mass(Logits(teacher, teacher, torch.tensor([0])), 0.7, 1.0).groups[0].index
        tensor([[0, 1]])
    """
    most = lg.classes - 1
    index = top_classes(lg.rank_by, most)
    mass = (widen(lg.teacher) / temperature).softmax(1).gather(1, index).cumsum(1)
    short = mass < theta  # the prefix that ends here is still too short
    inside = torch.cat([torch.ones_like(short[:, :1]), short[:, :-1]], 1)
    if lg.rows and can_look(inside):
        width = int(inside.sum(1).max())
        index, inside = index[:, :width], inside[:, :width]
    return Partition((Group(index, inside, first_counts=True),), lg.classes)
