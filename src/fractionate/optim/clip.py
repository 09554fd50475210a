"""Bounds on the norm of stream gradients, without waiting for a device."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from .grads import Grads, StreamGrads
from .sharded import whole

TINY = 1e-6  # as torch.nn.utils.clip_grad_norm_


def clip_streams(grads: StreamGrads, max_norm: float) -> StreamGrads:
    """Every stream scaled by min(1, max_norm / |g_c|), whatever the others are.

    Args:
        grads: from ``stream_grads``.
        max_norm: Euclidean norm over all parameters that no stream exceeds.

    Raises:
        ValueError: ``max_norm`` is not above 0.

    Example:
        >>> grads = StreamGrads({"a": (torch.tensor([3.0, 4.0]),), "b": (torch.tensor([0.6]),)}, (torch.zeros(2),))
        >>> {name: [round(x, 3) for x in g.tolist()] for name, (g,) in clip_streams(grads, 1.0).items()}
        {'a': [0.6, 0.8], 'b': [0.6]}
    """
    _check(max_norm)
    return StreamGrads({name: _scaled(row, _factor(row, max_norm)) for name, row in grads.items()}, grads.parameters)


def clip_total(grads: StreamGrads, max_norm: float) -> StreamGrads:
    """All streams scaled by the same factor min(1, max_norm / |sum_c g_c|), which keeps their shares.

    With one stream, and with equal momenta, this is ``torch.nn.utils.clip_grad_norm_`` on the summed loss.

    Args:
        grads: from ``stream_grads``.
        max_norm: bound on the Euclidean norm of the sum of all streams.

    Raises:
        ValueError: ``max_norm`` is not above 0.

    Example:
        >>> grads = StreamGrads({"a": (torch.tensor([3.0, 0.0]),), "b": (torch.tensor([0.0, 4.0]),)}, (torch.zeros(2),))
        >>> {name: [round(x, 3) for x in g.tolist()] for name, (g,) in clip_total(grads, 1.0).items()}
        {'a': [0.6, 0.0], 'b': [0.0, 0.8]}
    """
    _check(max_norm)
    per_parameter = [[g for g in gs if g is not None] for gs in zip(*grads.values(), strict=True)]
    factor = _factor([functools.reduce(torch.add, gs) for gs in per_parameter if gs], max_norm)
    return StreamGrads({name: _scaled(row, factor) for name, row in grads.items()}, grads.parameters)


def _check(max_norm: float) -> None:
    if not max_norm > 0:
        raise ValueError(f"the largest norm of a gradient must be above 0, got {max_norm}")


def _factor(row: Sequence[Tensor | None], max_norm: float) -> Tensor | None:
    there = [g for g in row if g is not None]
    if not there:
        return None
    norm = whole(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(there))))  # over all shards
    return (max_norm / (norm + TINY)).clamp(max=1)


def _scaled(row: Grads, factor: Tensor | None) -> Grads:
    return row if factor is None else tuple(None if g is None else g * factor for g in row)
