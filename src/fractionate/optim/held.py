"""What stream optimizers have in common: gradients found by identity, kept for a later step, and unscaled."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .._choices import unknown
from .._spoken import spoken
from .alike import apart
from .grads import Grads, StreamGrads, all_dense
from .momenta import Momenta
from .reach import look_at_optimizer, look_at_strangers, optimizers
from .sharded import local

Groups = Sequence[Mapping[str, Any]]
Given = StreamGrads | Mapping[str, Any] | Callable[[], Any] | None  # of a step; a callable is torch's closure
LARGEST = torch.finfo(torch.float32).max
Rows = dict[str, dict[int, Tensor]]  # stream -> place in the optimizer's list of parameters -> gradient


class StreamOptimizer(Protocol):
    """What a training loop may rely on: :class:`StreamSGD` and :class:`StreamAdamW` are such."""

    momenta: Momenta

    @property
    def merges_exactly(self) -> bool:
        """Whether streams of equal coefficient may be merged before they are differentiated, for the same steps."""

    def hold(self, grads: StreamGrads | Mapping[str, Any]) -> None:
        """Keep gradients for a ``step()`` that is called without any."""

    def step(self, grads: StreamGrads | Mapping[str, Any] | None = None) -> Any:
        """Move the weights by the gradients given, or by those held."""


class Held:
    """Gradients that wait for a step; an object of its own, so that wrappers which copy attributes share it."""

    looked = False  # whether p.grad was looked at, once
    compared = False  # whether its parameters were compared with those that were differentiated, once
    said = False  # that gradients were given which belong to no optimizer
    unscaled = False  # whether unscale has seen the gradients of the step to come

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.rows: Rows = {}
        optimizers.add(optimizer)  # which is not kept here: copies have another

    def add(self, who: str, rows: Rows) -> None:
        """Add gradients to those held, as ``loss.backward()`` adds to ``p.grad``.

        Raises:
            ValueError: they lie in the memory of those held, which they have overwritten.
        """
        for stream, row in rows.items():
            mine = self.rows.setdefault(stream, {})
            for place, g in row.items():
                old = mine.get(place)
                if old is not None and _same_memory(old, g):
                    raise ValueError(
                        f"{who}.hold: stream {stream!r} lies in the memory of the gradients held before, which "
                        f"AllReduce uses again; accumulate with stream_grads(..., onto=optimizer.release()) and reduce "
                        f"with the last part only"
                    )
                mine[place] = g if old is None else old + g

    def take(self, who: str, rows: Rows | None) -> Rows:
        """The gradients of a step: those given, or those held, which are then held no longer.

        Raises:
            ValueError: there are none, or both.
        """
        if rows is not None and self.rows:
            raise ValueError(
                f"{who}.step: got gradients while others are held; call step() without any, or zero_grad() first"
            )
        if rows is None and not self.rows:
            raise ValueError(
                f"{who}.step: no gradients were given and none are held; call step(stream_grads(losses, student)), or "
                f"hold(...) before a loop calls step() itself. What loss.backward() leaves in p.grad is not read"
            )
        found = self.rows if rows is None else rows
        self.rows = {}
        return found

    def compare(self, who: str, own: Sequence[Tensor], grads: StreamGrads, strange: bool) -> None:
        """Say once which parameters were not differentiated, and once which are not an optimizer's, if some are."""
        if not self.compared:
            self.compared = True
            look_at_optimizer(who, own, grads.parameters)
        if strange and not self.said:
            self.said = True
            look_at_strangers(who, grads.parameters, grads.streams)

    def warn_of_grad(self, who: str, groups: Groups) -> None:
        """Say at the first step that ``p.grad`` holds gradients which nobody reads, clipped or not."""
        if self.looked:
            return
        self.looked = True
        if count := sum(p.grad is not None for p in parameters(groups)):
            warnings.warn(
                f"{who}.step: {count} parameters hold gradients in p.grad, which streams do not read: what "
                f"loss.backward() and clip_grad_norm_ did has no effect; give stream_grads(losses, student) alone, and "
                f"bound them by optim.clip_total(grads, max_norm)",
                stacklevel=4,
            )

    def known_to_a_scaler(self, who: str) -> bool:
        """What a gradient scaler asks before it steps: ``False``, as it has been told by :func:`unscale` what to do.

        Raises:
            ValueError: it was told nothing; it looks at p.grad alone, and would fail in words that name no streams.
        """
        if not self.unscaled:
            raise ValueError(
                f"{who}: a GradScaler looks for gradients in p.grad and sees no streams; write grads = "
                f"fr.optim.unscale(grads, scaler, optimizer), optimizer.hold(grads), scaler.step(optimizer)"
            )
        self.unscaled = False
        return False

    def release(self, groups: Groups) -> StreamGrads | None:
        """What is held, by stream and parameter, and then no longer held."""
        own, rows = tuple(parameters(groups)), self.rows
        self.rows = {}
        if not rows:
            return None
        return StreamGrads({name: tuple(row.get(i) for i in range(len(own))) for name, row in rows.items()}, own)


def closure_of(grads: Any, closure: Callable[[], Any] | None) -> tuple[StreamGrads | Mapping[str, Any] | None, Any]:
    """Gradients and the loss, after a closure that holds gradients was called as torch's optimizers do."""
    if closure is None and callable(grads):
        grads, closure = None, grads
    if closure is None:
        return grads, None
    with torch.enable_grad():
        return grads, closure()


def parameters(groups: Groups) -> list[Tensor]:
    """Those of all groups, in order."""
    return [p for group in groups for p in group["params"]]


