"""Losses of logits that are a linear map of hidden states, without ever holding all logits.

A language model's logits, [tokens, vocabulary], are its largest tensor by far. Here a chunk of tokens is taken at a
time: logits, loss, gradient of the logits, and from it at once the gradients of hidden states, matrix and bias; then
the chunk's logits are gone. The backward pass only multiplies what was kept by the gradient that arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._typing import Float, Int

ChunkLoss = Callable[[Tensor, Tensor], Mapping[str, Tensor]]


def linear_sums(
    loss: ChunkLoss,
    names: Sequence[str],
    hidden: Float[Tensor, "n d"],
    weight: Float[Tensor, "c d"],
    bias: Float[Tensor, " c"] | None,
    rows: Int[Tensor, " m"],
    chunk: int,
) -> dict[str, Float[Tensor, ""]]:
    """Sums over rows of losses of ``hidden @ weight.T + bias``, differentiable once in all three.

    For s losses, kept until the backward pass: s gradients [n, d], s gradients [c, d] (and [c]), all in float32
    (float64 stays) because they are sums over chunks that still have to be scaled. Never kept: anything [n, c]; the
    largest temporaries are those of ``loss`` on [chunk, c].

    Args:
        loss: (logits ``[m', c]``, rows ``[m']``) -> scalar sums over those rows by name; must be additive over rows.
        names: the names that ``loss`` returns.
        hidden: ``[n, d]``; logits are computed in its dtype, as ``torch.nn.functional.linear`` does (autocast too).
        weight: ``[c, d]`` output matrix.
        bias: ``[c]`` or ``None``.
        rows: ``[m]`` the rows that count.
        chunk: rows per chunk.

    Returns:
        name -> scalar.

    Raises:
        RuntimeError: in the backward pass, if a graph of the gradient is asked for (``create_graph=True``).

    Example:
        >>> h, w = torch.ones(3, 2, requires_grad=True), torch.eye(2)
        >>> sums = linear_sums(lambda z, _: {"sum": z.sum()}, ["sum"], h, w, None, torch.arange(2), 1)
        >>> sums["sum"].backward()
        >>> h.grad.tolist()
        [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    """
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"chunk must be a number of tokens of at least 1, got {chunk!r}")
    sources = (hidden, weight, bias)
    wanted = tuple(torch.is_grad_enabled() and x is not None and x.requires_grad for x in sources)
    values = _LinearSums.apply(*sources, (loss, tuple(names), rows, chunk, wanted))
    return dict(zip(names, values, strict=True))


class _LinearSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, plan: Any) -> tuple[Tensor, ...]:
        loss, names, rows, chunk, wanted = plan
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        sums = [_Sums((hidden, weight, bias), wanted, wide) for _ in names]
        for part in rows.split(chunk):
            _add_chunk(sums, loss, names, (hidden[part], weight, bias), part)
        kept = [x for s in sums for x in s.grads]
        ctx.save_for_backward(*kept)
        ctx.dtypes = [None if x is None else x.dtype for x in (hidden, weight, bias)]
        ctx.set_materialize_grads(False)
        return tuple(s.value for s in sums)

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor | None) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "linear loss: create_graph=True asks for a graph of the gradient, but the gradient was computed in the "
                "forward pass and has none; use method.loss(fr.rows.tokens(logits, ...)) to differentiate twice"
            )
        kept = [ctx.saved_tensors[i : i + 3] for i in range(0, len(ctx.saved_tensors), 3)]
        pairs = [(g, x) for g, x in zip(arriving, kept, strict=True) if g is not None]
        return *(_combined([(g, x[i]) for g, x in pairs], dtype) for i, dtype in enumerate(ctx.dtypes)), None


class _Sums:
    """One loss and its gradients by hidden states, matrix and bias, summed over chunks; ``None`` where not wanted."""

    def __init__(self, sources: Sequence[Tensor | None], wanted: Sequence[bool], wide: torch.dtype) -> None:
        pairs = zip(sources, wanted, strict=True)
        self.grads = [torch.zeros_like(x, dtype=wide) if x is not None and want else None for x, want in pairs]
        self.value = torch.zeros((), dtype=wide, device=next(x.device for x in sources if x is not None))

    @property
    def wanted(self) -> bool:
        """Whether any gradient is."""
        return any(x is not None for x in self.grads)

    def add(self, grad: Tensor, rows: Tensor, h: Tensor, weight: Tensor) -> None:
        """Add a chunk: ``grad`` [m, c] by the logits of ``rows``, whose hidden states are ``h`` [m, d]."""
        by_hidden, by_weight, by_bias = self.grads
        if by_hidden is not None:
            by_hidden[rows] = (grad @ weight).to(by_hidden.dtype)
        if by_weight is not None:
            if by_weight.dtype == grad.dtype == h.dtype:
                by_weight.addmm_(grad.T, h)
            else:
                by_weight += grad.T @ h
        if by_bias is not None:
            by_bias += grad.sum(0, dtype=by_bias.dtype)


def _add_chunk(
    sums: Sequence[_Sums],
    loss: ChunkLoss,
    names: Sequence[str],
    sources: tuple[Tensor, Tensor, Tensor | None],
    rows: Tensor,
) -> None:
    """Add one chunk to every loss. A function of its own, so that nothing of a chunk outlives it."""
    graph = any(s.wanted for s in sums)
    logits = F.linear(*sources).requires_grad_(graph)
    with torch.set_grad_enabled(graph):
        losses = loss(logits, rows)
    for i, (name, total) in enumerate(zip(names, sums, strict=True)):
        total.value += losses[name].detach()
        if losses[name].requires_grad:
            (grad,) = torch.autograd.grad(losses[name], logits, retain_graph=i + 1 < len(names))
            total.add(grad, rows, *sources[:2])


def _combined(pairs: Sequence[tuple[Tensor, Tensor | None]], dtype: torch.dtype | None) -> Tensor | None:
    """Sum of scalar * gradient, written in the dtype of the source."""
    total = None
    for scalar, grad in pairs:
        if grad is None:
            continue
        scaled = torch.mul(grad, scalar, out=torch.empty_like(grad, dtype=dtype))
        total = scaled if total is None else total.add_(scaled)
    return total
