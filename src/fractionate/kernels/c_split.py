"""The fused split by the compiled kernels: all groups of a row in one call, whatever the partition and direction.

Forward KL is in ``split.c``, with values and derivatives as in :mod:`.fused`; the others are in ``directed.c``. Rows
are shared among ``torch.get_num_threads()`` threads once each has enough of them; results do not depend on how many. A
second derivative is taken through the plain path.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from struct import Struct, pack
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .c_library import library
from .directed import FORWARD, Direction, directed_split
from .plain import Group, Partition, Parts, needs_plain_gradient, plain_gradient, plain_split

PLAIN = (Tensor, torch.nn.Parameter)
# The order of the enumerations in rows.h and directed.c.
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
WAYS = {"reverse": 0, "jsd": 1, "skew": 2, "skew_reverse": 3}
# Logits of one network per thread, at least: half a millisecond of work, ten times what handing it over costs.
SHARE = 1 << 18
SAVED = 6  # numbers per row and group that the forward pass leaves to the backward pass
FAILURES = {
    1: (MemoryError, "no memory for two rows of logits"),
    2: (IndexError, "a class of the partition does not exist"),
}


# The structures of rows.h and the head of the one of directed.c, field by field.
ROWS, LISTED, WAY = Struct("PP5qd"), Struct("PP3q"), Struct("q3d")
READ, WRITE, MEAN = Struct("5P"), Struct("PqP" + 3 * "Pqq"), Struct("PqPPd")
NO_READ, NO_WRITE, NO_MEAN = (bytes(each.size) for each in (READ, WRITE, MEAN))


def compiled_serves(student: Tensor, teacher: Tensor) -> bool:
    """Whether the compiled kernels exist and can read these logits.

    Not those of another device, float64 (torch computes it exactly), classes that do not lie side by side, or
    anything whose operations somebody watches or that has no memory of its own.
    """
    return (
        type(student) in PLAIN
        and type(teacher) in PLAIN
        and student.is_cpu
        and teacher.is_cpu
        and student.dtype is teacher.dtype
        and student.dtype in DTYPES
        and student.stride(1) == teacher.stride(1) == 1
        and not (student.is_neg() or teacher.is_neg() or getattr(torch._C, "_len_torch_dispatch_stack", int)())
        and library() is not None
    )


def compiled_split(
    student: Tensor, teacher: Tensor, partition: Partition, temperature: float, direction: Direction = FORWARD
) -> Parts:
    """The same four tensors as the plain path."""
    return _CompiledSplit.apply(student, teacher.detach(), _Task(partition, temperature, direction))


def compiled_mean(
    student: Tensor,
    teacher: Tensor,
    partition: Partition,
    temperature: float,
    weights: tuple[float, ...],
    direction: Direction = FORWARD,
) -> Tensor:
    """Mean over the rows of weights[0] between + weights[1] within[:, 0] + ..., in float32.

    What arrives at every row is then known in advance, so the forward pass also writes the gradient.
    """
    return _CompiledMean.apply(student, teacher, _Task(partition, temperature, direction), weights)


class _Task(NamedTuple):
    """What is computed, whatever the logits."""

    partition: Partition
    temperature: float
    direction: Direction

    def plain(self, s: Tensor, t: Tensor) -> Parts:
        """By tensor operations."""
        if self.direction == FORWARD:
            return plain_split(s, t, self.partition, self.temperature, "forward")
        return directed_split(s, t, self.partition, self.temperature, self.direction)

    def kernel(self, name: str, read: bytes = NO_READ, write: bytes = NO_WRITE, mean: bytes = NO_MEAN) -> list[Any]:
        """The kernel's name and what it is told; of all directions but forward one kernel does everything."""
        if self.direction == FORWARD:
            return [name, {"read_rows": read, "write_rows": write, "mean_rows": mean}[name]]
        way = WAY.pack(WAYS[self.direction.name], *self.direction.factors, self.direction.mixing)
        return ["direct_rows", way + read + write + mean]


class _CompiledSplit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, task: _Task) -> Parts:
        n, g = s.shape[0], task.partition.size
        between = s.new_empty(n, dtype=torch.float32)  # whatever the default dtype and device are
        within, log_t, log_s = (between.new_empty(n, g) for _ in range(3))
        saved = between.new_empty(n, g, SAVED) if task.direction == FORWARD else None
        outputs = [x.data_ptr() for x in (between, within, log_t, log_s)]
        read = READ.pack(*outputs, 0 if saved is None else saved.data_ptr())
        _run(s, t, task, *task.kernel("read_rows", read=read))
        ctx.save_for_backward(s, t, saved)
        ctx.task = task
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(log_t)
        return between, within, log_t, log_s

    @staticmethod
    def backward(ctx: Any, between: Any, within: Any, _: Any, log_s: Any) -> Any:
        (s, t, saved), task = ctx.saved_tensors, ctx.task
        if needs_plain_gradient():
            return plain_gradient(s, functools.partial(task.plain, s, t), (between, within, log_s)), None, None
        out = torch.empty_like(s)
        arriving = [
            *((0, 0, 0) if between is None else (between.data_ptr(), between.stride(0), 0)),
            *((0, 0, 0) if within is None else (within.data_ptr(), *within.stride())),
            *((0, 0, 0) if log_s is None else (log_s.data_ptr(), *log_s.stride())),
        ]
        write = WRITE.pack(out.data_ptr(), out.stride(0), 0 if saved is None else saved.data_ptr(), *arriving)
        _run(s, t, task, *task.kernel("write_rows", write=write))
        return out, None, None


