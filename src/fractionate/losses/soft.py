"""Cross-entropies and divergences of whole rows or of one set of classes per row, and the coupling of DKD's terms."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .._spoken import spoken
from .._typing import Bool, Float, Int
from ..kernels import KL, Group, Partition, split, top_classes, widen
from ..kernels import kl_rows as kl_of_logs
from ..rows import Logits

Coupling = Literal["full", "masked", "kd_weighted"]
COUPLINGS: tuple[Coupling, ...] = ("full", "masked", "kd_weighted")
ABSENT = -1e30  # a logit whose exponential is 0 beside any other's; finite, so that differences of it are no NaN


@spoken
def cross_entropy(lg: Logits, label_smoothing: float = 0.0) -> Float[Tensor, " n"]:
    """-sum_c y_c log softmax(student)_c for every row, at temperature 1 on raw logits.

    Args:
        lg: rows; hard or soft labels.
        label_smoothing: share of the label spread evenly over all classes.

    Example:
        >>> lg = Logits(torch.zeros(1, 4), torch.zeros(1, 4), torch.tensor([2]))
        >>> cross_entropy(lg)
        tensor([1.3863])
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must lie in 0..1, got {label_smoothing!r}")
    student = widen(lg.student)
    target = lg.target.to(student.dtype) if lg.soft else lg.target
    return F.cross_entropy(student, target, reduction="none", label_smoothing=label_smoothing)


@spoken
def inside_cross_entropy(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    inside: Bool[Tensor, "n c"],
    temperature: float | Tensor = 1.0,
) -> Float[Tensor, " n"]:
    """-T^2 sum over the classes inside of hat p log hat q, both renormalised there: NCKD plus an entropy.

    Args:
        student: ``[n, c]`` raw logits.
        teacher: ``[n, c]`` raw logits, without gradient.
        inside: ``[n, c]`` the classes that count, at least one in every row.
        temperature: T.

    Source: arXiv 2303.13005 (the non-target part of NKD).

    Example:
        >>> z = torch.zeros(1, 3)
        >>> inside_cross_entropy(z, z, torch.tensor([[False, True, True]]))
        tensor([0.6931])
    """
    # Masked after the division: that of -inf by a learned T would have a gradient of 0 * inf.
    p, q = (
        (widen(z) / temperature).masked_fill(~inside, -torch.inf).log_softmax(1) for z in (teacher.detach(), student)
    )
    return -(temperature * temperature) * (p.exp() * q.masked_fill(~inside, 0.0)).sum(1)


@spoken
def power_mass(logits: Float[Tensor, "n c"], power: float) -> Float[Tensor, " n"]:
    """U = sum over classes of softmax(z)^l, in 1..C^(1-l) for l <= 1; through log-sum-exps.

    Args:
        logits: ``[n, c]``.
        power: the exponent l.

    Source: arXiv 2402.11148 (the weight of WTTM).

    Example:
        >>> power_mass(torch.zeros(1, 4), 0.5)
        tensor([2.])
    """
    z = widen(logits)
    z = z - z.amax(1, keepdim=True)  # both sums relative to the largest logit, or huge logits cancel
    return ((power * z).logsumexp(1) - power * z.logsumexp(1)).exp()


@spoken
def adaptive_cross_entropy(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    labels: Int[Tensor, " n"],
    gamma: float = 1.0,
    temperature: float | Tensor = 1.0,
) -> Float[Tensor, " n"]:
    """The OFA loss -sum_c r_c log p^S_c with r_c = (p^T_c + 1[c = y])^gamma - 1[c = y], both at T; no T^2.

    Args:
        student: ``[n, c]`` raw logits.
        teacher: ``[n, c]`` raw logits, without gradient.
        labels: ``[n]`` class indices.
        gamma: exponent; 1 gives the cross-entropy with the teacher's probabilities.
        temperature: T.

    Source: arXiv 2310.19444.

    Example:
        >>> adaptive_cross_entropy(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]))
        tensor([0.6931])
    """
    log_q = (widen(student) / temperature).log_softmax(1)
    p = (widen(teacher.detach()) / temperature).softmax(1)
    label = torch.zeros_like(p).scatter(1, labels[:, None], 1.0)
    return -(((p + label) ** gamma - label) * log_q).sum(1)


