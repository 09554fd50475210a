"""Which trained parameters stay as they are, and why: looked at once, said in words.

The streams do not reach them, nobody asked for their gradients, or no optimizer holds them.
"""

from __future__ import annotations

import operator
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.weak import WeakTensorKeyDictionary

CHECKPOINTED = "CheckpointFunctionBackward"  # torch.utils.checkpoint(use_reentrant=True) in a graph
REMEDY = (
    "stream_grads: the student recomputes activations by reentrant checkpointing, whose layers only loss.backward() "
    "reaches, so that no stream would train them; checkpoint with use_reentrant=False (of a Hugging Face model: "
    'gradient_checkpointing_kwargs={"use_reentrant": False})'
)
LEAF = "torch::autograd::AccumulateGrad"  # a trained tensor in a graph
_seen = WeakTensorKeyDictionary()  # first trained parameter of a student -> gaps in its gradients, ids of the unreached
optimizers: weakref.WeakSet[Optimizer] = weakref.WeakSet()  # of streams, where a parameter may be held


def said_of_checkpoints(error: RuntimeError) -> ValueError | None:
    """torch's refusal to differentiate through a reentrant checkpoint, with our remedy; ``None`` for other errors."""
    return ValueError(REMEDY) if "use_reentrant" in str(error) else None


def look_once(
    losses: Mapping[str, Tensor],
    given: nn.Module | Iterable[Tensor],
    parameters: Sequence[Tensor],
    found: Mapping[str, Sequence[Tensor | None]],
) -> None:
    """At the first step: refuse graphs that hide layers, and name the trained parameters that will not move.

    Those are the ones that no stream reaches, and those in the graph that were not given. Later a graph is walked only
    for a parameter that has lost its gradients, and once for each: reentrant checkpointing may have been switched on.

    Args:
        losses: of every stream, with their graph.
        given: the student, which knows names; or its parameters.
        parameters: the parameters.
        found: gradients of every stream.

    Raises:
        ValueError: a part of the graph is checkpointed in the reentrant way.
    """
    trained = [p for p in parameters if p.requires_grad]
    gaps = (len(trained), *[tuple(map(operator.is_, row, repeat(None))) for row in found.values()])
    before, known = _seen.get(trained[0], (None, None))
    if gaps == before:
        return  # nearly always
    columns = zip(parameters, zip(*found.values(), strict=True), strict=True)
    missed = [i for i, (p, grads) in enumerate(columns) if p.requires_grad and all(g is None for g in grads)]
    if known is not None and all(id(parameters[i]) in known for i in missed):
        _seen[trained[0]] = (gaps, known)
        return
    nodes = list(_nodes(losses.values()))
    if any(node.name() == CHECKPOINTED for node in nodes):
        raise ValueError(REMEDY)
    _seen[trained[0]] = (gaps, {*(known or ()), *(id(parameters[i]) for i in missed)})
    if known is None:
        _name_missed(losses, given, parameters, missed)
        _name_forgotten(nodes, parameters)


def _name_missed(
    losses: Mapping[str, Tensor], given: nn.Module | Iterable[Tensor], parameters: Sequence[Tensor], missed: list[int]
) -> None:
    if idle := [name for name, loss in losses.items() if not loss.requires_grad]:
        warnings.warn(
            f"stream_grads: the loss of {', '.join(map(repr, idle))} depends on no parameter, so it trains nothing; "
            f"was it detached, or computed under no_grad?",
            stacklevel=5,
        )
    if missed:
        names = [name for name, _ in given.named_parameters()] if isinstance(given, nn.Module) else []
        told = [names[i] if names else f"number {i} of shape {list(parameters[i].shape)}" for i in missed[:5]]
        more = f" and {len(missed) - 5} more" if len(missed) > 5 else ""
        warnings.warn(
            f"stream_grads: {len(missed)} of {sum(p.requires_grad for p in parameters)} trained parameters are reached "
            f"by no stream and stay as they are ({', '.join(told)}{more}); freeze them if that is meant",
            stacklevel=5,
        )


def _name_forgotten(nodes: Iterable[Any], parameters: Sequence[Tensor]) -> None:
    """Only what is declared as a parameter: images and embeddings that require a gradient are no weights."""
    there = {id(p) for p in parameters}
    leaves = {id(p): p for node in nodes if node.name() == LEAF for p in [node.variable] if isinstance(p, nn.Parameter)}
    if lost := [list(p.shape) for key, p in leaves.items() if key not in there]:
        told = f"{', '.join(map(str, lost[:3]))}{', ...' if lost[3:] else ''}"
        warnings.warn(
            f"stream_grads: {len(lost)} of {len(leaves)} parameters that the losses depend on were not given, and stay "
            f"as they are (of shape {told}); give the student's and a method's own (method.module.parameters()) to "
            f"stream_grads and to the optimizer, or freeze by requires_grad_(False) what shall stay",
            stacklevel=5,
        )


def look_at_strangers(who: str, parameters: Sequence[Tensor], streams: Mapping[str, Sequence[Tensor | None]]) -> None:
    """Name the parameters that were differentiated and that no stream optimizer holds, this one or another."""
    held = {id(p) for o in optimizers for group in getattr(o, "param_groups", ()) for p in group["params"]}
    columns = zip(parameters, zip(*streams.values(), strict=True), strict=True)
    there = [(i, p) for i, (p, grads) in enumerate(columns) if any(g is not None for g in grads)]
    if strange := [f"number {i} of shape {list(p.shape)}" for i, p in there if id(p) not in held]:
        warnings.warn(
            f"{who}: {len(strange)} of {len(there)} differentiated parameters are in no stream optimizer and stay as "
            f"they are ({', '.join(strange[:3])}{', ...' if strange[3:] else ''}); make the optimizer with them, or "
            f"add them (add_param_group), or freeze by requires_grad_(False) what shall stay",
            stacklevel=5,
        )


def look_at_optimizer(who: str, own: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    """At the first gradients: name the optimizer's trained parameters that were not differentiated at all."""
    there = {id(p) for p in given}
    missing = [i for i, p in enumerate(own) if p.requires_grad and id(p) not in there]
    if missing:
        told = ", ".join(f"number {i} of shape {list(own[i].shape)}" for i in missing[:3])
        warnings.warn(
            f"{who}: {len(missing)} of {len(own)} parameters of the optimizer are not among those that stream_grads "
            f"was given, and stay as they are ({told}{', ...' if len(missing) > 3 else ''}); give stream_grads all of "
            f"them (a method's own, method.module.parameters(), too), and make the optimizer after layers are replaced",
            stacklevel=5,
        )


def _nodes(losses: Iterable[Tensor]) -> Iterator[Any]:
    """Every node of the graph behind some losses."""
    waiting: list[Any] = [loss.grad_fn for loss in losses if loss.grad_fn is not None]
    known = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        new = [f for f in dict.fromkeys(f for f, _ in node.next_functions) if f is not None and f not in known]
        known.update(new)
        waiting.extend(new)
