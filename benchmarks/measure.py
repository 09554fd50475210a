"""Interleaved timing: every round runs every contender once, so that a busy machine slows all of them alike.

And the memory of a process, as Linux counts it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

Work = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles.

    Args:
        median: middle value.
        low: first quartile.
        high: third quartile.
    """

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    """Median and quartiles of at least one value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def _nothing() -> None:
    """Before a contender, by default."""


def interleave(
    contenders: Mapping[str, Work],
    rounds: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
    before: Work = _nothing,
) -> dict[str, list[float]]:
    """Seconds of every contender in every round.

    One round before the first is not counted. The order turns by one place every round, so that nobody always runs
    first. ``clock=time.process_time`` counts the processor's time instead, without that of other programs. ``before``
    comes before every contender and is not timed.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    for work in contenders.values():
        before()
        work()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            before()
            seconds[name].append(_timed(contenders[name], device, clock))
    return seconds


def _timed(work: Work, device: torch.device, clock: Callable[[], float]) -> float:
    _wait(device)
    start = clock()
    work()
    _wait(device)
    return clock() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ratio(seconds: Mapping[str, list[float]], name: str, against: str) -> Spread:
    """Quotient of two contenders, round by round: what slows a whole round cancels."""
    return spread([a / b for a, b in zip(seconds[name], seconds[against], strict=True)])


@contextmanager
def whole_float32() -> Iterator[None]:
    """A GPU's convolutions as precise as a CPU's; usually they round what they read to 10 bits (TF32)."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def saved_bytes(loss: Callable[[], Tensor]) -> int:
    """Memory that autograd keeps between the forward and the backward pass of a loss."""
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss()
    return sum(kept.values())


def resident(peak: bool = False) -> int:
    """Bytes of this process in memory: now, or at most since :func:`reset_peak`. Linux."""
    field = "VmHWM" if peak else "VmRSS"
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def reset_peak() -> None:
    """Forget the highest resident size so far. Linux."""
    Path("/proc/self/clear_refs").write_text("5")


def agree(a: list[Tensor], b: list[Tensor], what: str, tolerance: float = 1e-9) -> None:
    """Contenders must compute the same, up to rounding in float64.

    Raises:
        RuntimeError: they do not, so a comparison of their times would mean nothing.
    """
    for x, y in zip(a, b, strict=True):
        error, scale = float((x - y).abs().max()), float(y.abs().max())
        if not error <= tolerance * max(scale, 1e-3):
            raise RuntimeError(f"{what}: the contenders differ by {error:.2e} at a scale of {scale:.2e}")


def moved(net: nn.Module, start: nn.Module) -> list[Tensor]:
    """How far every parameter has come."""
    return [p.detach() - q.detach() for p, q in zip(net.parameters(), start.parameters(), strict=True)]
