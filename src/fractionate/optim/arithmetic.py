"""The arithmetic of a heavy-ball and of an AdamW move, in one pass over memory where torch has a kernel for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .alike import divided, fusible, laid_alike, relaid
from .sharded import local

PART = 65536  # entries of a row of tensors; six rows or so lie in the second cache of a processor


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
    parts = [(params, grads, buffers)]
    if not params[0].is_cpu:
        parts = divided(params, [relaid(g, p) for g, p in zip(grads, params, strict=True)], buffers)
    for p, g, b in parts:
        if fusible(p, g, b):
            torch._fused_sgd_(
                p,
                g,
                b,
                weight_decay=decay,
                momentum=momentum,
                lr=lr,
                dampening=dampening,
                nesterov=nesterov,
                maximize=False,
                is_first_step=first,
            )
        else:
            _foreach(p, g, b, lr, momentum, decay, dampening, nesterov, first)


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


@dataclass(frozen=True)
class AdamWMove:
    """The numbers of one AdamW move that hold for all its tensors.

    Args:
        lr: learning rate; a tensor is never read by the host.
        decays: b_c of every first moment.
        gains: factor on every first moment in the step.
        beta2: decay of the second moment.
        eps: added to its root, after the bias correction.
        weight_decay: lambda.
        count: t, steps including this one.
        clip_rms: bound on the root mean square of the update of every tensor, in units of ``lr``.
    """

    lr: float | Tensor
    decays: tuple[float, ...]
    gains: tuple[float, ...]
    beta2: float
    eps: float
    weight_decay: float
    count: int
    clip_rms: float | None = None


def adamw(
    params: Sequence[Tensor],
    grads: Sequence[Sequence[Tensor] | None],
    firsts: Sequence[Sequence[Tensor]],
    second: Sequence[Tensor],
    move: AdamWMove,
) -> None:
    """Every first moment takes its own gradients, the second their sum; theta moves by all of them, in place.

    Args:
        params: theta.
        grads: for every first moment the gradients, one per parameter; ``None`` is zero for all of them.
        firsts: m_c, laid out as ``params``.
        second: v, likewise.
        move: coefficients.
    """
    grads = [None if g is None else local(g, like=params) for g in grads]
    firsts, second, params = [local(m) for m in firsts], local(second), local(params)
    (only, *others), (first, *_) = grads, firsts
    rows = [second, *firsts, *(g for g in grads if g is not None)]
    alike = move.clip_rms is None and fusible(params, second, []) and all(laid_alike(params, row) for row in rows)
    if alike and only is not None and not others and move.gains == (1.0,):
        _fused_adamw(params, only, first, second, move)
        return
    for theta, v, *rest in _parts([params, *rows]) if alike and params[0].is_cpu else [[params, *rows]]:
        given = iter(rest[len(firsts) :])
        _foreach_adamw(theta, [None if g is None else next(given) for g in grads], rest[: len(firsts)], v, move)


def _parts(rows: list[Sequence[Tensor]]) -> Iterator[list[list[Tensor]]]:
    """Rows of tensors, equally laid out, in parts that stay in a processor's cache from the first pass to the last.

    torch._foreach fetches every tensor from memory once per pass, which is what large ones cost on a CPU. Large ones
    are cut, small ones put together.
    """
    part: list[list[Tensor]] = [[] for _ in rows]
    size = 0
    for column in zip(*rows, strict=True):
        n = column[0].numel()
        flat = column if n <= PART else [x.as_strided((n,), (1,)) for x in column]
        for start in range(0, max(n, 1), PART):
            if size and size + min(n - start, PART) > PART:
                yield part
                part, size = [[] for _ in rows], 0
            for row, x in zip(part, flat, strict=True):
                row.append(x[start : start + PART] if n > PART else x)
            size += min(n - start, PART)
    yield part


def _foreach_adamw(
    params: Sequence[Tensor],
    grads: Sequence[Sequence[Tensor] | None],
    firsts: Sequence[Sequence[Tensor]],
    second: Sequence[Tensor],
    move: AdamWMove,
) -> None:
    total: Sequence[Tensor] | None = None
    for b, m, g in zip(move.decays, firsts, grads, strict=True):
        if g is None:
            torch._foreach_mul_(list(m), b)
        else:
            torch._foreach_lerp_(list(m), list(g), 1 - b)
            total = g if total is None else torch._foreach_add(list(total), list(g))
    torch._foreach_mul_(list(second), move.beta2)
    if total is not None:
        torch._foreach_addcmul_(list(second), list(total), list(total), 1 - move.beta2)
    if move.weight_decay:
        torch._foreach_mul_(list(params), 1 - move.lr * move.weight_decay)
    _step(params, firsts, second, move)


def direction(firsts: Sequence[Sequence[Tensor]], second: Sequence[Tensor], move: AdamWMove) -> list[Tensor]:
    """u = sum_c gain_c m_c / (1 - b_c^t) / (sqrt(v) / sqrt(1 - beta2^t) + eps), clipped if so wanted."""
    denominator, factors = _denominator(second, move), _factors(move)
    found = torch._foreach_mul(list(firsts[0]), factors[0])
    for m, factor in zip(firsts[1:], factors[1:], strict=True):
        torch._foreach_add_(found, list(m), alpha=factor)
    torch._foreach_div_(found, denominator)
    if move.clip_rms is not None:
        norms = torch._foreach_norm(found)
        scales = [
            (move.clip_rms * max(u.numel(), 1) ** 0.5 / n).clamp(max=1) for u, n in zip(found, norms, strict=True)
        ]
        torch._foreach_mul_(found, scales)
    return list(found)


def _step(
    params: Sequence[Tensor], firsts: Sequence[Sequence[Tensor]], second: Sequence[Tensor], move: AdamWMove
) -> None:
    if isinstance(move.lr, Tensor):
        torch._foreach_sub_(list(params), torch._foreach_mul(direction(firsts, second, move), move.lr))
    elif move.clip_rms is not None:
        torch._foreach_add_(list(params), direction(firsts, second, move), alpha=-move.lr)
    else:
        denominator = _denominator(second, move)
        for m, factor in zip(firsts, _factors(move), strict=True):
            torch._foreach_addcdiv_(list(params), list(m), denominator, value=-move.lr * factor)


def _denominator(second: Sequence[Tensor], move: AdamWMove) -> list[Tensor]:
    """sqrt(v) + eps sqrt(1 - beta2^t): the root of the bias correction stands in :func:`_factors`, a pass saved."""
    root = torch._foreach_sqrt(list(second))
    torch._foreach_add_(root, move.eps * (1 - move.beta2**move.count) ** 0.5)
    return list(root)


def _factors(move: AdamWMove) -> list[float]:
    root = (1 - move.beta2**move.count) ** 0.5
    return [gain * root / (1 - b**move.count) for gain, b in zip(move.gains, move.decays, strict=True)]


def _fused_adamw(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    move: AdamWMove,
) -> None:
    count = torch.full((), float(move.count), device=params[0].device)
    torch._fused_adamw_(
        list(params),
        list(grads),
        list(first),
        list(second),
        [],
        [count] * len(params),
        lr=move.lr,
        beta1=move.decays[0],
        beta2=move.beta2,
        weight_decay=move.weight_decay,
        eps=move.eps,
        amsgrad=False,
        maximize=False,
    )
