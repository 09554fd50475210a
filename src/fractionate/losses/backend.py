"""Which code reads and writes the rest of a fused split: Triton kernels on CUDA, else a few rows at a time in torch."""

from __future__ import annotations

import functools
import warnings
from types import ModuleType

import torch
from torch import Tensor

from . import rest

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
