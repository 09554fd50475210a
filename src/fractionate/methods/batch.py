"""Methods that look at a batch as a whole: LTKD's frequent and rare classes, SKD's directions of Gram rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, Unpack

import torch
from torch import Tensor

from .._choices import choose
from ..kernels import FORWARD, divergence
from ..losses import by_classes, class_groups, gathered, split_kl, whole
from ..losses import gram_direction as gram_rows
from ..rows import Logits, Progress
from .arguments import Common, check_count, check_not_negative, check_positive, reconstruction, with_common
from .method import Method, Weights, distillation
from .terms import Components

Groups = tuple[tuple[int, ...], ...]
Masks = Literal["off", "select", "fractions"]
MASKS: tuple[Masks, ...] = ("off", "select", "fractions")


@reconstruction
@with_common()
def ltkd(
    *,
    groups: int | Sequence[Sequence[int]] = 3,
    counts: Sequence[float] | Tensor | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    temperature: float = 4.0,
    gather: bool = False,
    **common: Unpack[Common],
) -> Method:
    """Long-tailed KD: classes in groups by frequency, their masses rebalanced over the batch, and KL inside each.

    L = ce_weight CE + W(e) T^2 mean[ alpha KL(m || b^S) + beta sum_g KL(q^{g,T} || q^{g,S}) ]
    m_g = s_g b^T_g / sum_h s_h b^T_h, s_g = mean_h(B_h) / B_g, B_g = sum of b^T_g over the batch

    b are the masses of the groups at T; s raises the groups that the teacher seldom uses in this batch.

    Args:
        groups: how many groups of about the same number of classes, from the most to the least frequent; or the class
            indices of every group, each class in one.
        counts: training images of every class, c numbers, which order the classes; without them their index does, as in
            long-tailed CIFAR, where class 0 is the most frequent.
        alpha, beta: weights of ``between`` and of every ``within``; the source's were not read, 1 is a guess.
        temperature: T, also of the batch's sums.
        gather: sum over the batches of all processes; needs ``torch.distributed``. Parts of an accumulated step have
            sums of their own.
        ce_weight, warmup, label_smoothing, hard: as in :func:`kd`; reads no label.

    Returns:
        Method with components ``task``, ``between``, ``within0``, ``within1``, ...

    Raises:
        ValueError: groups that are no partition of the classes, counts of another number of classes, an argument out of
            range.

    Source: arXiv 2506.18496; the formula was read second-hand, its weights and the temperature of the sums are a
    reconstruction.

    Map: partition by_classes; direction forward; groups between = 1 between, within = 1 within[g]; relation sums
    over the batch

    Note:
        ``between`` is not 0 at the teacher but where the student's masses are m. Its aim depends on the batch: with one
        row, or equal ones, it is uniform whatever the teacher says. The groups are neither the label's nor the others',
        so the components have no roles and ``deepkd`` refuses the method; ``dot`` works.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 6), torch.randn(4, 6), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.ltkd(counts=[90, 5, 40, 9, 60, 20]).components(lg))
        ['task', 'between', 'within0', 'within1', 'within2']
    """
    check_positive("ltkd", temperature=temperature)
    check_not_negative("ltkd", alpha=alpha, beta=beta)
    sets = _checked(groups, counts)
    size = sets if isinstance(sets, int) else len(sets)
    terms = partial(_rebalanced, groups=sets, temperature=temperature, gather=gather)
    weights: Weights = {"between": (alpha, None), **{f"within{g}": (beta, None) for g in range(size)}}
    return distillation("ltkd", terms, weights, row_wise=False, **common)


@with_common()
def gram_direction(
    *,
    weight: float = 1.0,
    kd_weight: float = 1.0,
    temperature: float = 4.0,
    ridge: float | None = None,
    masks: Masks = "off",
    **common: Unpack[Common],
) -> Method:
    """KD plus the direction of every row among the others: the cosines between the logits of a batch.

    L = ce_weight CE + W(e) [ kd_weight T^2 mean KL(p^T || p^S) + weight mean |D_i| ], D = (U^S U^S' - U^T U^T') / C

    U are the logits with rows of length 1. With a ridge |D_i| becomes sqrt(D_i Sigma^-1 D_i'), Sigma = cov(D) + ridge
    I.

    Args:
        weight: weight of ``direction``.
        kd_weight: weight of ``kd``.
        temperature: T of ``kd``.
        ridge: of the whitening; ``None`` (ours) leaves it out, the published code has 0.1.
        masks: of the half of the batch of which the teacher is less sure than the median, after the published text:
            ``"select"`` keeps ``kd`` in the rows whose largest probability is at most the median's, and ``direction``
            in the logits of the classes whose probability over the batch is; ``"fractions"`` multiplies both terms by
            the shares of such rows and classes, about 1/2 each, as the published code does; ``"off"`` (ours).
        ce_weight, warmup, label_smoothing, hard: as in :func:`kd`; reads no label. Published weights: 0.1 and 0.9 for
            both, or 0.5 and 0.5.

    Returns:
        Method with components ``task``, ``kd``, ``direction``.

    Raises:
        ValueError: a ridge with a batch of one row, unknown masks, an argument out of range.

    Source: HyunJunSik/StreamLined (CVPR 2026), called SKD there; :func:`skd` is another method.

    Map: partition whole; direction forward; groups kd = 1 within[0]; relation cosines of rows

    Note:
        At the published ridge Sigma is the ridge and nothing else: the loss is sqrt(1 / ridge) times the plain distance
        (cosine of the gradients 0.9999 and more), and for a small one it whitens itself away. Where the student meets
        the teacher the published gradient is NaN, here 0. The published masks are meant to choose rows and classes, but
        multiply two numbers; that a class that is not chosen is left out of the rows is our reading of the text. Rows
        may be scaled, not shifted. ``direction`` compares rows of one process.

    Example:
        >>> import torch, fractionate as fr
        >>> z = torch.randn(4, 10)
        >>> lg = fr.Logits(z, 2 * z, torch.tensor([0, 1, 2, 3]))
        >>> bool(fr.methods.gram_direction().components(lg)["direction"].max() < 1e-6)
        True
    """
    check_positive("gram_direction", temperature=temperature)
    if ridge is not None:
        check_positive("gram_direction", ridge=ridge)
    check_not_negative("gram_direction", weight=weight, kd_weight=kd_weight)
    choose("gram_direction masks", masks, MASKS)
    terms = partial(_directions, temperature=temperature, ridge=ridge, masks=masks)
    weights: Weights = {"kd": (kd_weight, None), "direction": (weight, None)}
    return distillation("gram_direction", terms, weights, row_wise=False, **common)


def _checked(groups: int | Sequence[Sequence[int]], counts: Sequence[float] | Tensor | None) -> int | Groups:
    """The class sets, or how many of them if the number of classes is not known yet."""
    if isinstance(groups, int):
        check_count("ltkd", "groups", groups, 2)
        return groups if counts is None else class_groups(counts, groups)
    if counts is not None:
        raise ValueError("ltkd: counts order the classes into groups, which are given here; give one of them")
    if len(groups) < 2:
        raise ValueError(f"ltkd: groups must be at least two sets of classes, got {len(groups)}")
    return tuple(tuple(group) for group in groups)


def _rebalanced(lg: Logits, progress: Progress, groups: int | Groups, temperature: float, gather: bool) -> Components:
    sets = class_groups(range(lg.classes, 0, -1), groups) if isinstance(groups, int) else groups
    split = split_kl(lg.student, lg.teacher, by_classes(lg, sets), temperature)
    log_t, log_s = split.log_mass
    aim = (log_t - _batch_mass(log_t, lg.weight, gather)).log_softmax(1)
    between = temperature**2 * divergence(aim, log_s, FORWARD)
    return {"between": between, **{f"within{g}": split.within[:, g] for g in range(len(sets))}}


def _batch_mass(log_mass: Tensor, weight: Tensor | None, gather: bool) -> Tensor:
    """``[g]`` log of the teacher's masses summed over the batch; 0 where there are no rows."""
    with torch.no_grad():
        if weight is not None:
            log_mass = log_mass + weight.to(log_mass.dtype).log()[:, None]
        total = log_mass.logsumexp(0)
        if gather:
            total = gathered(total[None]).logsumexp(0)
        return total.masked_fill(total == -torch.inf, 0.0)


def _directions(lg: Logits, progress: Progress, temperature: float, ridge: float | None, masks: Masks) -> Components:
    kd = split_kl(lg.student, lg.teacher, whole(lg), temperature).within[:, 0]
    if masks == "off":
        return {"kd": kd, "direction": gram_rows(lg.student, lg.teacher, ridge=ridge, weight=lg.weight)}
    there = torch.ones_like(kd, dtype=torch.bool) if lg.weight is None else lg.weight > 0
    sure = lg.teacher.double().softmax(1)
    rows = _unsure(sure.amax(1), there)
    mass = (there[:, None] * sure).sum(0)
    classes = _unsure(mass, torch.ones_like(mass, dtype=torch.bool))
    if masks == "select":
        pair = (z * classes.to(z.dtype) for z in (lg.student, lg.teacher))
        return {"kd": rows * kd, "direction": gram_rows(*pair, ridge=ridge, weight=lg.weight)}
    shares = (x.sum() / n.sum().clamp(min=1) for x, n in ((rows, there), (classes, torch.ones_like(classes))))
    direction = gram_rows(lg.student, lg.teacher, ridge=ridge, weight=lg.weight)
    return {
        name: share.to(kd.dtype) * x
        for name, share, x in zip(("kd", "direction"), shares, (kd, direction), strict=True)
    }


def _unsure(x: Tensor, there: Tensor) -> Tensor:
    """Which entries lie at or below the median of those that are there (of the two middle ones the lower)."""
    if not len(x):
        return there
    ordered = x.masked_fill(~there, torch.inf).sort().values
    median = ordered[((there.sum() - 1) // 2).clamp(min=0)]
    return there & (x <= median)
