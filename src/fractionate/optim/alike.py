"""Which tensors lie in memory alike, so that one kernel can read them all in a row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FUSED_ON = ("cpu", "cuda")  # devices with the kernels of torch.optim.SGD and AdamW(fused=True)


def fusible(params: Sequence[Tensor], grads: Sequence[Tensor], buffers: Sequence[Tensor]) -> bool:
    """Whether the kernel, which reads memory in a row and knows neither strides nor mixed types, fits all tensors."""
    like = params[0]
    if like.device.type not in FUSED_ON or not like.is_floating_point():
        return False
    return (
        all(p.dtype == like.dtype and p.device == like.device and _dense(p) for p in params)
        and laid_alike(params, grads)
        and (not buffers or all(b.stride() == p.stride() for b, p in zip(buffers, params, strict=True)))
    )


def divided(
    params: Sequence[Tensor], grads: Sequence[Tensor], buffers: Sequence[Tensor]
) -> list[tuple[list[Tensor], list[Tensor], list[Tensor]]]:
    """The tensors that the kernel fits, and the others, each with what belongs to them; a part with none is left out.

    One gradient with other strides would send every tensor the slow way. On a CPU both ways cost alike, and all tensors
    go the same one, as they always have.
    """
    rows: list[tuple[Tensor, ...]] = list(zip(*(row for row in (params, grads, buffers) if row), strict=True))
    fits = [fusible(row[:1], row[1:2], row[2:]) for row in rows]
    parts = []
    for wanted in {*fits}:
        chosen = [row for row, fit in zip(rows, fits, strict=True) if fit is wanted]
        parts.append(([r[0] for r in chosen], [r[1] for r in chosen], [r[2] for r in chosen if len(r) > 2]))
    return parts


def relaid(x: Tensor, like: Tensor) -> Tensor:
    """The same memory under the other tensor's strides, where only those of dimensions of size 1 differ.

    Weights of 1 x 1 convolutions lie channels last and first at once; a kernel may compare the strides all the same.

    Example:
        >>> last = torch.zeros(4, 3, 1, 1).to(memory_format=torch.channels_last)
        >>> last.stride() == torch.zeros(4, 3, 1, 1).stride(), relaid(last, torch.zeros(4, 3, 1, 1)).stride()
        (False, (3, 1, 1, 1))
    """
    if x.stride() == like.stride() or x.shape != like.shape:
        return x
    real = [n > 1 for n in x.shape]
    same = all(a == b for a, b, wide in zip(x.stride(), like.stride(), real, strict=True) if wide)
    return x.as_strided(like.shape, like.stride()) if same else x


def laid_alike(params: Sequence[Tensor], row: Sequence[Tensor]) -> bool:
    """Whether every tensor of a row has the strides and the type of its parameter."""
    return all(x.stride() == p.stride() and x.dtype == p.dtype for x, p in zip(row, params, strict=True))


def _dense(x: Tensor) -> bool:
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
