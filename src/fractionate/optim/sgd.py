"""StreamSGD: heavy-ball SGD with one momentum buffer per gradient stream."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._choices import unknown
from .grads import Grads, StreamGrads
from .momenta import Momenta, Move, Plan, as_momenta, fit_state, published_deepkd, together
from .sharded import local, placed_as

FUSED_ON = ("cpu", "cuda")  # devices with torch._fused_sgd_, the kernel of torch.optim.SGD(fused=True)


class StreamSGD(torch.optim.Optimizer):
    r"""SGD whose streams each have a momentum of their own.

    For every stream c with coefficient m_c (weight decay lambda in one stream, see :class:`Momenta`)

        V_c   <- m_c V_c + (1 - dampening) (g_c + [c carries decay] lambda theta),   first step V_c := g_c + ...
        theta <- theta - lr sum_c gain_c V_c                                          (Nesterov: g_c + m_c V_c)

    With equal coefficients this is ``torch.optim.SGD`` on the summed loss. torch's learning-rate schedulers work
    on it.

    Args:
        params: parameters or parameter groups (each with its own ``lr`` and ``weight_decay`` if wanted).
        lr: learning rate.
        momentum: ``method.momenta(0.9)``, a plain mapping stream -> coefficient (decay on its first stream), or one
            float for the single stream ``loss``.
        weight_decay: lambda.
        dampening: share of the gradient kept out of the buffer.
        nesterov: look-ahead momentum; needs dampening 0 and streams that move together.

    Raises:
        ValueError: an argument out of range.

    Source: heavy ball per stream as in arXiv 2307.08436 (DOT) and 2505.15133 (DeepKD).

    Example:
        >>> import torch, fractionate as fr
        >>> net = torch.nn.Linear(3, 5)
        >>> method = fr.methods.deepkd(fr.methods.dkd())
        >>> opt = fr.StreamSGD(net.parameters(), lr=0.05, momentum=method.momenta(0.9), weight_decay=5e-4)
        >>> lg = fr.Logits(net(torch.ones(2, 3)), torch.zeros(2, 5), torch.tensor([0, 4]))
        >>> opt.step(fr.stream_grads(method.stream_losses(lg), net))
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float | Mapping[str, float] = 0.0,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        self.momenta: Momenta = as_momenta(momentum)
        super().__init__(
            params,
            {"lr": lr, "weight_decay": weight_decay, "dampening": dampening, "nesterov": nesterov},
        )
        decayed = any(group["weight_decay"] for group in self.param_groups)
        if self.momenta.inexact and decayed:
            warnings.warn(f"StreamSGD: {self.momenta.inexact}", stacklevel=2)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own: ``lr``, ``weight_decay``, ``dampening``, ``nesterov``.

        Raises:
            ValueError: an option out of range, or a ``momentum``, which belongs to the streams.
        """
        _check(self.momenta, {**self.defaults, **param_group})
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, grads: StreamGrads | Mapping[str, Any]) -> None:  # type: ignore[override]
        """Move the weights by the gradients of every stream.

        Args:
            grads: from ``stream_grads``; or a mapping from stream name to gradients in the order of the
                optimizer's parameters. A parameter no stream reaches is skipped; a stream that
                misses a parameter another one reaches counts as zero there.

        Raises:
            ValueError: an unknown stream name, or gradients that belong to other parameters.
        """
        by_stream = self._aligned(grads)
        sequential = bool(self.momenta.sequence)
        plan: Plan = published_deepkd if sequential else together
        for group in self.param_groups:
            by_reach = _by_reach(group["params"], by_stream)
            if self.momenta.decay_stream is None and group["weight_decay"]:
                for params in by_reach.values():
                    torch._foreach_mul_(local(params), 1 - group["lr"] * group["weight_decay"])
            for stream in self._order():
                for reached_by, params in by_reach.items():
                    if stream in reached_by or not sequential:
                        move = plan(self.momenta, stream, reached_by)
                        self._move(group, stream, move, params, by_stream.get(stream, {}))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load buffers and group options; momenta stay those of this optimizer.

        The buffers of streams that are merged here are summed, which is exact; a merged buffer cannot be
        taken apart again. Whole buffers (see :func:`unsharded`) are divided as sharded parameters are.

        Raises:
            ValueError: the saved streams cannot be turned into this optimizer's.
        """
        state = {key: fit_state(entry, list(self.momenta)) for key, entry in state_dict["state"].items()}
        keys = [key for group in state_dict["param_groups"] for key in group["params"]]
        own = [p for group in self.param_groups for p in group["params"]]
        for key, p in zip(keys, own, strict=False):  # torch's own loading says what is wrong with their number
            if key in state:
                state[key] = {name: placed_as(p, buffer) for name, buffer in state[key].items()}
        super().load_state_dict({**state_dict, "state": state})

    def _order(self) -> list[str]:
        """The stream with weight decay first (it looks at the unmoved weights), or the given sequence."""
        if self.momenta.sequence:
            return list(self.momenta.sequence)
        return sorted(self.momenta, key=lambda name: name != self.momenta.decay_stream)

    def _aligned(self, grads: Mapping[str, Any]) -> dict[str, dict[int, Tensor]]:
        """Gradient of every stream by parameter identity."""
        for name in grads:
            if name not in self.momenta:
                raise ValueError(f"StreamSGD.step: {unknown('stream', name, self.momenta)}")
        own = [p for group in self.param_groups for p in group["params"]]
        names = grads.parameters if isinstance(grads, StreamGrads) else own
        if not {id(p) for p in names} & {id(p) for p in own}:
            raise ValueError(
                "StreamSGD.step: the gradients belong to none of the optimizer's parameters; "
                "was the model copied after the optimizer was made?"
            )
        return {name: _by_identity(name, grads[name], names) for name in grads}

    def _move(
        self, group: dict[str, Any], stream: str, move: Move, params: list[Tensor], grads: Mapping[int, Tensor]
    ) -> None:
        """Move parameters along one stream: those whose buffer starts now, and the others, in one call each."""
        fresh = [p for p in params if stream not in self.state[p]]
        known = [p for p in params if stream in self.state[p]]
        for first, moved in ((True, fresh), (False, known)):
            if not moved:
                continue
            if first and move.coefficient:
                for p in moved:
                    self.state[p][stream] = torch.empty_like(p, memory_format=torch.preserve_format)
            heavy_ball(
                moved,
                [torch.zeros_like(p) if (g := grads.get(id(p))) is None else g.detach() for p in moved],
                [self.state[p][stream] for p in moved] if move.coefficient else [],
                lr=group["lr"] * gain if (gain := self.momenta.gains.get(stream)) else group["lr"],
                momentum=move.coefficient,
                decay=group["weight_decay"] * (move.first_decay if first else move.decay),
                dampening=group["dampening"],
                nesterov=group["nesterov"],
                first=first,
            )