def aligned(who: str, held: Held, momenta: Momenta, groups: Groups, grads: StreamGrads | Mapping[str, Any]) -> Rows:
    """Gradients of every stream by the place of their parameter, dense and without history.

    Raises:
        ValueError: an unknown stream, gradients of other parameters, or not as many as parameters.
    """
    if not isinstance(grads, Mapping):
        raise ValueError(f"{who}: expected gradients by stream, as stream_grads gives them, got {type(grads).__name__}")
    own = parameters(groups)
    streams, given = (grads.streams, grads.parameters) if isinstance(grads, StreamGrads) else (grads, own)
    for name in streams:
        if name not in momenta.coefficients:
            raise ValueError(f"{who}.step: {unknown('stream', name, momenta)}")
    place = {id(p): i for i, p in enumerate(own)}
    if not any(id(p) in place for p in given):
        raise ValueError(
            f"{who}.step: the gradients belong to none of the optimizer's parameters; "
            "was the model copied after the optimizer was made?"
        )
    rows, strange = {}, False
    for name, row in streams.items():
        pairs = _pairs(who, name, row, given)
        rows[name] = {place[id(p)]: g for p, g in pairs if id(p) in place}
        strange = strange or len(rows[name]) < len(pairs)
    if isinstance(grads, StreamGrads):
        held.compare(who, own, grads, strange)
    return rows


def checked_params(who: str, params: Any) -> Any:
    """Parameters, or groups of them, as they were given.

    Raises:
        ValueError: a network, one tensor or a state dict in their place.
    """
    if isinstance(params, torch.nn.Module | Tensor | Mapping):
        raise ValueError(
            f"{who}: params must be parameters or groups of them, such as net.parameters(), got {type(params).__name__}"
        )
    return params


def refuse_group_momentum(who: str, option: str, group: Mapping[str, Any]) -> None:
    """Refuse a coefficient in a parameter group, which nothing would read.

    Raises:
        ValueError: naming the option, and the schedulers that write it.
    """
    if name := next((n for n in ("momentum", "betas") if n in group), None):
        raise ValueError(
            f"{who}: momentum belongs to the streams and is the same for all parameters; remove {name!r} from the "
            f"parameter group and give {who}(..., {option}=...); schedulers that cycle it take cycle_momentum=False"
        )


def check_numbers(who: str, group: Mapping[str, Any], names: Sequence[str]) -> None:
    """Options of a parameter group that are not negative and that float32 holds.

    Raises:
        ValueError: naming the first that is not so.
    """
    for name in names:
        if not group[name] >= 0:
            raise ValueError(f"{who}: {name} must not be negative, got {group[name]}")
        if group[name] > LARGEST:
            raise ValueError(f"{who}: {name} must be at most {LARGEST:.3g}, which float32 holds, got {group[name]:g}")


@spoken
def unscale(grads: StreamGrads, scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> StreamGrads:
    """Divide streams by a gradient scaler's factor, and tell it whether all of them are finite.

    ``scaler.step(optimizer)`` then leaves the step out if they are not, and ``scaler.update()`` adapts the factor, as
    after ``scaler.unscale_`` of ordinary gradients. Once per step, before clipping.

    Args:
        grads: streams of losses that went through ``scaler.scale``; changed in place.
        scaler: ``torch.amp.GradScaler``; one that is switched off changes nothing.
        optimizer: the one that is going to step.

    Returns:
        The same streams, unscaled.

    Example:
        >>> import fractionate as fr
        >>> net, scaler = torch.nn.Linear(1, 1, bias=False), torch.amp.GradScaler("cpu", init_scale=8.0)
        >>> optimizer = fr.StreamSGD(net.parameters(), lr=1.0)
        >>> losses = {"loss": scaler.scale(net(torch.ones(1, 1)).sum())}
        >>> grads = fr.optim.unscale(fr.stream_grads(losses, net), scaler, optimizer)
        >>> grads["loss"][0].item()
        1.0
        >>> optimizer.hold(grads)
        >>> scaler.step(optimizer)
        >>> scaler.update()
    """
    given = {id(g): g for row in grads.values() for g in row if g is not None}  # parameters may share one
    once = dict(zip(given, apart(list(given.values())), strict=True))
    carriers = [_carrier(g) for g in once.values()]
    groups = optimizer.param_groups
    optimizer.param_groups = [{"params": carriers}]  # the scaler reads .grad of these, and files what it finds
    try:
        scaler.unscale_(optimizer)
    finally:
        optimizer.param_groups = groups
    if isinstance(held := getattr(optimizer, "_held", None), Held):
        held.unscaled = True
    if all(g is given[key] for key, g in once.items()):
        return grads
    found = {name: tuple([None if g is None else once[id(g)] for g in row]) for name, row in grads.items()}
    return StreamGrads(found, grads.parameters)


def _same_memory(a: Tensor, b: Tensor) -> bool:
    one, two = (x.data_ptr() for x in local([a, b]))
    return one == two != 0


def _carrier(g: Tensor) -> Tensor:
    carrier = g.detach()
    carrier.grad = g
    return carrier


def _pairs(
    who: str, stream: str, grads: Grads | Sequence[Tensor | None] | Mapping[Tensor, Tensor], params: Iterable[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Parameters with their gradients, dense and without history."""
    given: list[Tensor | None] = list(grads.values() if isinstance(grads, Mapping) else grads)
    params = list(grads if isinstance(grads, Mapping) else params)
    if len(given) != len(params):
        raise ValueError(f"{who}.step: stream {stream!r} has {len(given)} gradients for {len(params)} parameters")
    there = [(p, g.detach()) for p, g in zip(params, given, strict=True) if g is not None]
    return list(zip([p for p, _ in there], all_dense([g for _, g in there]), strict=True))
