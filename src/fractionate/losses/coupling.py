"""DGKD's coupling: squared distance between the logit gradients of DKD's two terms, in closed form."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .._typing import Bool, Float, Int
from ..kernels import widen

Coupling = Literal["full", "masked", "kd_weighted"]
COUPLINGS: tuple[Coupling, ...] = ("full", "masked", "kd_weighted")


def gradient_coupling(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    target: Int[Tensor, " n"],
    temperature: float = 4.0,
    coupling: Coupling = "full",
    kept: Bool[Tensor, "n c"] | None = None,
) -> Float[Tensor, " n"]:
    """G = |g_T - g_N|^2 of every row, g_T and g_N the gradients of T^2 TCKD and T^2 NCKD in the student's logits.

    With sigma and a the student's and teacher's probability of the label, d = sigma - a, and q, p their softmax
    over the non-targets (0 at the label e): g_T = T d (e - q), g_N = T (q - p), so

        G = T^2 [ d^2 + |(1 + d) q - p|^2 ],   0 <= G <= 6 T^2

    Differentiating this once gives the gradient that the published code gets by differentiating twice.

    Args:
        student, teacher: ``[n, c]`` raw logits.
        target: ``[n]`` labels.
        temperature: T.
        coupling: ``"full"`` (above), ``"masked"`` (g_T at the label only, g_N elsewhere: T^2 [d^2 + |q - p|^2]) or
            ``"kd_weighted"`` (g_N times 1 - a: T^2 [d^2 + |(d + 1 - a) q - (1 - a) p|^2]).
        kept: ``[n, c]`` the non-targets that NCKD looks at (DeepKD's mask); all if ``None``.

    Source: omertafveez-2001/Decoupled-Gradient-Knowledge-Distilation; the closed form is ours.

    Example:
        >>> z = torch.tensor([[2.0, 0.0, 1.0]])
        >>> gradient_coupling(z, z, torch.tensor([0]))
        tensor([0.])
    """
    label = torch.zeros_like(student, dtype=torch.bool).scatter(1, target[:, None], True)
    sigma, _, q = _decoupled(widen(student), label, temperature)
    a, rest, p = _decoupled(widen(teacher.detach()), label, temperature)
    if kept is None:
        inner = q - p
    else:
        inner = _inside(student, kept, temperature) - _inside(teacher.detach(), kept, temperature)
    d = (sigma - a)[:, None]
    if coupling == "full":
        u = d * q + inner
    elif coupling == "masked":
        u = inner
    else:
        u = d * q + rest[:, None] * inner
    return temperature**2 * (d[:, 0].square() + u.square().sum(1))


def _decoupled(z: Tensor, label: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Probability of the label, of the rest, and the softmax over the rest (0 at the label)."""
    x = (z - z.detach().amax(1, keepdim=True)) / temperature
    others = x.masked_fill(label, -torch.inf)
    odds = x.masked_fill(~label, 0.0).sum(1) - others.logsumexp(1)
    return odds.sigmoid(), (-odds).sigmoid(), others.softmax(1)


def _inside(z: Tensor, kept: Tensor, temperature: float) -> Tensor:
    z = widen(z).masked_fill(~kept, -torch.inf)
    return ((z - z.detach().amax(1, keepdim=True)) / temperature).softmax(1)


def conditional_projection(
    student: Float[Tensor, "n c"], teacher: Float[Tensor, "n c"], target: Int[Tensor, " n"]
) -> Float[Tensor, "n c"]:
    """The gradient nearest to that of KL(q || r) off the label which takes no margin from the label, ``[n, c]``.

    q, r are teacher's and student's distributions off the label y at T = 1. d is the Euclidean projection of (0, r - q)
    onto { x : x_j >= x_y for all j }: d_y = -l, d_j = r_j - min(q_j, r_j + l), l >= 0 solving l = sum_j [q_j - r_j -
    l]_+. Solved by sorting, O(c log c); without gradient.

    Args:
        student: ``[n, c]`` raw logits, at least 3 classes.
        teacher: ``[n, c]`` raw logits.
        target: ``[n]`` class indices.

    Source: Yuan and Tao, "Learning beyond full imitation" (2026), eq. 8 and 9.

    Example:
        >>> z = torch.tensor([[0.0, 1.0, 2.0]])
        >>> conditional_projection(z, z.flip(1), torch.tensor([1])).round(decimals=4)  # of r - q = (-.76, 0, .76)
        tensor([[-0.3808, -0.3808,  0.7616]])
    """
    label = torch.nn.functional.one_hot(target, student.shape[1]).bool()
    r, q = (widen(z.detach()).masked_fill(label, -torch.inf).softmax(1) for z in (student, teacher))
    gap = (q - r).masked_fill(label, -torch.inf).sort(1, descending=True).values[:, :-1]
    count = torch.arange(1, gap.shape[1] + 1, device=gap.device, dtype=gap.dtype)
    level = gap.cumsum(1) / (count + 1)
    last = (gap > level).sum(1, keepdim=True)  # true up to the largest k, false after it
    size = level.gather(1, (last - 1).clamp(min=0)).clamp(min=0.0)
    return torch.where(label, -size, r - torch.minimum(q, r + size))
