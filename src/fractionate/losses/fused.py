"""The fused path of split_kl: read both logits, write one gradient, keep nothing of their size.

Forward and backward work on a few rows at a time in a scratch buffer that stays in the cache, in float32 (float64
stays). Between them only per-row numbers of every group are kept. The derivative by a class i of group g is

    dL/dz_i = q_i^S (du_g / T + T w_g) - q_i^T T w_g

with u_g the student's log-sum-exp of the group, du_g what arrives for it through ``between`` and the log masses, and
w_g what arrives for ``within``; q is the softmax inside the group.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .partition import Group, Partition
from .plain import KL, Parts, kl_rows, plain_split

# Elements of one network's logits handled at once: 2 MiB of float32, measured best on CPUs with 1 to 2 MiB of L2 cache.
CHUNK = 1 << 19


def why_not_fused(student: Tensor, partition: Partition, temperature: float | Tensor, kl: KL) -> str | None:
    """The reason why only the plain path can be used; ``None`` if the fused one can."""
    if kl != "forward":
        return f"it computes forward KL, not {kl!r}"
    if isinstance(temperature, Tensor):
        return "a tensor temperature may need a gradient"
    if torch.compiler.is_compiling():
        return "torch.compile fuses the plain path itself"
    if getattr(torch._C, "_are_functorch_transforms_active", bool)():
        return "torch.func transforms need the plain path"
    if partition.groups and not _anchored(partition.groups[0]):
        return "the first entry of the first group must count in every row"
    if sum(group.index.shape[1] for group in partition.groups) >= student.shape[1]:
        return "the listed groups may leave no class for the rest"
    return None


def fused_split(student: Tensor, teacher: Tensor, partition: Partition, temperature: float) -> Parts:
    """The same four tensors as the plain path."""
    return _FusedSplit.apply(student, teacher.detach(), partition, temperature)


def _anchored(group: Group) -> bool:
    return group.valid is None or group.first_counts


def _listed(partition: Partition) -> Tensor | None:
    """``[n, m]`` all listed classes; entries that do not count repeat the first one, which always does."""
    if not partition.groups:
        return None
    first = partition.groups[0].index[:, :1]
    parts = [g.index if g.valid is None else g.index.where(g.valid, first) for g in partition.groups]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class _FusedSplit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, partition: Partition, temperature: float) -> Parts:
        index = _listed(partition)
        best, total, within_rest = _read_rest(s, t, index, temperature)
        log_rest = total.log()
        listed = [_listed_group(s, t, group, best.dtype, temperature) for group in partition.groups]
        within = [*(g.within for g in listed), within_rest - log_rest[0] + log_rest[1]]
        tops = torch.cat([*(g.top for g in listed), best], 2)
        sums = torch.cat([*(g.log_sum for g in listed), log_rest[:, :, None]], 2)
        # Masses compare log-sum-exps relative to the largest logit of the row: exact where it matters.
        logs = (tops - tops.amax(2, keepdim=True)).mul_(1 / temperature).add_(sums).log_softmax(2)
        mass = logs.exp()
        exact = all(group.valid is None for group in partition.groups)
        between = (mass[0] * (logs[0] - logs[1])).sum(1) if exact else kl_rows(logs[0], logs[1])
        square = temperature * temperature
        ctx.save_for_backward(s, t, index, best, total, mass, *(g.q for g in listed))
        ctx.partition, ctx.temperature = partition, temperature
        ctx.set_materialize_grads(False)
        log_t, log_s = logs.unbind(0)
        ctx.mark_non_differentiable(log_t)
        return between.mul_(square), torch.stack(within, 1).mul_(square), log_t, log_s

    @staticmethod
    def backward(ctx: Any, between: Any, within: Any, _: Any, log_s: Any) -> Any:
        s, t, index, best, total, mass, *inner = ctx.saved_tensors
        partition, temperature = ctx.partition, ctx.temperature
        if torch.is_grad_enabled():
            return _again_plain(s, t, partition, temperature, (between, within, log_s)), None, None, None
        du = _to_sums(mass, between, log_s, temperature)
        teacher = torch.zeros_like(du) if within is None else within * temperature
        student = du + teacher
        out = torch.empty_like(s)
        scale = torch.stack((teacher[:, -1], student[:, -1])).div_(total)[:, :, None]
        _write_rest(s, t, best, scale, temperature, out)
        if index is not None:
            columns = [
                du[:, j : j + 1] if q is None else q[1] * student[:, j : j + 1] - q[0] * teacher[:, j : j + 1]
                for j, q in enumerate(inner)
            ]
            out.scatter_(1, index, _listed_grads(columns, partition).to(out.dtype))
        return out, None, None, None


def _to_sums(mass: Tensor, between: Tensor | None, log_s: Tensor | None, temperature: float) -> Tensor:
    """``[n, g]`` derivative by the student's log-sum-exps, divided by T."""
    du = torch.zeros_like(mass[0]) if between is None else (mass[1] - mass[0]) * (between * temperature)[:, None]
    if log_s is not None:
        du = du + (log_s - mass[1] * log_s.sum(1, keepdim=True)) / temperature
    return du


