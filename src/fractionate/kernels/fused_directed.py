"""The fused path of reverse KL and of mixtures on CUDA: the rest by Triton kernels, all that is small by autograd.

Small are the listed classes and the masses: a few numbers per row, whose graph is kept. Of the rest, the classes that
no group lists, that graph holds the student's log-sum-exp; what happens inside the rest is added by the kernels, as its
exponentials times a tilt (see directed.c).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from . import fused, rest
from .directed import Direction, directed_split, divergence, inside_group
from .fused import listed_classes, listed_grads
from .plain import GroupLogs, Partition, Parts, group_of, needs_plain_gradient, plain_gradient


def directed_serves(student: Tensor, partition: Partition) -> bool:
    """Whether the Triton kernels run here, on these logits and with so many listed classes."""
    if fused.rest_code(student, None) is rest:
        return False
    return fused.rest_code(student, listed_classes(partition)) is not rest


def directed_fused(
    student: Tensor, teacher: Tensor, partition: Partition, temperature: float, direction: Direction
) -> Parts:
    """The same four tensors as the plain path; only where the Triton kernels serve."""
    return _FusedDirected.apply(student, teacher.detach(), partition, temperature, direction)


class _FusedDirected(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, s: Tensor, t: Tensor, partition: Partition, temperature: float, direction: Direction
    ) -> Parts:
        index = listed_classes(partition)
        code = fused.rest_code(s, index)
        first, second = (s, t) if direction.mixed else (t, s)  # the gap is weighed by the second one
        best, total, gap = code.read_rest(first, second, index, temperature)
        if not direction.mixed:
            best, total = best.flip(0), total.flip(0)
        with torch.enable_grad():
            leaves, groups = _small(s, t, best, total.log(), partition, temperature)
            log_t, log_s = (torch.stack([g.sums[i] for g in groups], 1).log_softmax(1) for i in range(2))
            by = None
            if direction.mixed:
                by = _mixing(log_t[:, -1], log_s[:, -1].detach(), total, direction)
                sums = code.look_rest(s, t, index, best, by, direction.factors[1], temperature) / total[[0, 1, 1]]
                inside, mean = _inside_rest(log_t[:, -1], log_s[:, -1], sums, by, direction)
            else:
                mean = gap + total[0].log() - total[1].log()
                inside = mean + 0 * leaves[0]  # it has a graph even where nothing else is there
            masses = [(log_t[:, j], log_s[:, j]) for j in range(len(groups))]
            listed = [inside_group(g.logs, masses[j], g.empty, direction) for j, g in enumerate(groups[:-1])]
            small = divergence(log_t, log_s, direction), torch.stack([*listed, inside], 1), log_s
        ctx.save_for_backward(s, t, index, best, total, by, mean, log_s[:, -1].detach().exp())
        ctx.what, ctx.small, ctx.leaves = (partition, temperature, direction), small, leaves
        ctx.set_materialize_grads(False)
        log_t = log_t.detach()
        ctx.mark_non_differentiable(log_t)
        square = temperature * temperature
        return square * small[0].detach(), square * small[1].detach(), log_t, log_s.detach()

    @staticmethod
    def backward(ctx: Any, between: Any, within: Any, _: Any, log_s: Any) -> Any:
        s, t, index, best, total, by, mean, mass = ctx.saved_tensors
        partition, temperature, direction = ctx.what
        if needs_plain_gradient():
            plain = functools.partial(directed_split, s, t, partition, temperature, direction)
            return plain_gradient(s, plain, (between, within, log_s)), None, None, None, None
        square = temperature * temperature
        arriving = [None if x is None else square * x for x in (between, within)] + [log_s]
        wanted = [(x, g) for x, g in zip(ctx.small, arriving, strict=True) if g is not None]
        outputs, given = zip(*wanted, strict=True)
        by_sum, *columns = torch.autograd.grad(outputs, ctx.leaves, given, retain_graph=True, materialize_grads=True)
        slope = torch.zeros_like(mass) if within is None else temperature * within[:, -1]
        if by is None:
            offset = total[0].log() - total[1].log()
        else:
            slope, offset = slope * mass, by[3] + by[4]
        scale = torch.stack((by_sum / temperature + slope * (offset - mean), slope)) / total[1]
        out, code = torch.empty_like(s), fused.rest_code(s, index)
        code.write_tilted(s, t, best, by, direction.factors[1], scale, temperature, out)
        if index is not None:
            out.scatter_(1, index, listed_grads(columns, partition).to(out.dtype))
        return out, None, None, None, None


def _small(
    s: Tensor, t: Tensor, best: Tensor, log_total: Tensor, partition: Partition, temperature: float
) -> tuple[list[Tensor], list[GroupLogs]]:
    """Every group, the rest last; the leaves are its log-sum-exp of the student and the student's listed logits."""
    picked = [tuple(z.detach().gather(1, g.index).to(best.dtype) for z in (t, s)) for g in partition.groups]
    tops = [torch.stack([z.amax(1) for z in pair]) for pair in picked]
    shift = torch.stack([*tops, best[:, :, 0]]).amax(0)
    sums = (best[:, :, 0] - shift) / temperature + log_total
    leaves = [sums[1].requires_grad_(), *(z.requires_grad_() for _, z in picked)]
    sides = shift.unbind(0)
    groups = [
        group_of(z, pair[0], g.valid, (sides[0], sides[1]), temperature)
        for z, pair, g in zip(leaves[1:], picked, partition.groups, strict=True)
    ]
    return leaves, [*groups, GroupLogs((log_total, log_total), (sums[0], leaves[0]), None)]


def _mixing(log_t: Tensor, log_s: Tensor, total: Tensor, direction: Direction) -> Tensor:
    """``[5, n]``: factors of the exponentials in M, of p to make it a share, and of both shares in the tilt."""
    (a, c), w = direction.factors, direction.mixing
    logs = torch.stack((log_t + math.log(w), log_s + math.log1p(-w)))
    share_t, share_s = logs.softmax(0)
    ratio = total[1] / total[0]
    # Of jsd the last two are the same for every class together.
    of_t, of_s = (0.0, 0.0) if direction.name == "jsd" else ((1 - w) * a / w, c)
    return torch.stack((share_t * ratio, share_s, ratio, of_t * share_t, of_s * share_s)).contiguous()


def _inside_rest(log_t: Tensor, log_s: Tensor, sums: Tensor, by: Tensor, direction: Direction) -> tuple[Tensor, Tensor]:
    """The divergence inside the rest with its masses, and the mean of the tilt; the student's mass has its graph."""
    (a, c), mass = direction.factors, log_s.detach().exp()
    mean = sums[2] + by[3] + by[4]
    value = a * log_t.exp() * sums[0] + c * mass * sums[1]
    return value + mass * mean * (log_s - log_s.detach()), mean
