"""Divergences that language models are distilled with: GKD's generalised JSD, DistiLLM's skewed KL, TAD's tail."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from ..kernels import Direction, as_direction, jsd, skew, skew_reverse
from ..losses import by_top, split_kl, support_divergence, top_support
from ..rows import Logits, Progress
from .arguments import Common, check_count, check_not_negative, check_numbers, check_positive, with_common
from .kd import kd
from .method import Method, Weights, distillation
from .terms import Components


@with_common()
def gkd(
    *,
    beta: float = 0.5,
    temperature: float = 1.0,
    kd_weight: float = 1.0,
    k: int | None = None,
    tail: bool = True,
    **common: Unpack[Common],
) -> Method:
    """Generalised JSD between teacher and student, whole or on the best k classes.

    L = ce_weight CE + kd_weight W(e) T^2 mean[ beta KL(p^T || M) + (1 - beta) KL(p^S || M) ]
    M = beta p^T + (1 - beta) p^S

    beta = 0 is KL(p^T || p^S) and beta = 1 is KL(p^S || p^T), by definition: the formula itself tends to 0 at both
    ends.

    Args:
        beta: in 0..1.
        temperature: T. Other packages leave out T^2: divide ``kd_weight`` by it when comparing at T other than 1.
        kd_weight: weight of ``kd``.
        k: look at the teacher's k best classes (beta 0), the student's (beta 1) or those of both; ``None``: at all.
        tail: with ``k``, the other classes are one more outcome; ``False`` renormalises both networks over the k, and
            then any mass of the student outside costs nothing.
        ce_weight, warmup, label_smoothing, hard: as in :func:`kd`; the text of GKD has no cross-entropy.

    Returns:
        Method with components ``task`` and ``kd``; without ``k`` it is ``kd(direction=...)`` by another name.

    Raises:
        ValueError: k above the number of classes, an argument out of range.

    Source: arXiv 2306.13649; the top k of Hugging Face TRL, whose ``beta`` this is (DistiLLM's ``lam`` is 1 - beta).

    Note:
        The divergence shrinks with 1 - beta: at beta 0.9 its gradient is at most about a tenth of the reverse KL's, at
        1 all of it, so a schedule over beta jumps at the ends. Distilling on text of the student's own is what GKD is
        about; which text a loop feeds is not decided here.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> a, b = fr.methods.gkd(beta=1.0), fr.methods.kd(temperature=1.0, direction="reverse")
        >>> bool(torch.equal(a.components(lg)["kd"], b.components(lg)["kd"]))
        True
    """
    check_positive("gkd", temperature=temperature)
    check_not_negative("gkd", kd_weight=kd_weight)
    check_numbers("gkd", beta=beta)
    if not 0 <= beta <= 1:
        raise ValueError(f"gkd: beta must lie in 0..1, got {beta!r}")
    way = as_direction({0.0: "forward", 1.0: "reverse"}[float(beta)]) if beta in (0, 1) else jsd(beta)
    if k is None:
        return replace(kd(temperature=temperature, kd_weight=kd_weight, direction=way, **common), name="gkd")
    check_count("gkd", "k", k, 1)
    terms = partial(_on_support, k=k, beta=float(beta), temperature=temperature, direction=way, tail=tail)
    return distillation("gkd", terms, {"kd": (kd_weight, None)}, **common)


@with_common()
def distillm(
    *,
    lam: float = 0.1,
    reverse: bool = False,
    temperature: float = 1.0,
    kd_weight: float = 1.0,
    **common: Unpack[Common],
) -> Method:
    """Skewed KL: the divergence from a mixture of both networks, which no class can make infinite.

    L = ce_weight CE + kd_weight W(e) T^2 mean KL(p^T || M), M = lam p^T + (1 - lam) p^S

    ``reverse=True``: KL(p^S || M), M = (1 - lam) p^T + lam p^S.

    Args:
        lam: in (0, 1); towards 0 the plain KL.
        reverse: the student first.
        temperature: T.
        kd_weight: weight of ``kd``.
        ce_weight, warmup, label_smoothing, hard: as in :func:`kd`; the published loss has no cross-entropy.

    Returns:
        Method with components ``task`` and ``kd``; it is ``kd(direction="skew(lam)")`` by another name.

    Raises:
        ValueError: an argument out of range.

    Source: arXiv 2402.03898 and jongwooko/distillm.

    Note:
        At most -log lam, and the gradient is bounded: a class of the teacher that the student has forgotten counts 1 /
        lam and no more. The published value of the forward form lacks the teacher's entropy, which changes no gradient;
        its logarithm of a sum is NaN once a class underflows in both networks, here it is finite.

    Example:
        >>> import math, torch, fractionate as fr
        >>> lg = fr.Logits(torch.tensor([[0.0, 90.0]]), torch.tensor([[90.0, 0.0]]), torch.tensor([0]))
        >>> bool(torch.isclose(fr.methods.distillm().components(lg)["kd"], torch.tensor(-math.log(0.1))))
        True
    """
    check_positive("distillm", temperature=temperature)
    way = skew_reverse(lam) if reverse else skew(lam)
    return replace(kd(temperature=temperature, kd_weight=kd_weight, direction=way, **common), name="distillm")


@with_common()
def tad(*, k: int = 10, beta: float = 2.0, temperature: float = 1.0, **common: Unpack[Common]) -> Method:
    """Tail-aware distillation: the teacher's k best classes and the rest as outcomes, and the rest inside by its share.

    L = ce_weight CE + W(e) T^2 mean[ KL( (p^T_1, .., p^T_k, a) || (p^S_1, .., p^S_k, b) ) + beta (a / abar) KL_rest ]

    a and b are teacher's and student's mass outside the teacher's k best classes, KL_rest the KL inside that rest, and
    abar the mean of a over the rows of the same sequence (weighted by ``Logits.weight``). beta = abar would be KD.

    Args:
        k: 1..c-1.
        beta: weight of ``tail``.
        temperature: T.
        ce_weight, warmup, label_smoothing, hard: as in :func:`kd`; reads no label.

    Returns:
        Method with components ``task``, ``head``, ``tail``; a / abar is inside ``tail``. The rows of a batch are one
        sequence unless ``Logits.extra["sequence"]`` numbers them, ``[n]``.

    Raises:
        ValueError: k outside 1..c-1, an argument out of range.

    Source: arXiv 2602.20816 (the formula was read second-hand).

    Map: partition by_top(k=10); direction forward; groups head = between + mass[0] within[0], tail = 2 mass[1] /
    mean within[1]

    Note:
        Equal to ``gdkd_auto_weight`` version v1 with w0 = m1 = 1 and m2 = beta / abar. A teacher that is one-hot on a
        whole sequence has no tail: the term is 0 there. Parts of a sequence have another mean, so do not cut one;
        several sequences in a batch without numbers share one mean. A constant beta above 1 without the mean is said to
        diverge.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.tad(k=3).components(lg))
        ['task', 'head', 'tail']
    """
    check_count("tad", "k", k, 1)
    check_positive("tad", temperature=temperature)
    check_not_negative("tad", beta=beta)
    weights: Weights = {"head": (1.0, "target"), "tail": (beta, "nontarget")}
    return distillation("tad", partial(_tail, k=k, temperature=temperature), weights, row_wise=False, **common)


def _on_support(
    lg: Logits, progress: Progress, k: int, beta: float, temperature: float, direction: Direction, tail: bool
) -> Components:
    support, valid = top_support(lg, k, beta)
    return {"kd": support_divergence(lg.student, lg.teacher, support, valid, temperature, direction, tail=tail)}


def _tail(lg: Logits, progress: Progress, k: int, temperature: float) -> Components:
    split = split_kl(lg.student, lg.teacher, by_top(lg, k), temperature)
    mass = split.mass[:, 1]
    mean = _mean_of_sequence(mass, lg)
    ratio = mass / torch.where(mean == 0, torch.ones_like(mean), mean)
    return {"head": split.between + split.mass[:, 0] * split.within[:, 0], "tail": ratio * split.within[:, 1]}


def _mean_of_sequence(x: Tensor, lg: Logits) -> Tensor:
    """``[n]`` the weighted mean of x over the rows of the same sequence."""
    weight = torch.ones_like(x) if lg.weight is None else lg.weight.to(x.dtype)
    if "sequence" not in lg.extra:
        total = weight.sum()
        return ((weight * x).sum() / torch.where(total == 0, torch.ones_like(total), total)).expand_as(x)
    index = lg.extra["sequence"].unique(return_inverse=True)[1]
    total, sums = (torch.zeros_like(x).index_add(0, index, v) for v in (weight, weight * x))
    return (sums / torch.where(total == 0, torch.ones_like(total), total))[index]
