"""Where a run computes, in which precision, and with how many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..config.run import Run
from ..world import launched


def place(name: str) -> torch.device:
    """The device that a config names; ``"auto"`` is a GPU if there is one, ``"cuda:1"`` the second of several.

    Raises:
        ValueError: a GPU asked for that is not there.

    Example:
        >>> place("cpu")
        device(type='cpu')
    """
    if ":" in name and launched() > 1:
        raise ValueError(f"device {name!r} names one GPU, and torchrun gives every process its own; use device=cuda")
    there, (kind, _, number) = torch.cuda.device_count(), name.partition(":")
    if kind == "cuda" and int(number or 0) >= there:
        raise ValueError(f"device {name!r} was asked for, but torch finds {there or 'no'} GPU; use device=cpu or auto")
    if number:
        torch.cuda.set_device(int(number))  # kernels and graphs go to the current one
    return torch.device(name if kind == "cuda" else "cuda" if kind == "auto" and there else "cpu")


def autocast(run: Run, device: torch.device) -> torch.autocast:
    """The precision in which the networks run; losses are computed outside of it."""
    dtype = torch.float16 if run.precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=run.precision != "float32")


def kept_dtype(run: Run) -> torch.dtype | None:
    """In which type a live teacher may keep its weights, running under :func:`autocast` alone; ``None`` = as they are.

    A table is filled in float32, so that runs of every precision read the same one.
    """
    live = run.precision != "float32" and run.teacher_table == "off"
    return getattr(torch, run.precision) if live else None


@contextmanager
def tuned(device: torch.device) -> Iterator[None]:
    """cuDNN tries its algorithms for every shape and takes the fastest, unless deterministic ones were asked for."""
    cudnn = torch.backends.cudnn
    before, exact = cudnn.benchmark, cudnn.deterministic or torch.are_deterministic_algorithms_enabled()
    cudnn.benchmark = before or (device.type == "cuda" and not exact)
    try:
        yield
    finally:
        cudnn.benchmark = before


@contextmanager
def fixed_threads(count: int | None) -> Iterator[None]:
    """A fixed number of CPU threads: sums then run in one order, so the same seed gives the same numbers."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
