"""The state of every generator that code may draw from without naming it."""

from __future__ import annotations

import random
import sys
from typing import Any

import torch


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
