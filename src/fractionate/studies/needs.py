"""What a run takes: memory, counted before anything is trained, and how to say it."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from ..train import Training
from ..train.prepare import autocast
from ..train.step import rows_of


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
        rows_of(training.method, training.student, training.teacher, batch)
    return sum(kept.values())


def free_bytes(device: torch.device) -> int | None:
    """Free memory; ``None`` where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def in_bytes(count: float) -> str:
    """A number of bytes in words.

    Example:
        >>> in_bytes(1_230_000)
        '1.23 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def in_time(seconds: float) -> str:
    """A duration in words.

    Example:
        >>> in_time(90), in_time(9000)
        ('90 s', '2.5 hours')
    """
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
