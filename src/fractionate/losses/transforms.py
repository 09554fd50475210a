"""What comes before a loss: standardised rows or groups, a swap, a mixture of teachers, logits of image regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._spoken import spoken
from .._typing import Bool, Float, Int
from ..kernels import top_classes, widen
from ..rows import Logits

EPS = 1e-7  # added to the standard deviation, as published
LEAST_STD = 1e-6  # a row below this is constant: nothing in it can be learned


@spoken
def standardize(logits: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    """Z-score of every row: (z - mean) / (std + 1e-7), with the statistics differentiated.

    The standard deviation is the unbiased one (ddof 1). Any loss of the result is invariant to shift and scale of a
    row, and its gradient is orthogonal to the all-ones vector. A constant row has no scale: its deviation is clamped
    at 1e-6 and it receives no gradient, where the published code has one of order 1e7.

    Args:
        logits: ``[n, c]``, c >= 2; float16 and bfloat16 are computed in float32.

    Source: arXiv 2403.01427.

    Example:
        >>> standardize(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
        tensor([[-1.0000,  0.0000,  1.0000],
                [ 0.0000,  0.0000,  0.0000]])
    """
    z = widen(logits)
    z = z - z.detach().amax(1, keepdim=True)  # a constant row becomes exactly zero
    centred = z - z.mean(1, keepdim=True)
    variance = centred.square().sum(1, keepdim=True) / (z.shape[1] - 1)
    constant = variance.detach() < LEAST_STD**2
    std = variance.masked_fill(constant, LEAST_STD**2).sqrt()
    result = centred / (std + EPS)
    return torch.where(constant, result.detach(), result)


@spoken
def swap_target(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n c"]:
    """Exchange the label's logit with the largest one wherever the largest is not the label.

    Afterwards the label is the best class of every row and the row holds the same values; applied again it changes
    nothing. Gradients follow the values.

    Args:
        logits: ``[n, c]``.
        labels: ``[n]`` class indices.

    Source: arXiv 2504.20108.

    Example:
        >>> swap_target(torch.tensor([[5.0, 1.0, 3.0]]), torch.tensor([2]))
        tensor([[3., 1., 5.]])
    """
    label, best = labels[:, None], top_classes(logits.detach(), 1)
    place = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape)
    return logits.gather(1, place.scatter(1, label, best).scatter(1, best, label))


@spoken
def mixture_logits(
    teachers: Sequence[Float[Tensor, "n c"]], weights: Sequence[float], temperature: float = 1.0
) -> Float[Tensor, "n c"]:
    """Logits whose softmax at T is the weighted mixture of the teachers' softmax at T.

    z = T log sum_k w_k softmax(z_k / T)

    Args:
        teachers: ``[n, c]`` logits of every teacher.
        weights: one per teacher, not negative; divided by their sum.
        temperature: T.

    Raises:
        ValueError: a number of weights that is not that of the teachers, a negative weight, or a sum of 0.

    Example:
        >>> two = [torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])]
        >>> mixture_logits(two, [1, 1]).softmax(1)
        tensor([[0.5000, 0.5000]])
    """
    if len(weights) != len(teachers):
        raise ValueError(f"mixture of teachers: {len(teachers)} teachers need as many weights, got {list(weights)}")
    total = float(sum(weights))
    if total <= 0 or min(weights) < 0:
        raise ValueError(f"mixture of teachers: weights must not be negative, with a positive sum, got {list(weights)}")
    used = [(w / total, z) for w, z in zip(weights, teachers, strict=True) if w > 0]
    logs = [torch.log_softmax(widen(z) / temperature, 1) for _, z in used]
    shares = torch.tensor([w for w, _ in used], dtype=logs[0].dtype, device=logs[0].device).log()
    return temperature * (torch.stack(logs) + shares[:, None, None]).logsumexp(0)


@spoken
def zscored(
    student: Float[Tensor, "n c"], teacher: Float[Tensor, "n c"], members: Bool[Tensor, "n c"]
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
    """(z - mean) / (std + 1e-7) over the members of one group per row; other classes stay as they are.

    The standard deviation is that of the population (ddof 0), unlike in ``standardize``, which takes whole rows.
    Where the group is flat in the student or in the teacher (std below 1e-6, as in a group of one class) both
    become 0: the KL inside is then 0 with gradient 0, instead of a division by 1e-7.

    Args:
        student, teacher: ``[n, c]`` logits.
        members: ``[n, c]`` classes of the group, at least one per row.

    Returns:
        Both logits with the group standardised; float16 and bfloat16 become float32.

    Example:
        >>> z = torch.tensor([[1.0, 3.0, 7.0]])
        >>> zscored(z, z, torch.tensor([[True, True, False]]))[0]
        tensor([[-1.0000,  1.0000,  7.0000]])
    """
    s, t = widen(student), widen(teacher)
    (x_s, flat_s), (x_t, flat_t) = (_scores(z, members) for z in (s, t))
    flat = flat_s | flat_t
    x_s, x_t = (torch.where(members, x.masked_fill(flat, 0.0), z) for x, z in ((x_s, s), (x_t, t)))
    return x_s, x_t


def _scores(z: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """Standard scores of the members (0 elsewhere), and ``[n, 1]`` whether the group is flat."""
    count = members.sum(1, keepdim=True)
    # Relative to the largest member first: a constant group is then exactly 0, whatever its level.
    best = z.detach().masked_fill(~members, -torch.inf).amax(1, keepdim=True)
    level = (z - best).masked_fill(~members, 0.0)
    centred = (level - level.sum(1, keepdim=True) / count).masked_fill(~members, 0.0)
    variance = centred.square().sum(1, keepdim=True) / count
    flat = variance < LEAST_STD**2
    return centred / (variance.masked_fill(flat, 1.0).sqrt() + EPS), flat


# -- image regions: the classifier on the mean feature of every cell of several grids (SDD) --------


@spoken
def region_logits(
    features: Float[Tensor, "n d h w"], head: nn.Linear, scales: Sequence[int] = (1, 2, 4)
) -> Float[Tensor, "m c"]:
    """``[n * r, c]`` logits of the r = sum of s^2 regions of every image, the regions of an image one after the other.

    Args:
        features: ``[n, d, h, w]`` the last feature map, before pooling.
        head: the linear layer that follows the pooling.
        scales: sizes of the grids; scale 1 is the whole image, so its logits are the network's own.

    Source: arXiv 2403.13512.

    Example:
        >>> region_logits(torch.zeros(2, 8, 4, 4), nn.Linear(8, 10), (1, 2)).shape
        torch.Size([10, 10])
    """
    cells = [F.adaptive_avg_pool2d(features, s).flatten(2) for s in scales]
    return head(torch.cat(cells, 2).movedim(2, 1).flatten(0, 1))


@spoken
def with_regions(
    lg: Logits,
    student: tuple[Float[Tensor, "n d h w"], nn.Linear],
    teacher: tuple[Float[Tensor, "n e i j"], nn.Linear],
    scales: Sequence[int] = (1, 2, 4),
) -> Logits:
    """The same rows with the logits of their regions, as ``fractionate.methods.sdd`` reads them.

    Args:
        lg: rows, one per image.
        student: its last feature map and its linear head.
        teacher: the same two of the teacher; the maps may differ in size.
        scales: as in :func:`region_logits`.

    Example:
        >>> lg = Logits(torch.zeros(2, 10), torch.zeros(2, 10), torch.tensor([1, 2]))
        >>> maps = torch.zeros(2, 8, 4, 4), nn.Linear(8, 10)
        >>> with_regions(lg, maps, maps, (1, 2)).regions.target
        tensor([1, 1, 1, 1, 1, 2, 2, 2, 2, 2])
    """
    own, other = (region_logits(features, head, scales) for features, head in (student, teacher))
    count = sum(s * s for s in scales)
    regions = Logits(own, other.to(own.dtype), lg.target.repeat_interleave(count, 0))
    return replace(lg, regions=regions)


@spoken
def region_weights(lg: Logits, count: int) -> Float[Tensor, "n r"]:
    """``[n, r]``: 2 where exactly one of the teacher's global and regional predictions is right, else 1.

    Args:
        lg: rows with ``regions``, the first of every row being the whole image.
        count: r, regions per row.

    Source: arXiv 2403.13512 (consistent and complementary regions).
    """
    if lg.regions is None or lg.regions.rows != lg.rows * count:
        found = 0 if lg.regions is None else lg.regions.rows
        raise ValueError(f"sdd: expected {count} regions for each of {lg.rows} rows, got {found} in all")
    best = lg.regions.rank_by.argmax(1)
    right = (best == lg.regions.labels).view(lg.rows, count)
    return 1 + (right != right[:, :1]).to(widen(lg.student).dtype)


@spoken
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