def _listed_grads(columns: list[Tensor], partition: Partition) -> Tensor:
    """``[n, m]`` gradients of the listed classes; repeats of the first one carry its value."""
    first = columns[0][:, :1]
    parts = [x if g.valid is None else x.where(g.valid, first) for x, g in zip(columns, partition.groups, strict=True)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _again_plain(s: Tensor, t: Tensor, partition: Partition, temperature: float, grads: tuple[Any, ...]) -> Tensor:
    """Someone asked for a graph of the gradient: take it through the plain path."""
    between, within, _, log_s = plain_split(s, t, partition, temperature, "forward")
    wanted = [(x, g) for x, g in zip((between, within, log_s), grads, strict=True) if g is not None]
    outputs, arriving = zip(*wanted, strict=True)
    return torch.autograd.grad(outputs, s, arriving, create_graph=True)[0]


class _Listed(NamedTuple):
    """A listed group, teacher first: KL inside [n], largest logit and log-sum-exp [2, n, 1], softmax [2, n, m]."""

    within: Tensor
    top: Tensor
    log_sum: Tensor
    q: Tensor | None


def _listed_group(s: Tensor, t: Tensor, group: Group, dtype: torch.dtype, temperature: float) -> _Listed:
    x = torch.stack((t.gather(1, group.index), s.gather(1, group.index))).to(dtype)
    if group.index.shape[1] == 1 and group.valid is None:
        return _Listed(x.new_zeros(len(s)), x, torch.zeros_like(x), None)
    if group.valid is None:
        gone = None
    else:
        gone = ~group.valid.any(1, keepdim=True)
        x.masked_fill_(~group.valid, -torch.inf).masked_fill_(gone, 0.0)
    top = x.amax(2, keepdim=True)
    logs = x.sub_(top).mul_(1 / temperature).log_softmax(2)
    # The largest entry of x is 0, so minus the largest log-probability is the log-sum-exp.
    log_sum = -logs.amax(2, keepdim=True)
    q = logs.exp()
    if gone is None:
        return _Listed((q[0] * (logs[0] - logs[1])).sum(1), top, log_sum, q)
    within = kl_rows(logs[0], logs[1]).masked_fill(gone[:, 0], 0.0)
    return _Listed(within, top.masked_fill(gone, -torch.inf), log_sum, q.masked_fill(gone, 0.0))


def _rows_at_once(n: int, c: int) -> int:
    return max(1, min(n, CHUNK // c))


def _read_rest(s: Tensor, t: Tensor, index: Tensor | None, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Over the rest: maxima [2, n, 1], sums of exponentials [2, n], the teacher's mean of (t - s) / T [n]."""
    n, c = s.shape
    size = _rows_at_once(n, c)
    dtype = torch.float64 if s.dtype == torch.float64 else torch.float32
    scratch, powers = (torch.empty(2, size, c, dtype=dtype, device=s.device) for _ in range(2))
    best, total = (torch.empty(2, n, dtype=dtype, device=s.device) for _ in range(2))
    dot = torch.empty(n, dtype=dtype, device=s.device)
    for start in range(0, n, size):
        rows = slice(start, min(n, start + size))
        x, e = scratch[:, : rows.stop - start], powers[:, : rows.stop - start]
        x[0].copy_(t[rows])
        x[1].copy_(s[rows])
        if index is not None:
            x.scatter_(2, index[rows].expand(2, -1, -1), -torch.inf)
        torch.amax(x, 2, out=best[:, rows])
        x.sub_(best[:, rows, None]).mul_(1 / temperature)  # the maximum first: exact where T would blow it up
        torch.exp(x, out=e)
        torch.sum(e, 2, out=total[:, rows])
        gap = x[0].sub_(x[1])
        if index is not None:
            gap.scatter_(1, index[rows], 0.0)
        torch.sum(e[0].mul_(gap), 1, out=dot[rows])
    return best[:, :, None], total, dot.div_(total[0])


def _write_rest(s: Tensor, t: Tensor, best: Tensor, scale: Tensor, temperature: float, out: Tensor) -> None:
    """out = scale_s exp((s - max) / T) - scale_t exp((t - max) / T); listed classes get garbage, overwritten later."""
    n, c = s.shape
    size = _rows_at_once(n, c)
    scratch = torch.empty(2, size, c, dtype=best.dtype, device=s.device)
    for start in range(0, n, size):
        rows = slice(start, min(n, start + size))
        x = scratch[:, : rows.stop - start]
        torch.sub(t[rows], best[0, rows], out=x[0])
        torch.sub(s[rows], best[1, rows], out=x[1])
        x.mul_(1 / temperature).exp_().mul_(scale[:, rows])
        torch.sub(x[1], x[0], out=out[rows])
