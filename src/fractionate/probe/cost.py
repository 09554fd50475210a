"""What a run and its operations take: memory, arithmetic and traffic, at the best speeds of this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry

from ..train.build import Training
from ..train.device import autocast


def kept_bytes(training: Training) -> int:
    """Bytes of weights, one buffer and one gradient per stream, and the averaged weights."""
    weights = sum(p.numel() * p.element_size() for p in training.student.parameters())
    streams = len(training.optimizer.momenta)
    return weights * (1 + 2 * streams + (training.run.ema is not None))


def graph_bytes(training: Training) -> int:
    """Bytes that a step keeps for its backward passes, counted while it is computed."""
    kept: dict[int, int] = {}
    weights = {x.untyped_storage().data_ptr() for x in training.student.state_dict().values()}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    batch = next(iter(training.train.batches(1)))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), autocast(training.run, batch.images.device):
        training.task.rows(training.student, training.teacher, batch)
    return sum(kept.values())


def free_bytes(device: torch.device) -> int | None:
    """Free memory; ``None`` where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


REPEATS = 5
PICK = {"index", "index_select", "gather", "embedding", "take"}  # read what they return, not all they could


@dataclass(frozen=True)
class Machine:
    """The best speeds that were seen here.

    Args:
        flops: floating-point operations per second of a matrix product.
        bytes: bytes per second read and written by a copy, of whatever size is fastest.
    """

    flops: float
    bytes: float


def measure_machine(device: torch.device, dtype: torch.dtype = torch.float32) -> Machine:
    """Multiply and copy; a fraction of a second.

    Args:
        device: where.
        dtype: of the matrix product.
    """
    on_gpu = device.type == "cuda"
    best_flops, best_bytes = 0.0, 0.0
    for side in (4096, 8192) if on_gpu else (256, 512):
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        best_flops = max(best_flops, 2 * side**3 / _quickest(partial(torch.mm, a, b), device))
    for count in (2**26, 2**28) if on_gpu else (2**14, 2**17, 2**20):
        a, b = (torch.zeros(count, device=device) for _ in range(2))
        best_bytes = max(best_bytes, 2 * a.nbytes / _quickest(partial(a.copy_, b), device))
    return Machine(best_flops, best_bytes)


def wait(device: torch.device) -> None:
    """Until a GPU has done all it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _quickest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the best of a few repetitions, after one that is not counted."""
    found = []
    for _ in range(REPEATS + 1):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        found.append(time.perf_counter() - start)
    return min(found[1:])


def _convolution(x: Tensor, weight: Tensor, *rest: Any, out_val: Tensor) -> int:
    return conv_flop_count(list(x.shape), list(weight.shape), list(out_val.shape))


# Of a teacher on a GPU (``fractionate.teachers.fused``); torch counts the plain ones only.
FUSED = {torch.ops.aten.cudnn_convolution_relu: _convolution, torch.ops.aten.cudnn_convolution_add_relu: _convolution}


class Cost(TorchDispatchMode):
    """Adds up what runs inside of ``with Cost(machine) as cost``.

    An operation takes at least as long as its arithmetic, and as long as reading its inputs and writing its outputs;
    :attr:`seconds` is the sum of the larger of the two. No kernels for the same operations could be quicker; kernels
    that do several of them at once could.

    Example:
        >>> with Cost(Machine(flops=1e9, bytes=1e9)) as cost:
        ...     _ = torch.ones(10, 20) @ torch.ones(20, 30)
        >>> cost.flops
        12000
    """

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine, self.flops, self.bytes, self.seconds = machine, 0, 0, 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func._overloadpacket not in flop_registry and func is not torch.ops.prim.device.default:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        count = FUSED.get(func._overloadpacket) or flop_registry.get(func._overloadpacket)
        flops = int(count(*args, **kwargs, out_val=out)) if count else 0
        moved = _traffic(func, args, kwargs, out)
        self.flops, self.bytes = self.flops + flops, self.bytes + moved
        self.seconds += max(flops / self.machine.flops, moved / self.machine.bytes)
        return out


def _traffic(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    """Bytes that an operation has to read and write."""
    name = func._schema.name.partition("::")[2]
    if "empty" in name:
        return 0
    given, made = list(_tensors([*args, *kwargs.values()])), list(_tensors([out]))
    if name in PICK:
        return 2 * sum(_size(x) for x in made)
    if name.startswith("index_put"):
        return 2 * sum(_size(x) for x in given[1:])
    places = {x.untyped_storage().data_ptr() for x in given}
    fresh = [x for x in made if x.untyped_storage().data_ptr() not in places]
    named = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    writes = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    changed = list(_tensors([named.get(name) for name in writes]))
    if not fresh and not changed:  # a view
        return 0
    return sum(_size(x) for x in [*given, *fresh, *changed])


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _size(x: Tensor) -> int:
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())