class _CompiledMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, task: _Task, weights: tuple[float, ...]) -> Tensor:
        ctx.what = task, weights
        total, ctx.ready = _mean(s, t, task, weights, ctx.needs_input_grad[0])
        ctx.save_for_backward(s, t)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (s, t), (task, weights) = ctx.saved_tensors, ctx.what
        if needs_plain_gradient():
            return _mean_again(s, t, task, weights, grad), None, None, None
        # Given away: whoever receives it may change it, and a second pass through the same loss makes its own.
        out, ctx.ready = ctx.ready, None
        factor = grad.item()
        if factor != 1.0 and s.dtype != torch.float32:  # rounded once, not before and after the factor
            _, out = _mean(s, t, task, tuple(w * factor for w in weights), True)
            return out, None, None, None
        if out is None:
            _, out = _mean(s, t, task, weights, True)
        return out if factor == 1.0 else out.mul_(factor), None, None, None


def _mean(s: Tensor, t: Tensor, task: _Task, weights: tuple[float, ...], wanted: bool) -> tuple[Tensor, Tensor | None]:
    """The mean and, if wanted, its gradient."""
    n = s.shape[0]
    mean, out = s.new_empty((), dtype=torch.float32), torch.empty_like(s) if wanted else None
    values = s.new_empty(n, dtype=torch.float64) if _workers(s) > 1 else None
    grad = (0, 0) if out is None else (out.data_ptr(), out.stride(0))
    where = MEAN.pack(*grad, 0 if values is None else values.data_ptr(), mean.data_ptr(), 1 / max(1, n))
    write = WRITE.pack(*grad, *[0] * 10)
    told = pack(f"{len(weights)}d", *weights)
    rows = _run(s, t, task, *task.kernel("mean_rows", write=write, mean=where + told))
    if values is not None:
        _kernel("add_rows")(rows, where, 0, n)
    return mean, out


def _mean_again(s: Tensor, t: Tensor, task: _Task, weights: tuple[float, ...], grad: Tensor) -> Tensor:
    first, *others = weights
    share = grad / max(1, len(s))
    between = (first * share).expand(len(s))
    within = (share.new_tensor(others) * share).expand(len(s), -1)
    return plain_gradient(s, functools.partial(task.plain, s, t), (between, within, None))


def _run(s: Tensor, t: Tensor, task: _Task, name: str, where: bytes) -> bytes:
    """A kernel over all rows, by as many threads as it is worth; the rows as it read them."""
    kernel, (n, c), groups = _kernel(name), s.shape, task.partition.groups
    head = ROWS.pack(
        s.data_ptr(), t.data_ptr(), s.stride(0), t.stride(0), c, len(groups) + 1, DTYPES[s.dtype], task.temperature
    )
    listed = [_listed(group, n) for group in groups]  # also keeps alive what the kernel reads
    rows = b"".join((head, *(packed for packed, _ in listed)))
    workers = _workers(s)
    if workers <= 1:
        _check(kernel(rows, where, 0, n))
        return rows
    edges = [n * i // workers for i in range(workers + 1)]
    pool = _pool(torch.get_num_threads() - 1, os.getpid())
    others = [pool.submit(kernel, rows, where, *edges[i : i + 2]) for i in range(1, workers)]
    codes = [kernel(rows, where, *edges[:2]), *(other.result() for other in others)]
    _check(max(codes))
    return rows


def _kernel(name: str) -> Callable[[bytes, bytes, int, int], int]:
    return getattr(library(), name)


def _workers(s: Tensor) -> int:
    """Threads that these rows are worth; ctypes lets them run at once."""
    return min(s.shape[0], torch.get_num_threads(), s.numel() // SHARE)


def _listed(group: Group, n: int) -> tuple[bytes, list[Tensor]]:
    """One group as the kernels read it, and the tensors that this points to."""
    index, valid = group.index, group.valid
    if index.shape[0] != n or (valid is not None and valid.shape != index.shape):
        raise IndexError(f"split_kl: a group of the partition has {index.shape[0]} rows, the logits have {n}")
    for x, dtype in ((index, torch.int64), (valid, torch.bool)):
        if x is not None and (x.dtype != dtype or not x.is_cpu):
            raise IndexError(f"split_kl: a group of the partition must be {dtype} on cpu, got {x.dtype} on {x.device}")
    index = _side_by_side(index)
    if valid is None:
        return LISTED.pack(index.data_ptr(), 0, index.shape[1], index.stride(0), 0), [index]
    valid = _side_by_side(valid)
    packed = LISTED.pack(index.data_ptr(), valid.data_ptr(), index.shape[1], index.stride(0), valid.stride(0))
    return packed, [index, valid]


def _side_by_side(x: Tensor) -> Tensor:
    return x if x.stride(1) == 1 or x.shape[1] < 2 else x.contiguous()


def _check(code: int) -> None:
    if code:
        error, text = FAILURES[code]
        raise error(f"split_kl: {text}")


@functools.lru_cache(maxsize=1)
def _pool(workers: int, process: int) -> ThreadPoolExecutor:
    """Threads do not survive a fork: a child makes its own."""
    return ThreadPoolExecutor(workers, "fractionate")
