"""Rows of all processes, for methods whose terms look at a whole batch."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from ..rows import Logits
from .world import World


def gathered(lg: Logits, world: World, count: int) -> Logits:
    """The rows of all processes, in which only this process's own carry a gradient.

    Every process then computes the loss of the whole batch, and the sum over processes of the parameters' gradients is
    that loss's gradient. Costs ``[n, c]`` numbers per view and network, not a gradient's size.

    Args:
        lg: this process's rows.
        world: the processes.
        count: rows of ``lg`` that belong to the batch; 0 if they are borrowed.
    """
    if world.alone:
        return lg
    own = lg[slice(0, count)]
    return Logits(**{f.name: _together(getattr(own, f.name), world) for f in fields(Logits)})


def _together(value: Any, world: World) -> Any:
    if isinstance(value, Tensor):
        parts = world.rows(value.detach())
        parts[world.rank] = value
        return torch.cat(parts)
    if isinstance(value, Logits):
        return gathered(value, world, value.rows)
    if isinstance(value, tuple):
        return tuple(_together(x, world) for x in value)
    if isinstance(value, dict):
        return {name: _together(x, world) for name, x in value.items()}
    return value
