"""Which trained parameters the streams do not reach, and why: looked at once, said in words."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

CHECKPOINTED = "CheckpointFunctionBackward"  # torch.utils.checkpoint(use_reentrant=True) in a graph
REMEDY = (
    "stream_grads: the student recomputes activations by reentrant checkpointing, whose layers only loss.backward() "
    "reaches, so that no stream would train them; checkpoint with use_reentrant=False (of a Hugging Face model: "
    'gradient_checkpointing_kwargs={"use_reentrant": False})'
)
_seen = WeakTensorKeyDictionary()  # first trained parameters of students that were looked at
_held = WeakTensorKeyDictionary()  # first parameters of optimizers that were looked at


def said_of_checkpoints(error: RuntimeError) -> ValueError | None:
    """torch's refusal to differentiate through a reentrant checkpoint, with our remedy; ``None`` for other errors."""
    return ValueError(REMEDY) if "use_reentrant" in str(error) else None


def look_once(
    losses: Mapping[str, Tensor],
    given: nn.Module | Iterable[Tensor],
    parameters: Sequence[Tensor],
    found: Mapping[str, Sequence[Tensor | None]],
) -> None:
    """At the first step: refuse graphs that hide layers, and name the trained parameters that no stream reaches.

    Later steps are not looked at, so that a graph is walked once and a parameter named once.

    Args:
        losses: of every stream, with their graph.
        given: the student, which knows names; or its parameters.
        parameters: the parameters.
        found: gradients of every stream.

    Raises:
        ValueError: a part of the graph is checkpointed in the reentrant way.
    """
    trained = [p for p in parameters if p.requires_grad]
    if trained[0] in _seen:
        return
    if any(node.name() == CHECKPOINTED for node in _nodes(losses.values())):
        raise ValueError(REMEDY)
    _seen[trained[0]] = True
    if idle := [name for name, loss in losses.items() if not loss.requires_grad]:
        warnings.warn(
            f"stream_grads: the loss of {', '.join(map(repr, idle))} depends on no parameter, so it trains nothing; "
            f"was it detached, or computed under no_grad?",
            stacklevel=3,
        )
    columns = zip(parameters, zip(*found.values(), strict=True), strict=True)
    missed = [i for i, (p, grads) in enumerate(columns) if p.requires_grad and all(g is None for g in grads)]
    if missed:
        names = [name for name, _ in given.named_parameters()] if isinstance(given, nn.Module) else []
        told = [names[i] if names else f"number {i} of shape {list(parameters[i].shape)}" for i in missed[:5]]
        more = f" and {len(missed) - 5} more" if len(missed) > 5 else ""
        warnings.warn(
            f"stream_grads: {len(missed)} of {len(trained)} trained parameters are reached by no stream and stay as "
            f"they are ({', '.join(told)}{more}); freeze them if that is meant",
            stacklevel=3,
        )


def look_at_optimizer(who: str, own: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    """At the first gradients: name the optimizer's trained parameters that were not differentiated at all."""
    if own[0] in _held:
        return
    _held[own[0]] = True
    there = {id(p) for p in given}
    missing = [i for i, p in enumerate(own) if p.requires_grad and id(p) not in there]
    if missing:
        told = ", ".join(f"number {i} of shape {list(own[i].shape)}" for i in missing[:3])
        warnings.warn(
            f"{who}: {len(missing)} of {len(own)} parameters of the optimizer are not among those that stream_grads "
            f"was given, and stay as they are ({told}{', ...' if len(missing) > 3 else ''}); give stream_grads all of "
            f"them (a method's own, method.module.parameters(), too), and make the optimizer after layers are replaced",
            stacklevel=4,
        )


def _nodes(losses: Iterable[Tensor]) -> Iterator[Any]:
    """Every node of the graph behind some losses."""
    waiting: list[Any] = [loss.grad_fn for loss in losses if loss.grad_fn is not None]
    known = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        new = {following for following, _ in node.next_functions if following is not None} - known
        known |= new
        waiting.extend(new)
