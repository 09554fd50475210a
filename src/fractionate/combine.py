"""Combine rules: the gradients of several streams as one, for any optimizer.

Every rule weighs the streams, d = sum_i w_i g_i, by the inner products of their gradients over all parameters. A stream
that misses a parameter is zero there; a parameter that no stream reaches stays ``None``. The products are taken in
float64 and looked at by the host once a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ._choices import unknown
from ._spoken import spoken
from .optim import StreamGrads
from .optim.alike import apart
from .optim.grads import Grads
from .optim.products import block, columns, first, log_scales, products, projection_weights, random_orders, shortest
from .optim.sharded import is_sharded

__all__ = ["Rule", "aggregated", "combined", "into_grad", "min_norm", "pcgrad", "total", "weights"]

Rule = Literal["total", "min_norm", "min_norm_log", "pcgrad"]
Streams = StreamGrads | Mapping[str, Sequence[Tensor | None]]
Losses = Mapping[str, Tensor | float]

STREAM = "loss"  # the single stream of a combined gradient, as optimizers with one momentum call it


@spoken
def total(grads: Streams) -> Grads:
    """The sum of all streams: what differentiating their summed loss gives.

    Args:
        grads: from ``stream_grads``; or a mapping from stream to one gradient, or ``None``, per parameter.

    Returns:
        One gradient, or ``None``, per parameter.

    Example:
        >>> total({"a": [torch.tensor([3.0, 0.0])], "b": [torch.tensor([0.0, 4.0])]})
        (tensor([3., 4.]),)
    """
    return summed_by(grads, weights(grads, "total"))


@spoken
def min_norm(grads: Streams, losses: Losses | None = None, log: bool = False) -> Grads:
    r"""The shortest vector among all weighted means of the streams: no stream's loss rises along it, to first order.

    w = argmin |sum_i w_i g_i|^2 over w_i >= 0, sum_i w_i = 1; for two streams, with products G,
    w_1 = clip((G_22 - G_12) / (G_11 + G_22 - 2 G_12), 0, 1). Then <d, g_i> >= |d|^2 for every i, with equality where
    w_i > 0. With ``log=True`` of the gradients of log L_i, g_i / L_i, so that a factor on a loss changes nothing
    (DTO-KD); the weights of the streams are then w_i / L_i. Streams without any gradient are left out; equal gradients
    share the weight.

    Args:
        grads: from ``stream_grads``, summed over processes if there are several.
        losses: value of every stream's loss, of the same rows as its gradient; read with ``log`` only, those below 1e-8
            as 1e-8.
        log: whether logarithms of the losses are differentiated.

    Returns:
        One gradient, or ``None``, per parameter.

    Raises:
        ValueError: a gradient that is not finite; with ``log``, losses that are missing or not above 0.

    Source: Desideri 2012 (the minimum-norm point, here exact, after Wolfe 1976, for any number of streams); logarithms
    as in DTO-KD (ICLR 2026, OpenReview QMItTyQW92).

    Example:
        >>> grads = {"a": [torch.tensor([2.0, 0.0])], "b": [torch.tensor([0.0, 1.0])]}
        >>> [round(x, 3) for x in min_norm(grads)[0].tolist()]
        [0.4, 0.8]
        >>> [round(x, 3) for x in min_norm(grads, {"a": 2.0, "b": 1.0}, log=True)[0].tolist()]
        [0.5, 0.5]
    """
    return summed_by(grads, weights(grads, "min_norm_log" if log else "min_norm", losses))


@spoken
def pcgrad(grads: Streams, seed: int | None = None) -> Grads:
    """Every stream without its part against the others, one after the other in a random order; then the sum.

    v_i = g_i; for j != i in a random order: if <v_i, g_j> < 0: v_i <- v_i - <v_i, g_j> / |g_j|^2 g_j; d = sum_i v_i.
    Streams that do not conflict give their sum; with one or two there is only one order.

    Args:
        grads: from ``stream_grads``, summed over processes if there are several.
        seed: of the orders; several processes have to give the same one, the number of the step, say. By default they
            are drawn by torch's generator.

    Returns:
        One gradient, or ``None``, per parameter.

    Raises:
        ValueError: a gradient that is not finite.

    Source: arXiv 2001.06782; the sum, not the mean, of the projections.

    Example:
        >>> pcgrad({"a": [torch.tensor([1.0, 0.0])], "b": [torch.tensor([-1.0, 1.0])]})
        (tensor([0.5000, 1.5000]),)
    """
    return summed_by(grads, weights(grads, "pcgrad", seed=seed))


@spoken
def aggregated(grads: Streams, aggregator: Callable[[Tensor], Tensor]) -> Grads:
    """The streams as rows of a matrix, put together by a function of it: an aggregator of TorchJD, say.

    Args:
        grads: from ``stream_grads``, whole on this process.
        aggregator: ``[streams, numbers]`` -> ``[numbers]``; the columns are all numbers of the parameters that a stream
            reaches.

    Returns:
        One gradient, or ``None``, per parameter.

    Raises:
        ValueError: gradients in shards.

    Example:
        >>> aggregated({"a": [torch.tensor([1.0])], "b": [torch.tensor([3.0])]}, lambda matrix: matrix.mean(0))
        (tensor([2.]),)
    """
    rows = columns(grads)
    if is_sharded([g for column in rows for g in column if g is not None]):
        raise ValueError("combine.aggregated: an aggregator needs whole gradients, and these are in shards")
    there = [x for column in rows if (x := block(column)) is not None]
    if not there:
        return tuple(None for _ in rows)
    found = iter(aggregator(torch.cat(there, 1)).split([x.shape[1] for x in there]))
    return tuple(
        None if (like := first(column)) is None else next(found).view(like.shape).to(like.dtype) for column in rows
    )


@spoken
def combined(grads: StreamGrads, rule: Rule, losses: Losses | None = None, *, seed: int | None = None) -> StreamGrads:
    """One gradient by the name of a rule, as the single stream ``loss`` of ``StreamSGD`` and ``StreamAdamW``.

    Args:
        grads: from ``stream_grads``, summed over processes if there are several.
        rule: ``"total"``, ``"min_norm"``, ``"min_norm_log"`` or ``"pcgrad"``.
        losses: for ``"min_norm_log"``.
        seed: for ``"pcgrad"``.

    Raises:
        ValueError: as in the function of that rule.

    Example:
        >>> import fractionate as fr
        >>> net, method = torch.nn.Linear(3, 5), fr.methods.dot(fr.methods.kd())
        >>> lg = fr.Logits(net(torch.ones(2, 3)), torch.zeros(2, 5), torch.tensor([0, 4]))
        >>> losses = method.stream_losses(lg)
        >>> optimizer = fr.StreamSGD(net.parameters(), lr=0.1, momentum=0.9)
        >>> optimizer.step(combined(fr.stream_grads(losses, net), "min_norm_log", losses))
    """
    return StreamGrads({STREAM: summed_by(grads, weights(grads, rule, losses, seed=seed))}, grads.parameters)


@spoken
def weights(grads: Streams, rule: Rule, losses: Losses | None = None, *, seed: int | None = None) -> dict[str, float]:
    """The factor of every stream in the combined gradient: what to watch.

    Args:
        grads, rule, losses, seed: as in :func:`combined`.

    Raises:
        ValueError: as in the function of that rule, or no stream.

    Example:
        >>> weights({"a": [torch.tensor([2.0])], "b": [torch.tensor([-1.0])]}, "total")
        {'a': 1.0, 'b': 1.0}
    """
    if rule not in get_args(Rule):
        raise ValueError(f"combine: {unknown('rule', rule, get_args(Rule))}")
    if not grads:
        raise ValueError("combine: there is no stream whose gradient could be taken")
    if rule == "total":
        return dict.fromkeys(grads, 1.0)
    found = products(grads)
    if rule == "pcgrad":
        return dict(zip(grads, projection_weights(found, random_orders(len(grads), seed)), strict=True))
    scales = log_scales(grads, losses) if rule == "min_norm_log" else [1.0] * len(grads)
    by = torch.tensor(scales, dtype=torch.float64)
    shares = shortest(found * by * by[:, None])
    return {name: share * scale for name, share, scale in zip(grads, shares, scales, strict=True)}


@spoken
def into_grad(params: nn.Module | Iterable[Tensor], gradient: Iterable[Tensor | None]) -> None:
    """Write a combined gradient to ``p.grad``, where any torch optimizer, clipping and gradient scaler look for it.

    Gradients that lie in each other's memory are copied, as those tools write to it.

    Args:
        params: the student, or its parameters, as given to ``stream_grads``.
        gradient: one per parameter; ``None`` stays ``None``.

    Raises:
        ValueError: another number of gradients, or one of another shape than its parameter.

    Example:
        >>> net = torch.nn.Linear(1, 1, bias=False)
        >>> into_grad(net, total({"a": [torch.ones(1, 1)], "b": [torch.ones(1, 1)]}))
        >>> net.weight.grad.item()
        2.0
    """
    listed = list(params.parameters() if isinstance(params, nn.Module) else params)
    given = list(gradient)
    if len(given) != len(listed):
        raise ValueError(f"into_grad: got {len(given)} gradients for {len(listed)} parameters")
    for p, g in zip(listed, given, strict=True):
        if g is not None and g.shape != p.shape:
            raise ValueError(f"into_grad: a gradient of shape {list(g.shape)} for a parameter of {list(p.shape)}")
    typed = [(p, g.to(p.dtype)) for p, g in zip(listed, given, strict=True) if g is not None]
    found = dict(zip([id(p) for p, _ in typed], apart([g for _, g in typed]), strict=True))
    for p in listed:
        p.grad = found.get(id(p))


@torch.no_grad()
def summed_by(grads: Streams, factors: Mapping[str, float]) -> Grads:
    """sum_i w_i g_i per parameter."""
    found: list[Tensor | None] = []
    for column in columns(grads):
        summed: Tensor | None = None
        borrowed = False  # whether it is a stream's own memory
        for g, w in zip(column, factors.values(), strict=True):
            if g is None:
                continue
            if summed is None:
                summed, borrowed = (g, True) if w == 1 else (g * w, False)
            else:
                summed = torch.add(summed, g, alpha=w) if borrowed else summed.add_(g, alpha=w)
                borrowed = False
        found.append(summed)
    return tuple(found)
