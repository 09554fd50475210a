"""Where a run computes, in which precision, with how many threads, and what its generators stand at."""

from __future__ import annotations

import functools
import random
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..config.run import Run
from ..teachers import convolution
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


CPUINFO = Path("/proc/cpuinfo")
UNITS = ("amx_bf16", "avx512_bf16")  # of x86 processors, as Linux names them


@functools.cache
def fast_precision(device: torch.device) -> tuple[str, str]:
    """What ``precision=auto`` means on a device, and why.

    It goes by what the hardware says, not by a stopwatch: processes that share a machine must decide alike, and so must
    the one that goes on with a run.

    Example:
        >>> fast_precision(torch.device("cpu"))[0] in ("float32", "bfloat16")
        True
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        fast, unit = major >= 8, f"compute capability {major}.{minor}"
        return ("bfloat16" if fast else "float32"), f"a GPU of {unit} {'has' if fast else 'lacks'} units for bfloat16"
    try:
        flags = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "float32", "this system does not say whether its processor has a unit for bfloat16"
    if there := [name for name in UNITS if re.search(rf"\b{name}\b", flags)]:
        return "bfloat16", f"this processor has a unit for it ({there[0]})"
    return "float32", f"this processor has no unit for bfloat16 ({' or '.join(UNITS)})"


def settled_precision(run: Run) -> Run:
    """The run with ``precision=auto`` decided; any other as it is."""
    if run.precision != "auto":
        return run
    chosen: Any = fast_precision(place(run.device))[0]
    return replace(run, precision=chosen)


def autocast(run: Run, device: torch.device) -> torch.autocast:
    """The precision in which the networks run; losses are computed outside of it."""
    dtype = torch.float16 if run.precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=run.precision != "float32")


def kept_dtype(run: Run) -> torch.dtype | None:
    """In which type a live teacher may keep its weights, running under :func:`autocast` alone; ``None`` = as they are.

    A table is filled in float32, so that runs of every precision read the same one; pictures of dense teachers are too.
    """
    return getattr(torch, run.precision) if run.precision != "float32" and _asked_live(run) else None


def fuses(run: Run, device: torch.device) -> bool:
    """Whether a live teacher's convolutions may take along what follows them; cuDNN's kernels want channels last."""
    return device.type in convolution.DEVICES and run.channels_last and not run.compile_teacher and _asked_live(run)


def _asked_live(run: Run) -> bool:
    return run.teacher_table == "off" and run.task.name == "classification"


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


def random_state() -> dict[str, Any]:
    """State of every generator that code may draw from without naming it: torch's, Python's, NumPy's if loaded."""
    numpy = sys.modules.get("numpy")
    drawn = numpy.random.get_state() if numpy else None
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (drawn[0], drawn[1].tolist(), *drawn[2:]) if drawn else None,
    }


def set_random_state(state: Any) -> None:
    """Put the generators back to where :func:`random_state` found them."""
    if isinstance(state, torch.Tensor):  # of a version that kept torch's alone
        state = {"torch": state}
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and state.get("cuda"):
        torch.cuda.set_rng_state_all(state["cuda"])
    if state.get("python"):
        random.setstate(state["python"])
    if state.get("numpy"):
        import numpy

        numpy.random.set_state(tuple(state["numpy"]))  # noqa: NPY002 (what other code draws from)
