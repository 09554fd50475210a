"""Relations inside a batch: correlations along rows, along classes, and between rows (DIST, MLKD).

These look at several rows at once, so they follow ``Logits.weight`` themselves: a row of weight 0 is not there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from .._spoken import spoken
from .._typing import Float
from ..kernels import widen

EPS = 1e-8  # added to the product of the norms, as published


@spoken
def row_correlation(
    student: Float[Tensor, "n c"], teacher: Float[Tensor, "n c"], temperature: float | Tensor = 1.0
) -> Float[Tensor, " n"]:
    """Pearson correlation of softmax(z^S / T) and softmax(z^T / T) along the classes of every row.

    Args:
        student: ``[n, c]`` raw logits.
        teacher: ``[n, c]`` raw logits, without gradient.
        temperature: T.

    Source: arXiv 2205.10536 (inter-class relation).

    Example:
        >>> z = torch.tensor([[2.0, 0.0, 1.0]])
        >>> bool(torch.isclose(row_correlation(z, z), torch.ones(1)))
        True
    """
    q, p = _probabilities(student, teacher, temperature)
    return _pearson(q.T, p.T, None)


@spoken
def column_correlation(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    temperature: float | Tensor = 1.0,
    weight: Float[Tensor, " n"] | None = None,
    *,
    gather: bool = False,
) -> Float[Tensor, " c"]:
    """Pearson correlation of softmax(z^S / T) and softmax(z^T / T) along the rows, for every class.

    A constant column has no direction: it contributes 0, with gradient 0.

    Args:
        student: ``[n, c]`` raw logits; n >= 2, otherwise every column is constant.
        teacher: ``[n, c]`` raw logits, without gradient.
        temperature: T.
        weight: ``[n]`` weight of each row.
        gather: use the rows of all processes; needs ``torch.distributed``. Averaged over the processes, each by its
            share of the rows, the gradients are those of one process that holds them all.

    Source: arXiv 2205.10536 (intra-class relation).
    """
    q, p = _probabilities(student, teacher, temperature)
    if gather:
        q, p = gathered(q), gathered(p)
        weight = None if weight is None else gathered(weight)
    return _pearson(q, p, weight)


@spoken
def class_relation(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    temperature: float = 1.0,
    *,
    weight: Float[Tensor, " n"] | None = None,
    classes: Float[Tensor, " c"] | None = None,
) -> Float[Tensor, ""]:
    """MLKD's class correlation |P' P - Q' Q|_F^2 / C, with P, Q = softmax(z / T) of teacher and student.

    With D = P - Q and S = P + Q it equals (<D D', S S'> + <S D', (S D')'>) / (2 C), so no more than
    min(n, C)^2 numbers are stored and nothing cancels where the student comes close to the teacher.

    Args:
        student: ``[n, c]`` raw logits.
        teacher: ``[n, c]`` raw logits, without gradient.
        temperature: T.
        weight: ``[n]`` weight of each row, 1 for those that are there.
        classes: ``[c]`` 1 for the classes that take part.

    Source: multi-level logit distillation, CVPR 2023.

    Example:
        >>> z = torch.tensor([[2.0, 0.0, 1.0]])
        >>> class_relation(z, z)
        tensor(0.)
    """
    q, p = _probabilities(student, teacher, temperature)
    if weight is not None:
        q, p = (x * weight.to(x.dtype).sqrt()[:, None] for x in (q, p))
    if classes is not None:
        q, p = q * classes, p * classes
    n, c = q.shape
    with _full_precision(q):
        if n >= c:
            return (p.T @ p - q.T @ q).square().sum() / c
        d, s = p - q, p + q
        cross = s @ d.T
        return ((d @ d.T) * (s @ s.T) + cross * cross.T).sum() / (2 * c)


@spoken
def batch_relation(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    temperature: float = 1.0,
    *,
    weight: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, " n"]:
    """MLKD's batch correlation, per row: sum over rows j of (<p_i, p_j> - <q_i, q_j>)^2; its mean is the term.

    Args:
        student: ``[n, c]`` raw logits.
        teacher: ``[n, c]`` raw logits, without gradient.
        temperature: T.
        weight: ``[n]`` weight of the rows j, for example 1 for those that take part.

    Source: multi-level logit distillation, CVPR 2023.

    Example:
        >>> z = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
        >>> batch_relation(z, z)
        tensor([0., 0.])
    """
    q, p = _probabilities(student, teacher, temperature)
    with _full_precision(q):
        square = (p @ p.T - q @ q.T).square()
        return square.sum(1) if weight is None else square @ weight.to(square.dtype)


def _probabilities(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    return (widen(student) / temperature).softmax(1), (widen(teacher.detach()) / temperature).softmax(1)


def _full_precision(x: Tensor) -> torch.autocast:
    """Matrix products in the precision of their operands, also where the caller runs under autocast."""
    return torch.autocast(x.device.type, enabled=False)


def _pearson(x: Float[Tensor, "m k"], y: Float[Tensor, "m k"], weight: Float[Tensor, " m"] | None) -> Tensor:
    """Correlation of the columns of x and y; 0, without gradient, where a column is constant up to rounding."""
    share = None if weight is None else _shares(weight.to(x.dtype))
    (x, flat_x), (y, flat_y) = _centred(x, share), _centred(y, share)
    flat = flat_x | flat_y
    x, y = x.masked_fill(flat, 0.0), y.masked_fill(flat, 0.0)
    norms = torch.linalg.vector_norm(x, dim=0) * torch.linalg.vector_norm(y, dim=0)
    return (x * y).sum(0) / (norms + EPS)


def _shares(weight: Float[Tensor, " m"]) -> Float[Tensor, "m 1"]:
    total = weight.sum()
    return (weight / torch.where(total == 0, torch.ones_like(total), total))[:, None]


def _centred(x: Float[Tensor, "m k"], share: Float[Tensor, "m 1"] | None) -> tuple[Tensor, Tensor]:
    """Columns minus their mean, over the rows that count, and which of them are constant."""
    if share is None:
        centred = x - x.sum(0) / max(1, len(x))
        spread, size = (torch.linalg.vector_norm(v.detach(), dim=0) for v in (centred, x))
        return centred, spread <= 8 * torch.finfo(x.dtype).eps * size
    root = (share * (share > 0).sum()).sqrt()  # 1 for equal weights
    centred = root * (x - (share * x).sum(0))
    spread, size = (torch.linalg.vector_norm(v.detach(), dim=0) for v in (centred, root * x))
    return centred, spread <= 8 * torch.finfo(x.dtype).eps * size


class _Gather(torch.autograd.Function):
    """The rows of all processes; backward sums what the processes send to each row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(distributed.get_world_size())]
        distributed.all_gather(counts, torch.full_like(counts[0], len(x)))
        each = torch.cat(counts).tolist()
        rank, longest = distributed.get_rank(), max(each)
        ctx.own = slice(sum(each[:rank]), sum(each[: rank + 1]))
        parts = [x.new_empty(longest, *x.shape[1:]) for _ in each]  # collectives want one shape of all
        distributed.all_gather(parts, torch.cat([x, x.new_zeros(longest - len(x), *x.shape[1:])]))
        return torch.cat([part[:count] for part, count in zip(parts, each, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        distributed.all_reduce(grad)
        return grad[ctx.own]


def gathered(x: Float[Tensor, "n ..."]) -> Float[Tensor, "m ..."]:
    """The rows of all processes, which may have different numbers of them; needs ``torch.distributed``.

    Averaged over the processes, each by its share of the rows, the gradients are those of one that holds them all.

    Raises:
        ValueError: there is no process group.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        raise ValueError("gather=True needs an initialised torch.distributed process group")
    return _Gather.apply(x)


@spoken
def gram_direction(
    student: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n c"],
    *,
    ridge: float | None = None,
    weight: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, " n"]:
    """How far the cosines between the rows of a batch are from the teacher's, row by row.

    D = (U^S U^S' - U^T U^T') / C with U the unit rows of the logits; |D_i|, or with a ridge sqrt(D_i Sigma^-1 D_i'),
    Sigma = cov(rows of D) + ridge I, through which the gradient flows too. 0, with gradient 0, where D_i = 0.

    Args:
        student: ``[n, c]`` raw logits.
        teacher: ``[n, c]`` raw logits, without gradient.
        ridge: of the whitening; ``None`` leaves it out.
        weight: ``[n]`` rows of weight 0 are not there; other weights do not count here.

    Raises:
        ValueError: a ridge and a single row, whose covariance is not defined.

    Source: HyunJunSik/StreamLined (CVPR 2026).

    Example:
        >>> z = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
        >>> gram_direction(z, 3 * z)
        tensor([0., 0.])
    """
    unit = [torch.nn.functional.normalize(widen(z), dim=1) for z in (student, teacher.detach())]
    there = None if weight is None else (weight > 0).to(unit[0].dtype)
    if ridge is not None and len(student) == 1:
        raise ValueError("gram_direction: the covariance of one row is not defined; give at least 2 rows, or no ridge")
    with _full_precision(unit[0]):
        d = (unit[0] @ unit[0].T - unit[1] @ unit[1].T) / student.shape[1]
        if there is not None:
            d = d * there[:, None] * there
        if ridge is None or not len(d):
            return torch.linalg.vector_norm(d, dim=1)
        factor = torch.linalg.cholesky(_covariance(d, there, ridge))
        return torch.linalg.vector_norm(torch.linalg.solve_triangular(factor, d.T, upper=False), dim=0)


def _covariance(d: Float[Tensor, "n n"], there: Float[Tensor, " n"] | None, ridge: float) -> Float[Tensor, "n n"]:
    """Unbiased covariance of the rows that are there, plus a ridge."""
    eye = ridge * torch.eye(len(d), device=d.device, dtype=d.dtype)
    if there is None:
        centred = d - d.mean(0)
        return centred.T @ centred / (len(d) - 1) + eye
    count = there.sum()
    centred = there[:, None] * (d - d.sum(0) / count.clamp(min=1))
    return centred.T @ centred / (count - 1).clamp(min=1) + eye
