"""StreamSGD: heavy-ball SGD with one momentum buffer per gradient stream."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._spoken import spoken
from .arithmetic import heavy_ball
from .grads import StreamGrads
from .held import (
    Given,
    Held,
    Rows,
    aligned,
    check_numbers,
    checked_params,
    closure_of,
    parameters,
    refuse_group_momentum,
)
from .momenta import SHARED, Momenta, Move, Plan, as_momenta, entries, fitted, published_deepkd, together
from .sharded import local


class StreamSGD(torch.optim.Optimizer):
    r"""SGD whose streams each have a momentum of their own.

    For every stream c with coefficient m_c (weight decay lambda in one stream, see :class:`Momenta`)

        V_c   <- m_c V_c + (1 - dampening) (g_c + [c carries decay] lambda theta),   first step V_c := g_c + ...
        theta <- theta - lr sum_c gain_c V_c                                          (Nesterov: g_c + m_c V_c)

    With equal coefficients this is ``torch.optim.SGD`` on the summed loss. torch's learning-rate schedulers work
    on it; those that cycle the momentum as well (OneCycleLR, CyclicLR) take ``cycle_momentum=False``. Sparse gradients
    become dense ones.

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

    @spoken
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float | Mapping[str, float] = 0.0,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        self.momenta: Momenta = as_momenta(momentum)
        self._held = Held(self)
        super().__init__(
            checked_params("StreamSGD", params),
            {"lr": lr, "weight_decay": weight_decay, "dampening": dampening, "nesterov": nesterov},
        )
        decayed = any(group["weight_decay"] for group in self.param_groups)
        if self.momenta.inexact and decayed:
            warnings.warn(f"StreamSGD: {self.momenta.inexact}", stacklevel=2)

    @property
    def merges_exactly(self) -> bool:
        """Whether streams of equal coefficient may be merged before they are differentiated, for the same steps.

        Buffers are linear in the gradient, so they may; except where streams move one after the other and weight decay
        looks at the moved weights.
        """
        ordered = bool(self.momenta.sequence or self.momenta.inexact)
        return not (ordered and any(group["weight_decay"] for group in self.param_groups))

    @property
    def _step_supports_amp_scaling(self) -> bool:  # torch's name for its own optimizers; see Held.known_to_a_scaler
        return self._held.known_to_a_scaler("StreamSGD")

    @property
    def affine(self) -> bool:
        """Whether moves are affine in the gradients, so that moves of parts of a batch may be averaged."""
        return True

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own: ``lr``, ``weight_decay``, ``dampening``, ``nesterov``.

        Raises:
            ValueError: an option out of range, or a ``momentum``, which belongs to the streams.
        """
        _check(self.momenta, {**self.defaults, **param_group})
        super().add_param_group(param_group)

    def hold(self, grads: StreamGrads | Mapping[str, Any]) -> None:
        """Keep gradients for a ``step()`` without any, in loops that call it themselves.

        They are added to those held since the last step, as ``loss.backward()`` adds to ``p.grad``; ``zero_grad`` drops
        them.

        Args:
            grads: as for :meth:`step`.

        Raises:
            ValueError: as in :meth:`step`, or gradients that have overwritten those held.
        """
        self._held.add("StreamSGD", aligned("StreamSGD", self._held, self.momenta, self.param_groups, grads))

    def release(self) -> StreamGrads | None:
        """The gradients held, which are then held no longer: to clip or to weigh them before they are held again."""
        return self._held.release(self.param_groups)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients held, and set every ``p.grad`` to ``None`` or zero as torch's optimizers do."""
        self._held.rows = {}
        super().zero_grad(set_to_none)

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, grads: Given = None, closure: Callable[[], Any] | None = None
    ) -> Any:
        """Move the weights by the gradients of every stream.

        Args:
            grads: from ``stream_grads``; or a mapping from stream name to gradients in the order of the
                optimizer's parameters. A parameter no stream reaches is skipped; a stream that
                misses a parameter another one reaches counts as zero there. By default those that :meth:`hold` was
                given, which are dropped afterwards.
            closure: called first, with gradients enabled, and expected to hold some.

        Returns:
            What the closure gave.

        Raises:
            ValueError: an unknown stream name, gradients that belong to other parameters, or none at all.
        """
        found, loss = closure_of(grads, closure)
        given = None if found is None else aligned("StreamSGD", self._held, self.momenta, self.param_groups, found)
        by_stream = _by_identity(self._held.take("StreamSGD", given), parameters(self.param_groups))
        self._held.warn_of_grad("StreamSGD", self.param_groups)
        sequential = bool(self.momenta.sequence)
        plan: Plan = published_deepkd if sequential else together
        for group in self.param_groups:
            refuse_group_momentum("StreamSGD", "momentum", group)
            by_reach = _by_reach(group["params"], by_stream)
            if self.momenta.decay_stream is None and group["weight_decay"]:
                for params in by_reach.values():
                    torch._foreach_mul_(local(params), 1 - group["lr"] * group["weight_decay"])
            for stream in self.momenta.order:
                for reached_by, params in by_reach.items():
                    if stream in reached_by or not sequential:
                        move = plan(self.momenta, stream, reached_by)
                        self._move(group, stream, move, params, by_stream.get(stream, {}))
        return loss

    @spoken
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load buffers and group options; momenta stay those of this optimizer.

        The buffers of streams that are merged here are summed, which is exact; a merged buffer cannot be
        taken apart again. Whole buffers (see :func:`unsharded`) are divided as sharded parameters are.

        Raises:
            ValueError: the state is another optimizer's, or of streams that cannot be turned into this one's.
        """
        if any(set(SHARED) <= entry.keys() for entry in entries("StreamSGD", state_dict)):
            raise ValueError("StreamSGD.load_state_dict: the state has second moments; was it saved by StreamAdamW?")
        super().load_state_dict(fitted("StreamSGD", state_dict, self.param_groups, list(self.momenta)))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "momenta": self.momenta, "_held": self._held}

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
                [torch.zeros_like(p) if (g := grads.get(id(p))) is None else g for p in moved],
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


def _by_identity(rows: Rows, own: Sequence[Tensor]) -> dict[str, dict[int, Tensor]]:
    return {name: {id(own[place]): g for place, g in row.items()} for name, row in rows.items()}


def _check(momenta: Momenta, group: Mapping[str, Any]) -> None:
    refuse_group_momentum("StreamSGD", "momentum", group)
    check_numbers("StreamSGD", group, ("lr", "weight_decay", "dampening"))
    dampening, nesterov = group["dampening"], group["nesterov"]
    if nesterov and (dampening or not all(momenta.values())):
        raise ValueError("StreamSGD: nesterov needs dampening 0 and a momentum above 0 in every stream")
    if momenta.sequence and (nesterov or dampening):
        raise ValueError(
            "StreamSGD: rule 'published-code' moves the streams one after the other, without nesterov and dampening"
        )
