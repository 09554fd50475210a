"""The fused path of split_kl: read both logits, write one gradient, keep nothing of their size.

Forward and backward work on a few rows at a time in a scratch buffer that stays in the cache, in float32 (float64
stays). Between them only per-row numbers of every group are kept. The derivative by a class i of group g is

    dL/dz_i = q_i^S (du_g / T + T w_g) - q_i^T T w_g

with u_g the student's log-sum-exp of the group, du_g what arrives for it through ``between`` and the log masses, and
w_g what arrives for ``within``; q is the softmax inside the group.
"""

from __future__ import annotations

import functools
import warnings
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import rest
from .plain import Group, Partition, Parts, kl_rows, needs_plain_gradient, plain_gradient, plain_split
from .rest import KEEP, Look, number, read_small, write_small


def anchored(group: Group) -> bool:
    """Whether a class of the group is sure to count in every row, so that it can stand in for those that do not."""
    return group.valid is None or group.first_counts


def listed_classes(partition: Partition) -> Tensor | None:
    """``[n, m]`` all listed classes; entries that do not count repeat the first one, which always does."""
    if not partition.groups:
        return None
    first = partition.groups[0].index[:, :1]
    parts = [g.index if g.valid is None else g.index.where(g.valid, first) for g in partition.groups]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def torch_split(student: Tensor, teacher: Tensor, partition: Partition, temperature: float) -> Parts:
    """The same four tensors as the plain path."""
    return _FusedSplit.apply(student, teacher.detach(), partition, temperature)


class _FusedSplit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, partition: Partition, temperature: float) -> Parts:
        index = listed_classes(partition)
        best, log_total, inside, picked, kept = _look(s, t, index, temperature)
        per_t, square = number(1 / temperature, best), number(temperature * temperature, best)
        nothing = torch.zeros_like(inside)
        if picked is None:  # one group, which has all the mass
            listed, within, between = [], inside[:, None], nothing
            (log_t, log_s), mass = torch.zeros_like(best).unbind(0), torch.ones_like(best)
        else:
            listed = _listed_groups(picked, partition.groups, per_t)
            within = torch.stack([*(nothing if g.within is None else g.within for g in listed), inside], 1)
            log_t, log_s = logs = _log_masses(listed, best, log_total, per_t)
            mass, certain = logs.exp(), all(group.valid is None for group in partition.groups)
            between = (mass[0] * (log_t - log_s)).sum(1) if certain else kl_rows(log_t, log_s)
        ctx.save_for_backward(s, t, index, kept, best, log_total, mass, *(g.q for g in listed))
        ctx.partition, ctx.temperature = partition, temperature
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(log_t)
        return between.mul_(square), within.mul_(square), log_t, log_s

    @staticmethod
    def backward(ctx: Any, between: Any, within: Any, _: Any, log_s: Any) -> Any:
        s, t, index, kept, best, log_total, mass, *inner = ctx.saved_tensors
        partition, temperature = ctx.partition, ctx.temperature
        if needs_plain_gradient():
            plain = functools.partial(plain_split, s, t, partition, temperature, "forward")
            return plain_gradient(s, plain, (between, within, log_s)), None, None, None
        du = _to_sums(mass, between, log_s, temperature)
        teacher = torch.zeros_like(du) if within is None else within * number(temperature, within)
        student = du + teacher
        if kept is None:
            out = torch.empty_like(s)
            scale = torch.stack((teacher[:, -1], student[:, -1])).mul_(log_total.neg().exp_())
            rest_code(s, index).write_rest(s, t, best, scale, temperature, out)
        else:
            out = write_small(kept, teacher[:, -1:], student[:, -1:])
        if index is not None:
            columns = [
                du[:, j : j + 1] if q is None else q[1] * student[:, j : j + 1] - q[0] * teacher[:, j : j + 1]
                for j, q in enumerate(inner)
            ]
            out.scatter_(1, index, listed_grads(columns, partition).to(out.dtype))
        return out.to(s.dtype), None, None, None


def _look(s: Tensor, t: Tensor, index: Tensor | None, temperature: float) -> Look:
    """Both logits, read once; only of a small batch on a CPU, where calls cost more than passes, more is kept."""
    code = rest_code(s, index)
    if code is rest and s.numel() <= KEEP and s.device.type == "cpu":
        return read_small(s, t, index, temperature)
    best, total, gap = code.read_rest(s, t, index, temperature)
    logs = total.log()
    picked = None if index is None else torch.stack((t.gather(1, index), s.gather(1, index))).to(best.dtype)
    return Look(best, logs, gap.sub_(logs[0]).add_(logs[1]), picked)