@spoken
def logit_distance(
    student: Float[Tensor, "n c"], teacher: Float[Tensor, "n c"], *, center: bool = False
) -> Float[Tensor, " n"]:
    """Mean squared difference of the logits of every row, (1 / C) |z^S - z^T|^2.

    Args:
        student: ``[n, c]`` raw logits.
        teacher: ``[n, c]`` raw logits, without gradient.
        center: subtract the mean of each row first.

    Example:
        >>> logit_distance(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]))
        tensor([5.])
    """
    gap = widen(student) - widen(teacher.detach())
    if center:
        gap = gap - gap.mean(1, keepdim=True)
    return gap.square().mean(1)


@spoken
def kl_rows(
    student: Float[Tensor, "n c"], aim: Float[Tensor, "n c"], temperature: float | Tensor = 1.0
) -> Float[Tensor, " n"]:
    """T^2 KL(softmax(aim / T) || softmax(student / T)) with a gradient into both (SLD's published student term).

    Args:
        student: ``[n, c]`` raw logits.
        aim: ``[n, c]`` raw logits; detach them for an ordinary target.
        temperature: T.
    """
    log_p, log_q = ((widen(z) / temperature).log_softmax(1) for z in (aim, student))
    return (temperature * temperature) * (log_p.exp() * (log_p - log_q)).sum(1)


@spoken
def kl_inside(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    inside: Bool[Tensor, "n c"],
    temperature: float = 1.0,
    kl: KL = "forward",
) -> Float[Tensor, " n"]:
    """T^2 KL(q^T || q^S) with q the softmax over the classes inside; 0 for fewer than two classes.

    Equals ``split_kl(...).within`` of that group, at a fraction of the cost when the sets differ from row to row.

    Args:
        student, teacher: ``[n, c]`` raw logits.
        inside: ``[n, c]`` the classes that count; may be empty in a row.
        temperature: T.
        kl: direction: ``"forward"`` (teacher first), ``"reverse"`` or their mean, ``"both"``.

    Example:
        >>> z = torch.tensor([[1.0, 0.0, 5.0]])
        >>> kl_inside(z, z.flip(1), torch.tensor([[True, False, False]]))
        tensor([0.])
    """
    empty = ~inside.any(1, keepdim=True)
    absent = ~(inside | empty)  # a row without members is taken whole, and cut off below
    s, t = (widen(z).masked_fill(absent, ABSENT) for z in (student, teacher.detach()))
    rows = split(s, t, Partition((), inside.shape[1]), temperature, kl)[1][:, 0]
    return rows.masked_fill(empty[:, 0], 0.0)


@spoken
def sample_confidence(lg: Logits, temperature: float = 1.0) -> Float[Tensor, " n"]:
    """T^2 KL( (max p^T, 1 - max p^T) || (p^S_y, 1 - p^S_y) ): how sure the teacher is, carried to the label.

    From log-odds, so values and gradients are finite for every finite logit.

    Args:
        lg: rows with labels.
        temperature: T.

    Source: arXiv 2408.07703 (SCD).

    Example:
        >>> z = torch.tensor([[3.0, 1.0, 0.0]])
        >>> bool(sample_confidence(Logits(z, z, torch.tensor([0])))[0] == 0)
        True
    """
    best, label = top_classes(lg.rank_by, 1), lg.labels[:, None]
    # The masses of {one class}, {rest} are what a split knows best: logarithms of both, at one look.
    log_t = split(lg.teacher, lg.teacher, Partition((Group(best),), lg.classes), temperature, "forward")[2]
    log_s = split(lg.student, lg.teacher, Partition((Group(label),), lg.classes), temperature, "forward")[3]
    return temperature**2 * kl_of_logs(log_t, log_s)


# -- DGKD's coupling: squared distance between the logit gradients of DKD's two terms, in closed form --


@spoken
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
        inner = _softmax_inside(student, kept, temperature) - _softmax_inside(teacher.detach(), kept, temperature)
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


def _softmax_inside(z: Tensor, kept: Tensor, temperature: float) -> Tensor:
    z = widen(z).masked_fill(~kept, -torch.inf)
    return ((z - z.detach().amax(1, keepdim=True)) / temperature).softmax(1)
