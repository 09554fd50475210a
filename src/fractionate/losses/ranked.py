"""Losses of a few ranked classes per row: pairs of them, their order, and divergences on a chosen support."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._spoken import spoken
from .._typing import Bool, Float, Int
from ..kernels import Direction, Group, Partition, divergence, need_k, top_classes, widen
from ..rows import Logits


@spoken
def by_student_top(lg: Logits, k: int) -> Partition:
    """{student's k largest logits, best first}, {rest}; the ranking carries no gradient.

    Args:
        lg: rows.
        k: 1..c-1.

    Source: arXiv 2507.15911 (LDRLD).

    Example:
        >>> lg = Logits(torch.tensor([[1.0, 3.0, 2.0]]), torch.zeros(1, 3))
        >>> by_student_top(lg, 2).groups[0].index
        tensor([[1, 2]])
    """
    need_k("by_student_top", k, 1, lg.classes - 1)
    return Partition((Group(top_classes(lg.student.detach(), k)),), lg.classes)


@spoken
def pair_divergence(
    student: Float[Tensor, "n c"], teacher: Float[Tensor, "n c"], ranked: Int[Tensor, "n k"], temperature: float = 1.0
) -> Float[Tensor, " n"]:
    """T^2 sum over i < j of w_ij KL( sig(t_i - t_j) || sig(s_i - s_j) ), both binary, over ranked classes at T.

    w_ij = 2 exp(-0.05 (i + j)) / (1.5 + j - i), ranks from 1. Through log-sigmoids, finite for every finite logit.

    Args:
        student: ``[n, c]`` raw logits.
        teacher: ``[n, c]`` raw logits, without gradient.
        ranked: ``[n, k]`` classes, best first.
        temperature: T.

    Source: arXiv 2507.15911 and yema-web/LDRLD.

    Example:
        >>> z = torch.tensor([[2.0, 1.0, 0.0]])
        >>> pair_divergence(z, z, torch.tensor([[0, 1]]))
        tensor([0.])
    """
    s, t = (widen(z).gather(1, ranked) / temperature for z in (student, teacher.detach()))
    rank = torch.arange(1, ranked.shape[1] + 1, device=s.device, dtype=s.dtype)
    weight = 2 * torch.exp(-0.05 * (rank[:, None] + rank)) / (1.5 + rank - rank[:, None]).clamp(min=0.5)
    own, other = (z[:, :, None] - z[:, None, :] for z in (s, t))
    loss = _binary(other, own)
    return temperature**2 * (weight.triu(1) * loss).sum((1, 2))


def _binary(aim: Tensor, own: Tensor) -> Tensor:
    """KL of two binary distributions from their log-odds."""
    yes = aim.sigmoid() * (F.logsigmoid(aim) - F.logsigmoid(own))
    return yes + (-aim).sigmoid() * (F.logsigmoid(-aim) - F.logsigmoid(-own))


@spoken
def rank_hinge(student: Float[Tensor, "n c"], teacher: Float[Tensor, "n c"], k: int) -> Float[Tensor, " n"]:
    """How far the student's probabilities of the best classes stand in another order than the teacher's.

    sum_{a in A} [p^S_a - p^S_{A_1}]_+ + sum_{a in A} sum_{b in B} 1[p^T_a > p^T_b] [p^S_b - p^S_a]_+ at T = 1, with A
    the teacher's k best classes, best first, and B the student's.

    Args:
        student: ``[n, c]`` raw logits.
        teacher: ``[n, c]`` raw logits, without gradient; its ranks alone count.
        k: 1..c.

    Source: arXiv 2305.08096 and songmzhang/NMT-KD (TIE-KD).

    Example:
        >>> z = torch.tensor([[2.0, 1.0, 0.0]])
        >>> rank_hinge(z, 3 * z, 2), bool(rank_hinge(z, -z, 2) > 0)
        (tensor([0.]), True)
    """
    need_k("rank_hinge", k, 1, student.shape[1])
    teacher = teacher.detach()
    a, b = top_classes(teacher, k), top_classes(student.detach(), k)
    q = widen(student).softmax(1)
    of_a, of_b = q.gather(1, a), q.gather(1, b)
    order = (of_a - of_a[:, :1]).relu().sum(1)
    above = teacher.gather(1, a)[:, :, None] > teacher.gather(1, b)[:, None, :]
    return order + ((of_b[:, None, :] - of_a[:, :, None]).relu() * above).sum((1, 2))


@spoken
def support_divergence(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    support: Int[Tensor, "n m"],
    valid: Bool[Tensor, "n m"] | None,
    temperature: float,
    direction: Direction,
    *,
    tail: bool = True,
) -> Float[Tensor, " n"]:
    """T^2 times the divergence over some classes, with the rest as one more outcome or left out on both sides.

    Args:
        student: ``[n, c]`` raw logits.
        teacher: ``[n, c]`` raw logits, without gradient.
        support: ``[n, m]`` the classes.
        valid: ``[n, m]`` which of them count; all if ``None``.
        temperature: T.
        direction: of the divergence.
        tail: with the rest as one outcome; ``False`` renormalises both networks over the support.

    Source: the top-k losses of Hugging Face TRL.
    """
    part = Partition((Group(support, valid),), student.shape[1])
    members = part.members(len(student), student.device)
    logs = []
    for z in (teacher.detach(), student):
        log_p = (widen(z) / temperature).log_softmax(1)
        inside = log_p.gather(1, support)
        inside = inside if valid is None else inside.masked_fill(~valid, -torch.inf)
        if tail:
            logs.append(torch.cat([inside, _rest(log_p, members)], 1))
        else:
            logs.append(inside.log_softmax(1))
    return temperature**2 * divergence(logs[0], logs[1], direction)


@spoken
def top_support(lg: Logits, k: int, beta: float) -> tuple[Int[Tensor, "n m"], Bool[Tensor, "n m"] | None]:
    """The teacher's k best classes for beta 0, the student's for 1, else those of both, and which entries count.

    Args:
        lg: rows.
        k: 1..c.
        beta: of the generalised JSD.
    """
    need_k("top_support", k, 1, lg.classes)
    if beta == 0:
        return top_classes(lg.rank_by, k), None
    own = top_classes(lg.student.detach(), k)
    if beta == 1:
        return own, None
    other = top_classes(lg.rank_by, k)
    new = ~(own[:, :, None] == other[:, None, :]).any(2)
    return torch.cat([other, own], 1), torch.cat([torch.ones_like(new), new], 1)


def _rest(log_p: Tensor, inside: Tensor) -> Tensor:
    """``[n, 1]`` log mass outside; -inf where nothing is."""
    none = inside.all(1, keepdim=True)
    rest = log_p.masked_fill(inside & ~none, -torch.inf).logsumexp(1, keepdim=True)
    return rest.masked_fill(none, -torch.inf)
