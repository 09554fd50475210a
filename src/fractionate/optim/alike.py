"""Which tensors lie in memory alike, so that one kernel can read them all in a row; and which in each other's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .sharded import local

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


def apart(grads: Sequence[Tensor]) -> list[Tensor]:
    """The same gradients, each in memory of its own that can be written to; copies of those that are not, no others.

    Autograd gives one memory to all terms of a sum, such as a weight that is base + delta, and shows the one number of
    a sum's gradient many times.

    Example:
        >>> flat = torch.arange(4.0)
        >>> [x.data_ptr() == y.data_ptr() for x, y in zip(apart([flat[:2], flat[2:], flat[1:3]]), flat.split(2))]
        [True, True]
    """
    found, here = list(grads), local(grads)
    places = [(x.get_device(), x.data_ptr(), i) for i, x in enumerate(here) if x.layout is torch.strided]
    device, end = None, 0
    for where, start, i in sorted(place for place in places if place[1]):  # what has no memory has no place in it
        x = here[i]
        size = x.nbytes if x.is_contiguous() else _extent(x)
        if size and where == device and start < end:
            found[i] = _copied(found[i]) if x is found[i] else found[i].clone()
        elif size:
            device, end = where, start + size
        else:
            found[i] = found[i].clone()
    return found


def _extent(x: Tensor) -> int:
    """Bytes from the first to the last number; 0 if one is shown many times."""
    shown = [(n, step) for n, step in zip(x.shape, x.stride(), strict=True) if n > 1]
    return all(step for _, step in shown) * x.element_size() * (1 + sum((n - 1) * step for n, step in shown))


def _copied(x: Tensor) -> Tensor:
    """With the same strides, by which kernels are chosen; clone() closes gaps."""
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).copy_(x)


def _dense(x: Tensor) -> bool:
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
