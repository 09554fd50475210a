"""Gradients of several losses over one graph: one backward pass per stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .reduce import AllReduce

Grads = tuple[Tensor | None, ...]


@dataclass(frozen=True, eq=False)
class StreamGrads(Mapping[str, Grads]):
    """Gradients per stream: a mapping from stream name to one gradient (or ``None``) per parameter.

    Args:
        streams: stream name -> gradients, in the order of ``parameters``.
        parameters: the parameters they belong to; optimizers align by identity, not by position.
    """

    streams: Mapping[str, Grads]
    parameters: tuple[Tensor, ...]

    def __getitem__(self, stream: str) -> Grads:
        return self.streams[stream]

    def __iter__(self) -> Iterator[str]:
        return iter(self.streams)

    def __len__(self) -> int:
        return len(self.streams)


def stream_grads(
    losses: Mapping[str, Tensor],
    parameters: nn.Module | Iterable[Tensor],
    *,
    retain_graph: bool = False,
    onto: StreamGrads | None = None,
    reduce: AllReduce | None = None,
) -> StreamGrads:
    """Differentiate every stream once; ``p.grad`` is neither read nor written.

    Args:
        losses: stream name -> scalar, from ``method.stream_losses``; they share one graph.
        parameters: the student, or its parameters. Frozen ones get ``None``, as do those a stream
            does not reach.
        retain_graph: keep the graph after the last stream too.
        onto: gradients of the same streams from earlier parts of the batch, to which these are added.
        reduce: sums every stream over several processes, while the next one is differentiated.

    Returns:
        :class:`StreamGrads`, a mapping stream -> tuple of gradients.

    Raises:
        ValueError: a module wrapped in DistributedDataParallel (it reduces only the first of several
            backward passes; bare parameters of one cannot be recognised), a loss that is not a scalar,
            no stream that depends on any parameter, or earlier gradients of other streams.

    Example:
        >>> import torch, fractionate as fr
        >>> net = torch.nn.Linear(3, 5)
        >>> lg = fr.Logits(net(torch.ones(2, 3)), torch.zeros(2, 5), torch.tensor([0, 4]))
        >>> grads = fr.stream_grads(fr.methods.dot(fr.methods.kd()).stream_losses(lg), net)
        >>> {name: [tuple(g.shape) for g in gs] for name, gs in grads.items()}
        {'task': [(5, 3), (5,)], 'distillation': [(5, 3), (5,)]}
    """
    params = _parameters(parameters)
    trained = [p for p in params if p.requires_grad]
    _check_losses(losses, trained)
    found: dict[str, Grads] = {}
    last = list(losses)[-1]
    for name, loss in losses.items():
        got: Iterable[Tensor | None] = (None,) * len(trained)
        if loss.requires_grad:
            keep = retain_graph or name != last
            got = torch.autograd.grad(loss, trained, retain_graph=keep, allow_unused=True)
        by_id = {id(p): g for p, g in zip(trained, got, strict=True)}
        grads = tuple(by_id.get(id(p)) for p in params)
        if onto is not None:
            grads = _sum(name, onto, grads, params)
        found[name] = grads if reduce is None else reduce.start(name, params, grads)
    if reduce is not None:
        reduce.finish()
    return StreamGrads(found, tuple(params))


def _sum(name: str, onto: StreamGrads, grads: Grads, params: list[Tensor]) -> Grads:
    """Earlier gradients of a stream plus these."""
    if name not in onto or len(onto.parameters) != len(params):
        raise ValueError(
            f"stream_grads: onto holds the streams {list(onto)} of {len(onto.parameters)} parameters, which are not "
            f"those of stream {name!r} ({len(params)} parameters)"
        )
    pairs = zip(onto[name], grads, strict=True)
    return tuple(new if old is None else old if new is None else old + new for old, new in pairs)


def _parameters(parameters: nn.Module | Iterable[Tensor]) -> list[Tensor]:
    if isinstance(parameters, nn.parallel.DistributedDataParallel):
        raise ValueError(
            "stream_grads: the module is wrapped in DistributedDataParallel, which all-reduces only the first of "
            "several backward passes and would silently skip the others; pass the bare module (model.module) "
            "and reduce the stream gradients yourself"
        )
    if isinstance(parameters, nn.Module):
        return list(parameters.parameters())
    if isinstance(parameters, Tensor):
        raise ValueError("stream_grads: expected a module or an iterable of parameters, got a tensor")
    return list({id(p): p for p in parameters}.values())


def _check_losses(losses: Mapping[str, Tensor], trained: list[Tensor]) -> None:
    if not losses or not trained:
        raise ValueError(
            f"stream_grads: needs at least one loss and one parameter that requires a gradient, got "
            f"{len(losses)} losses and {len(trained)} such parameters"
        )
    for name, loss in losses.items():
        if loss.ndim:
            raise ValueError(f"stream_grads: loss {name!r} must be a scalar, got {list(loss.shape)}")
    if not any(loss.requires_grad for loss in losses.values()):
        raise ValueError(
            "stream_grads: no loss depends on the parameters; were the student's logits computed under no_grad?"
        )
