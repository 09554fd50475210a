"""The arithmetic of one heavy-ball move, in one pass over memory where torch has a kernel for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .sharded import local

FUSED_ON = ("cpu", "cuda")  # devices with torch._fused_sgd_, the kernel of torch.optim.SGD(fused=True)


def heavy_ball(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    buffers: Sequence[Tensor],
    *,
    lr: float | Tensor,
    momentum: float,
    decay: float,
    dampening: float,
    nesterov: bool,
    first: bool,
) -> None:
    """V <- m V + (1 - dampening) (g + decay theta), at first V := g + decay theta; theta <- theta - lr V, in place.

    Args:
        params: theta.
        grads: g, left as they are.
        buffers: V, laid out as ``params``; empty if ``momentum`` is 0, which is a plain gradient step.
        lr: learning rate; a float32 scalar tensor on the device of ``params`` is never read by the host.
        momentum: m.
        decay: factor on theta in the gradient.
        dampening: share of the gradient kept out of the buffer.
        nesterov: move by g + decay theta + m V instead of V.
        first: whether the buffers are empty; what they hold is ignored then.
    """
    grads, buffers, params = local(grads, like=params), local(buffers), local(params)
    if not _fusible(params, grads, buffers):
        _foreach(params, grads, buffers, lr, momentum, decay, dampening, nesterov, first)
        return
    torch._fused_sgd_(
        list(params),
        list(grads),
        list(buffers),
        weight_decay=decay,
        momentum=momentum,
        lr=lr,
        dampening=dampening,
        nesterov=nesterov,
        maximize=False,
        is_first_step=first,
    )


def _fusible(params: Sequence[Tensor], grads: Sequence[Tensor], buffers: Sequence[Tensor]) -> bool:
    """Whether the kernel, which reads memory in a row and knows neither strides nor mixed types, fits all tensors."""
    like = params[0]
    if like.device.type not in FUSED_ON or not like.is_floating_point():
        return False
    return (
        all(p.dtype == like.dtype and p.device == like.device and _dense(p) for p in params)
        and all(g.stride() == p.stride() and g.dtype == p.dtype for g, p in zip(grads, params, strict=True))
        and (not buffers or all(b.stride() == p.stride() for b, p in zip(buffers, params, strict=True)))
    )


def _dense(x: Tensor) -> bool:
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)


def _foreach(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    buffers: Sequence[Tensor],
    lr: float | Tensor,
    momentum: float,
    decay: float,
    dampening: float,
    nesterov: bool,
    first: bool,
) -> None:
    """The same by the torch._foreach calls that torch's own optimizers are made of."""
    step: Sequence[Tensor] = torch._foreach_add(list(grads), list(params), alpha=decay) if decay else grads
    if momentum:
        if first:
            torch._foreach_copy_(list(buffers), list(step))
        else:
            torch._foreach_mul_(list(buffers), momentum)
            torch._foreach_add_(list(buffers), list(step), alpha=1 - dampening)
        step = torch._foreach_add(list(step), list(buffers), alpha=momentum) if nesterov else buffers
    if isinstance(lr, Tensor):
        torch._foreach_sub_(list(params), torch._foreach_mul(list(step), lr))
    else:
        torch._foreach_add_(list(params), list(step), alpha=-lr)
