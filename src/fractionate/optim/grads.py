"""Gradients of several losses over one graph, one backward pass per stream, and bounds on their norms."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from .._spoken import spoken
from .reach import look_once, said_of_checkpoints
from .sharded import harvest, is_sharded, refuse_fsdp1, whole

Grads = tuple[Tensor | None, ...]


class Reduce(Protocol):
    """What becomes of a stream's gradients while the next stream is differentiated; :class:`AllReduce` is one."""

    def start(self, stream: str, parameters: Sequence[Tensor], grads: Grads) -> Grads:
        """Begin with one stream; what comes back holds the outcome after :meth:`finish`."""

    def finish(self) -> None:
        """End what was begun."""


TINY = 1e-6  # as torch.nn.utils.clip_grad_norm_


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


@spoken
def stream_grads(
    losses: Mapping[str, Tensor],
    parameters: nn.Module | Iterable[Tensor],
    *,
    retain_graph: bool = False,
    onto: StreamGrads | None = None,
    reduce: Reduce | None = None,
) -> StreamGrads:
    """Differentiate every stream once; ``p.grad`` is neither read nor written.

    Sparse gradients (``nn.Embedding(sparse=True)``) become dense ones. At the first call for a student, warnings name
    the trained parameters that no stream reaches, and those that the losses depend on and that were not given.

    A student sharded by FSDP2 (``torch.distributed.fsdp.fully_shard``) reduces its gradients in ``loss.backward()``
    only: there every stream is one such pass, after which the shards are taken from ``p.grad``, which is left at
    ``None``.

    Args:
        losses: stream name -> scalar, from ``method.stream_losses``; they share one graph.
        parameters: the student, or its parameters. Frozen ones get ``None``, as do those a stream
            does not reach.
        retain_graph: keep the graph after the last stream too.
        onto: gradients of the same streams and parameters, in any order, from earlier parts of the batch, to which
            these are added; ``optimizer.release()`` is such.
        reduce: sums every stream over several processes, while the next one is differentiated.

    Returns:
        :class:`StreamGrads`, a mapping stream -> tuple of gradients.

    Raises:
        ValueError: a module wrapped in DistributedDataParallel (it reduces only the first of several
            backward passes; bare parameters of one cannot be recognised) or in FSDP1, one tensor in place of
            losses by name, a loss that is not a scalar, no stream that depends on any parameter, earlier gradients
            of other streams or parameters, or reentrant activation checkpointing, whose layers streams cannot reach.
            With sharded parameters: ``reduce``, parameters that are not sharded, or gradients that FSDP was told to
            keep.

    Example:
        >>> import torch, fractionate as fr
        >>> net = torch.nn.Linear(3, 5)
        >>> lg = fr.Logits(net(torch.ones(2, 3)), torch.zeros(2, 5), torch.tensor([0, 4]))
        >>> grads = fr.stream_grads(fr.methods.dot(fr.methods.kd()).stream_losses(lg), net)
        >>> {name: [tuple(g.shape) for g in gs] for name, gs in grads.items()}
        {'task': [(5, 3), (5,)], 'distillation': [(5, 3), (5,)]}
    """
    given = _given(parameters)
    sharded = is_sharded(given)
    params = _listed(given)
    _check_losses(losses, [p for p in params if p.requires_grad])
    _check_streams(onto, losses)
    if sharded and reduce is not None:
        raise ValueError(
            "stream_grads: reduce= was given with sharded parameters, whose gradients FSDP averages over the processes "
            "in every backward pass; leave reduce out"
        )
    take = harvest if sharded else _differentiated
    found: dict[str, Grads] = {}
    last = list(losses)[-1]
    for name, loss in losses.items():
        params, got = take(loss, given, retain_graph or name != last)
        grads = tuple(got) if onto is None else _sum(name, onto, tuple(got), params)
        found[name] = grads if reduce is None else reduce.start(name, params, grads)
    if reduce is not None:
        reduce.finish()
    if sharded:
        _check_arrived(found)
    else:
        look_once(losses, given, params, found)
    return StreamGrads(found, tuple(params))


def _differentiated(
    loss: Tensor, parameters: nn.Module | list[Tensor], keep: bool
) -> tuple[list[Tensor], list[Tensor | None]]:
    """The parameters, and the gradient of one loss for each of them."""
    params = _listed(parameters)
    if not loss.requires_grad:
        return params, [None] * len(params)
    trained = [p for p in params if p.requires_grad]
    try:
        got = torch.autograd.grad(loss, trained, retain_graph=keep, allow_unused=True)
    except RuntimeError as error:
        if said := said_of_checkpoints(error):
            raise said from error
        raise
    by_id = {id(p): None if g is None else dense(g) for p, g in zip(trained, got, strict=True)}
    return params, [by_id.get(id(p)) for p in params]


