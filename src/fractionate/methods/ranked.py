"""Methods of a few ranked classes: LDRLD's pairs of the student's best, TIE-KD's order of both networks' best."""

from __future__ import annotations

from functools import partial
from typing import Unpack

from ..losses import by_student_top, pair_divergence, rank_hinge, split_kl, whole
from ..rows import Logits, Progress
from .arguments import Common, check_count, check_not_negative, check_positive, with_common
from .method import Method, Weights, distillation
from .terms import Components


@with_common()
def ldrld(
    *,
    k: int = 7,
    alpha: float = 10.5,
    beta: float = 7.0,
    temperature: float = 4.0,
    **common: Unpack[Common],
) -> Method:
    """Local dense relations: the student's k best classes in pairs and as a group, and the rest apart.

    L = ce_weight CE + W(e) mean[ alpha (pairs + top) + beta rest ], K2 = k (k - 1) / 2 + 1
    pairs = (T^2 / K2) sum_{i < j} w_ij KL( sig(t_i - t_j) || sig(s_i - s_j) )
    w_ij = 2 exp(-0.05 (i + j)) / (1.5 + j - i)
    top = (T^2 / K2) KL inside the k, rest = T^2 KL inside the others

    s and t are the logits at T in the order of the student's ranks 1..k; the pairs are binary.

    Args:
        k: 2..c-1.
        alpha: weight of ``pairs`` and ``top``.
        beta: weight of ``rest``.
        temperature: T.
        ce_weight, warmup, label_smoothing, hard: as in :func:`kd`; reads no label.

    Returns:
        Method with components ``task``, ``pairs``, ``top``, ``rest``.

    Raises:
        ValueError: k outside 2..c-1, an argument out of range.

    Source: arXiv 2507.15911 (ICCV 2025) and yema-web/LDRLD; weights of ResNet32x4 to ResNet8x4.

    Map: partition by_student_top(k=7); direction forward; groups top = 0.477 within[0], rest = 7 within[1];
    relation pairs of ranked classes

    Note:
        Nothing matches the mass of the k against the rest: a constant added to the student's k best logits costs
        nothing as long as they stay the best, so the cross-entropy must be there. For k = 2 the published code also
        multiplies ``top`` by the pair's weight, for k = c its rest is the KL of all classes; here the formula holds.
        ``pairs`` and ``top`` have no role, so ``deepkd`` refuses it; ``dot`` works.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.ldrld(k=3).components(lg))
        ['task', 'pairs', 'top', 'rest']
    """
    check_count("ldrld", "k", k, 2)
    check_positive("ldrld", temperature=temperature)
    check_not_negative("ldrld", alpha=alpha, beta=beta)
    weights: Weights = {"pairs": (alpha, None), "top": (alpha, None), "rest": (beta, "nontarget")}
    return distillation("ldrld", partial(_pairs, k=k, temperature=temperature), weights, **common)


@with_common()
def tie_kd(
    *,
    k: int = 5,
    kl_weight: float = 1.0,
    rank_weight: float = 1.0,
    temperature: float = 1.0,
    **common: Unpack[Common],
) -> Method:
    """KD plus a hinge on the order of both networks' best classes, made for translation.

    L = ce_weight CE + W(e) mean[ kl_weight T^2 KL(p^T || p^S) + rank_weight R ]
    R = sum_{a in A} [p^S_a - p^S_{A_1}]_+ + sum_{a in A} sum_{b in B} 1[p^T_a > p^T_b] [p^S_b - p^S_a]_+

    A are the teacher's k best classes, best first, B the student's; R reads probabilities at temperature 1.

    Args:
        k: 1..c.
        kl_weight, rank_weight: weights of ``kl`` and ``rank``.
        temperature: T of ``kl``.
        ce_weight, warmup, label_smoothing, hard: as in :func:`kd`; reads no label.

    Returns:
        Method with components ``task``, ``kl``, ``rank``.

    Raises:
        ValueError: k above the number of classes, an argument out of range.

    Source: arXiv 2305.08096 (ACL 2023) and songmzhang/NMT-KD; the iterations on the student's own words are the loop's.

    Map: partition whole; direction forward; groups kl = 1 within[0]; relation order of the best classes

    Note:
        R is a difference of probabilities, so over a large vocabulary and a flat student it hardly has a gradient. The
        published code adds 1e-6 inside both logarithms, by which classes below 1e-6 get almost none; here KL is exact.
        It sums over tokens, here rows are averaged. Another work of this name (arXiv 2402.14340) is about depth maps.

    Example:
        >>> import torch, fractionate as fr
        >>> z = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
        >>> fr.methods.tie_kd(k=2).components(fr.Logits(z, 2 * z, torch.tensor([0])))["rank"]
        tensor([0.])
    """
    check_count("tie_kd", "k", k, 1)
    check_positive("tie_kd", temperature=temperature)
    check_not_negative("tie_kd", kl_weight=kl_weight, rank_weight=rank_weight)
    weights: Weights = {"kl": (kl_weight, None), "rank": (rank_weight, None)}
    return distillation("tie_kd", partial(_order, k=k, temperature=temperature), weights, **common)


def _pairs(lg: Logits, progress: Progress, k: int, temperature: float) -> Components:
    part, scale = by_student_top(lg, k), k * (k - 1) / 2 + 1
    within = split_kl(lg.student, lg.teacher, part, temperature).within
    pairs = pair_divergence(lg.student, lg.teacher, part.groups[0].index, temperature)
    return {"pairs": pairs / scale, "top": within[:, 0] / scale, "rest": within[:, 1]}


def _order(lg: Logits, progress: Progress, k: int, temperature: float) -> Components:
    kl = split_kl(lg.student, lg.teacher, whole(lg), temperature).within[:, 0]
    return {"kl": kl, "rank": rank_hinge(lg.student, lg.teacher, k)}