def _by_reach(
    params: Iterable[Tensor], by_stream: Mapping[str, Mapping[int, Tensor]]
) -> dict[frozenset[str], list[Tensor]]:
    """Parameters by the streams that reach them, without those that none reaches."""
    found: dict[frozenset[str], list[Tensor]] = {}
    for p in params:
        reached_by = frozenset(name for name, grads in by_stream.items() if id(p) in grads)
        if reached_by:
            found.setdefault(reached_by, []).append(p)
    return found


def _by_identity(
    stream: str,
    grads: Grads | Sequence[Tensor | None] | Mapping[Tensor, Tensor],
    params: Iterable[Tensor],
) -> dict[int, Tensor]:
    if isinstance(grads, Mapping):
        return {id(p): g for p, g in grads.items() if g is not None}
    given, params = list(grads), list(params)
    if len(given) != len(params):
        raise ValueError(f"StreamSGD.step: stream {stream!r} has {len(given)} gradients for {len(params)} parameters")
    return {id(p): g for p, g in zip(params, given, strict=True) if g is not None}


def _check(momenta: Momenta, group: Mapping[str, Any]) -> None:
    if "momentum" in group:
        raise ValueError(
            "StreamSGD: momentum belongs to the streams and is the same for all parameters; "
            "remove it from the parameter group and give StreamSGD(..., momentum=...)"
        )
    for name in ("lr", "weight_decay", "dampening"):
        if not group[name] >= 0:
            raise ValueError(f"StreamSGD: {name} must not be negative, got {group[name]}")
    dampening, nesterov = group["dampening"], group["nesterov"]
    if nesterov and (dampening or not all(momenta.values())):
        raise ValueError("StreamSGD: nesterov needs dampening 0 and a momentum above 0 in every stream")
    if momenta.sequence and (nesterov or dampening):
        raise ValueError(
            "StreamSGD: rule 'published-code' moves the streams one after the other, without nesterov and dampening"
        )


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