def dense(g: Tensor) -> Tensor:
    """A sparse gradient as an ordinary tensor, entries of one place added up."""
    return g if g.layout is torch.strided else g.to_dense()


def all_dense(grads: Iterable[Tensor]) -> list[Tensor]:
    """Those of a stream, each as :func:`dense` gives it."""
    return [dense(g) for g in grads]


def _sum(name: str, onto: StreamGrads, grads: Grads, params: list[Tensor]) -> Grads:
    """Earlier gradients of a stream plus these, parameter by parameter: an optimizer's groups have another order."""
    before = {id(p): g for p, g in zip(onto.parameters, onto[name], strict=True)}
    lacking = [
        i for i, (p, new) in enumerate(zip(params, grads, strict=True)) if id(p) not in before and new is not None
    ]
    if lacking:
        raise ValueError(
            f"stream_grads: onto lacks {len(lacking)} of the {len(params)} parameters, the first number {lacking[0]} "
            f"of shape {list(params[lacking[0]].shape)}; differentiate the same parameters in every part, and where "
            f"onto is optimizer.release(), make the optimizer with all of them"
        )
    found = [(before.pop(id(p), None), new) for p, new in zip(params, grads, strict=True)]
    if dropped := [g for g in before.values() if g is not None]:
        raise ValueError(
            f"stream_grads: onto has gradients of {len(dropped)} parameters that were not given, the first of shape "
            f"{list(dropped[0].shape)}; differentiate the same parameters in every part"
        )
    return tuple(new if old is None else old if new is None else old + new for old, new in found)


def _check_streams(onto: StreamGrads | None, losses: Mapping[str, Tensor]) -> None:
    if onto is not None and set(onto) != set(losses):
        raise ValueError(
            f"stream_grads: onto holds the streams {list(onto)}, and the losses are {list(losses)}; give the same "
            f"streams in every part"
        )


def _given(parameters: nn.Module | Iterable[Tensor]) -> nn.Module | list[Tensor]:
    """A module that can be differentiated several times, or its parameters, each once."""
    if isinstance(parameters, nn.parallel.DistributedDataParallel):
        raise ValueError(
            "stream_grads: the module is wrapped in DistributedDataParallel, which all-reduces only the first of "
            "several backward passes and would silently skip the others; pass the bare module (model.module) "
            "and let the streams be summed by reduce=fr.AllReduce()"
        )
    if isinstance(parameters, nn.Module):
        refuse_fsdp1(parameters)
        return parameters
    if isinstance(parameters, Tensor):
        raise ValueError("stream_grads: expected a module or an iterable of parameters, got a tensor")
    listed = list({id(p): p for p in parameters}.values())
    if any(not isinstance(p, Tensor) for p in listed):
        raise ValueError(
            f"stream_grads: expected a module or its parameters, got {type(listed[0]).__name__}s; give "
            f"student.parameters(), not named_parameters()"
        )
    return listed


def _listed(parameters: nn.Module | list[Tensor]) -> list[Tensor]:
    return list(parameters.parameters()) if isinstance(parameters, nn.Module) else parameters


def _check_losses(losses: Mapping[str, Tensor], trained: list[Tensor]) -> None:
    if not isinstance(losses, Mapping):
        raise ValueError(
            "stream_grads: expected losses by name, as method.stream_losses gives them, got "
            f"{type(losses).__name__}; a single loss is {{'loss': loss}}"
        )
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


def _check_arrived(found: Mapping[str, Grads]) -> None:
    if all(g is None for grads in found.values() for g in grads):
        raise ValueError(
            "stream_grads: no sharded parameter has got a gradient. If set_requires_gradient_sync(False) was called, "
            "FSDP adds up the gradients of all streams in one place: call it with True, and accumulate with onto="
        )


@spoken
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
    _check_bound(max_norm)
    return StreamGrads({name: _scaled(row, _factor(row, max_norm)) for name, row in grads.items()}, grads.parameters)


@spoken
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
    _check_bound(max_norm)
    per_parameter = [[g for g in gs if g is not None] for gs in zip(*grads.values(), strict=True)]
    factor = _factor([functools.reduce(torch.add, gs) for gs in per_parameter if gs], max_norm)
    return StreamGrads({name: _scaled(row, factor) for name, row in grads.items()}, grads.parameters)


def _check_bound(max_norm: float) -> None:
    if not max_norm > 0:
        raise ValueError(f"the largest norm of a gradient must be above 0, got {max_norm}")


def _factor(row: Sequence[Tensor | None], max_norm: float) -> Tensor | None:
    there = [g for g in row if g is not None]
    if not there:
        return None
    norm = whole(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(there))))  # over all shards
    return (max_norm / (norm + TINY)).clamp(max=1)


def _scaled(row: Grads, factor: Tensor | None) -> Grads:
    return row if factor is None else tuple(None if g is None else g * factor.to(g.dtype) for g in row)