def _to_sums(mass: Tensor, between: Tensor | None, log_s: Tensor | None, temperature: float) -> Tensor:
    """``[n, g]`` derivative by the student's log-sum-exps, divided by T."""
    du = (
        torch.zeros_like(mass[0])
        if between is None
        else (mass[1] - mass[0]) * (between * number(temperature, between))[:, None]
    )
    if log_s is not None:
        du = du + (log_s - mass[1] * log_s.sum(1, keepdim=True)) / temperature
    return du


def listed_grads(columns: list[Tensor], partition: Partition) -> Tensor:
    """``[n, m]`` gradients of the listed classes; repeats of the first one carry its value."""
    first = columns[0][:, :1]
    parts = [x if g.valid is None else x.where(g.valid, first) for x, g in zip(columns, partition.groups, strict=True)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class _Listed(NamedTuple):
    """A listed group, teacher first; a single class needs nothing but its logit.

    Largest logit [2, n, 1], KL inside [n], log-sum-exp [2, n, 1] relative to that logit, softmax [2, n, m].
    """

    top: Tensor
    within: Tensor | None = None
    log_sum: Tensor | None = None
    q: Tensor | None = None


def _log_masses(listed: list[_Listed], best: Tensor, log_total: Tensor, per_t: Tensor) -> Tensor:
    """``[2, n, g]`` log masses, from log-sum-exps relative to the largest logit of the row: exact where it matters."""
    tops = torch.cat([*(g.top for g in listed), best], 2)
    sums = tops.sub_(tops.amax(2, keepdim=True)).mul_(per_t)
    for j, group in enumerate(listed):
        if group.log_sum is not None:
            sums[:, :, j : j + 1].add_(group.log_sum)
    sums[:, :, -1].add_(log_total)
    return sums.log_softmax(2)


def _listed_groups(picked: Tensor | None, groups: tuple[Group, ...], per_t: Tensor) -> list[_Listed]:
    if picked is None:
        return []
    parts = picked.split([group.index.shape[1] for group in groups], 2) if len(groups) > 1 else (picked,)
    return [_listed_group(x, group, per_t) for x, group in zip(parts, groups, strict=True)]


def _listed_group(x: Tensor, group: Group, per_t: Tensor) -> _Listed:
    """A group from its logits ``[2, n, m]``, teacher first."""
    if group.index.shape[1] == 1 and group.valid is None:
        return _Listed(x)
    gone = None
    if group.valid is not None:
        gone = ~group.valid.any(1, keepdim=True)
        x = x.masked_fill(~group.valid, -torch.inf).masked_fill_(gone, 0.0)
    top = x.amax(2, keepdim=True)
    logs = (x - top).mul_(per_t).log_softmax(2)
    # The largest difference is 0, so minus the largest log-probability is the log-sum-exp.
    log_sum = -logs.amax(2, keepdim=True)
    q = logs.exp()
    if gone is None:
        return _Listed(top, (q[0] * (logs[0] - logs[1])).sum(1), log_sum, q)
    within = kl_rows(logs[0], logs[1]).masked_fill(gone[:, 0], 0.0)
    return _Listed(top.masked_fill(gone, -torch.inf), within, log_sum, q.masked_fill(gone, 0.0))


# The kernel compares every listed class with every block of a row, which only pays while they are few.
MOST_LISTED = 32


def rest_code(logits: Tensor, index: Tensor | None) -> ModuleType:
    """The module whose ``read_rest`` and ``write_rest`` serve these logits.

    Args:
        logits: ``[n, c]``; float64 stays with torch, which computes it exactly.
        index: ``[n, m]`` listed classes.
    """
    few = index is None or index.shape[1] <= MOST_LISTED
    if logits.device.type != "cuda" or logits.dtype == torch.float64 or not few:
        return rest
    return kernels(logits.device) or rest


@functools.cache
def kernels(device: torch.device) -> ModuleType | None:
    """The Triton kernels, if they run on this device: imported at the first use, tried once on one row."""
    from . import triton_split

    if not triton_split.AVAILABLE:
        return None
    try:
        row = torch.zeros(1, 4, device=device)
        best, total, _ = triton_split.read_rest(row, row, None, 1.0)
        triton_split.write_rest(row, row, best, total, 1.0, torch.empty_like(row))
    except Exception as error:  # a missing C compiler, an old GPU, a broken installation: Triton raises all kinds
        warnings.warn(
            f"fractionate: Triton is installed but does not run on {device} ({type(error).__name__}: {error}); "
            f"losses take the slower torch path there",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return triton_split
