"""StreamAdamW: AdamW with one first moment per momentum coefficient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from .._spoken import spoken
from .arithmetic import AdamWMove, adamw, direction
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
from .momenta import SHARED, Momenta, as_momenta, by_coefficient, entries, fitted
from .sharded import is_sharded

Gain = Literal["normalised", "heavy-ball"]


class StreamAdamW(torch.optim.Optimizer):
    r"""AdamW whose streams each have a first moment of their own, over one second moment of their sum.

    At step t of a parameter, for every coefficient b_c (streams of one coefficient share m_c)

        m_c   <- b_c m_c + (1 - b_c) g_c
        v     <- beta2 v + (1 - beta2) (sum_c g_c)^2
        theta <- (1 - lr lambda) theta
        theta <- theta - lr sum_c gain_c m_c / (1 - b_c^t) / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    all moments 0 at first. With equal coefficients this is ``torch.optim.AdamW`` on the summed loss. A shift changes
    how long a stream remembers and not how far it steps, since m_c / (1 - b_c^t) is an average of gradients; the gain
    ``"heavy-ball"`` puts the factor of SGD's buffers back. torch's learning-rate schedulers work on it; those that
    cycle the momentum as well (OneCycleLR, CyclicLR) take ``cycle_momentum=False``. Sparse gradients become dense.

    Args:
        params: parameters or parameter groups (each with its own ``lr``, ``beta2``, ``eps``, ``weight_decay`` and
            ``clip_rms`` if wanted).
        lr: learning rate.
        betas: b_c by stream: ``method.momenta(0.9)``, a plain mapping stream -> coefficient, or one float for the
            single stream ``loss``. Weight decay is apart from all streams, whatever the momenta say.
        beta2: coefficient of the second moment.
        eps: added to the root of the second moment.
        weight_decay: lambda.
        gain: gain_c is 1 (``"normalised"``), or (1 - b) / (1 - b_c) with b the momentum from which the streams are
            shifted (``"heavy-ball"``; b is 0.9 where ``betas`` is a plain mapping).
        clip_rms: bound on the root mean square of the update of every tensor, in units of ``lr``; streams that cancel
            in v step far (see :func:`fractionate.monitors.update_rms`).

    Raises:
        ValueError: an argument out of range, or momenta of a rule that is defined for SGD alone.

    Source: this package; no published counterpart is known.

    Example:
        >>> import torch, fractionate as fr
        >>> net = torch.nn.Linear(3, 5)
        >>> method = fr.methods.deepkd(fr.methods.dkd())
        >>> opt = fr.StreamAdamW(net.parameters(), lr=1e-3, betas=method.momenta(0.9), weight_decay=0.05)
        >>> lg = fr.Logits(net(torch.ones(2, 3)), torch.zeros(2, 5), torch.tensor([0, 4]))
        >>> opt.step(fr.stream_grads(method.stream_losses(lg), net))
    """

    @spoken
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: float | Mapping[str, float] = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        gain: Gain = "normalised",
        clip_rms: float | None = None,
    ) -> None:
        self.momenta: Momenta = _checked(betas, gain)
        self.gain: Gain = gain
        self._held = Held(self)
        super().__init__(
            checked_params("StreamAdamW", params),
            {"lr": lr, "beta2": beta2, "eps": eps, "weight_decay": weight_decay, "clip_rms": clip_rms},
        )

    @property
    def merges_exactly(self) -> bool:
        """Whether streams of equal coefficient may be merged before they are differentiated, for the same steps."""
        return True

    @property
    def _step_supports_amp_scaling(self) -> bool:  # torch's name for its own optimizers; see Held.known_to_a_scaler
        return self._held.known_to_a_scaler("StreamAdamW")

    @property
    def affine(self) -> bool:
        """Whether moves are affine in the gradients, so that moves of parts of a batch may be averaged."""
        return False

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own: ``lr``, ``beta2``, ``eps``, ``weight_decay``, ``clip_rms``.

        Raises:
            ValueError: an option out of range, or ``betas``, which belong to the streams.
        """
        _check({**self.defaults, **param_group})
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
        self._held.add("StreamAdamW", aligned("StreamAdamW", self._held, self.momenta, self.param_groups, grads))

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
            grads: from ``stream_grads``; or a mapping from stream name to gradients in the order of the optimizer's
                parameters. A parameter no stream reaches is skipped; a stream that misses a parameter another one
                reaches counts as zero there. By default those that :meth:`hold` was given, which are then dropped.
            closure: called first, with gradients enabled, and expected to hold some.

        Returns:
            What the closure gave.

        Raises:
            ValueError: an unknown stream name, gradients that belong to other parameters, or none at all.
        """
        found, loss = closure_of(grads, closure)
        given = None if found is None else aligned("StreamAdamW", self._held, self.momenta, self.param_groups, found)
        moments = self._moments()
        by_parameter = _summed(self._held.take("StreamAdamW", given), self.momenta, parameters(self.param_groups))
        self._held.warn_of_grad("StreamAdamW", self.param_groups)
        for group in self.param_groups:
            refuse_group_momentum("StreamAdamW", "betas", group)
            for params in self._alike(group["params"], by_parameter):
                self._move(group, params, by_parameter, moments)
        return loss

    @torch.no_grad()
    def updates(self) -> dict[Tensor, Tensor]:
        """The last move of every parameter in units of ``lr``, without weight decay, from the moments as they are."""
        found: dict[Tensor, Tensor] = {}
        moments = self._moments()
        for group in self.param_groups:
            for p in group["params"]:
                if state := self.state.get(p):
                    names = [name for name in moments if name in state]
                    move = self._numbers(group, names, moments, state["step"])
                    (found[p],) = direction([[state[name]] for name in names], [state["exp_avg_sq"]], move)
        return found

    @spoken
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load moments, counts and group options; momenta and gain stay those of this optimizer.

        The moments of streams that are merged here are summed, which is exact; a merged one cannot be taken apart
        again. Whole moments (see :func:`unsharded`) are divided as sharded parameters are.

        Raises:
            ValueError: the state is another optimizer's, or of streams that cannot be turned into this one's.
        """
        if any(entry and not set(SHARED) <= entry.keys() for entry in entries("StreamAdamW", state_dict)):
            raise ValueError("StreamAdamW.load_state_dict: the state has no second moments; was it saved by StreamSGD?")
        super().load_state_dict(fitted("StreamAdamW", state_dict, self.param_groups, list(self._moments())))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "momenta": self.momenta, "gain": self.gain, "_held": self._held}

    def _moments(self) -> dict[str, float]:
        """Names of the first moments and their coefficients."""
        return {name: self.momenta[streams[0]] for name, streams in by_coefficient(self.momenta).items()}

    def _alike(self, params: list[Tensor], by_parameter: Mapping[int, Mapping[str, Tensor]]) -> list[list[Tensor]]:
        """Parameters that have gradients, one step further, by count and by moments: each list moves in one call."""
        found: dict[tuple[object, ...], list[Tensor]] = {}
        for p in params:
            grads = by_parameter.get(id(p))
            if not grads:
                continue
            state = self.state[p]
            if not state:
                state["step"], state["exp_avg_sq"] = 0, torch.zeros_like(p, memory_format=torch.preserve_format)
            for name in grads:
                if name not in state:
                    state[name] = torch.zeros_like(p, memory_format=torch.preserve_format)
            state["step"] += 1
            found.setdefault((state["step"], frozenset(state), frozenset(grads)), []).append(p)
        return list(found.values())

    def _move(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        by_parameter: Mapping[int, Mapping[str, Tensor]],
        moments: Mapping[str, float],
    ) -> None:
        states = [self.state[p] for p in params]
        names = [name for name in moments if name in states[0]]
        reached = by_parameter[id(params[0])]
        if group["clip_rms"] is not None and is_sharded(params):
            raise ValueError(
                "StreamAdamW: clip_rms looks at whole tensors, and these parameters are in shards; leave it out, and "
                "bound the gradients with fr.optim.clip_total"
            )
        adamw(
            params,
            [[by_parameter[id(p)][name] for p in params] if name in reached else None for name in names],
            [[state[name] for state in states] for name in names],
            [state["exp_avg_sq"] for state in states],
            self._numbers(group, names, moments, states[0]["step"]),
        )

    def _numbers(self, group: dict[str, Any], names: list[str], moments: Mapping[str, float], count: int) -> AdamWMove:
        decays = tuple(moments[name] for name in names)
        base = 0.9 if self.momenta.base is None else self.momenta.base
        gains = tuple(1.0 if self.gain == "normalised" or b == base else (1 - base) / (1 - b) for b in decays)
        return AdamWMove(
            group["lr"], decays, gains, group["beta2"], group["eps"], group["weight_decay"], count, group["clip_rms"]
        )


def _summed(rows: Rows, momenta: Momenta, own: list[Tensor]) -> dict[int, dict[str, Tensor]]:
    """Per parameter the gradient of every first moment: that of its stream, or the sum over its streams."""
    home = {stream: name for name, streams in by_coefficient(momenta).items() for stream in streams}
    found: dict[int, dict[str, Tensor]] = {}
    for stream, row in rows.items():
        name = home[stream]
        for place, g in row.items():
            mine = found.setdefault(id(own[place]), {})
            mine[name] = mine[name] + g if name in mine else g
    return found


def _checked(betas: Any, gain: str) -> Momenta:
    if isinstance(betas, (tuple, list)):
        raise ValueError(
            f"StreamAdamW: betas takes the coefficient of every stream, got {betas!r}; give the second as beta2=..."
        )
    if gain not in ("normalised", "heavy-ball"):
        raise ValueError(f"StreamAdamW: gain must be 'normalised' or 'heavy-ball', got {gain!r}")
    momenta = as_momenta(betas)
    if momenta.sequence or momenta.inexact or momenta.orphan == "mean":
        raise ValueError(
            "StreamAdamW: these momenta follow published code that is defined for SGD alone (streams that move one "
            "after the other, or a mean coefficient for some parameters); use rule='paper' and orphan='own'"
        )
    if any(value != 1 for value in momenta.gains.values()):
        raise ValueError(
            "StreamAdamW: the momenta carry gains (normalize_gain=True), but first moments have gain 1 already; leave "
            "normalize_gain out"
        )
    by_coefficient(momenta)
    if taken := {part for name in momenta for part in (name, *name.split("+"))} & set(SHARED):
        raise ValueError(f"StreamAdamW: a stream cannot be called {min(taken)!r}, a name of the optimizer's own state")
    return momenta


def _check(group: Mapping[str, Any]) -> None:
    refuse_group_momentum("StreamAdamW", "betas", group)
    check_numbers("StreamAdamW", group, ("lr", "weight_decay", "eps"))
    if not 0 <= group["beta2"] < 1:
        raise ValueError(f"StreamAdamW: beta2 must lie in [0, 1), got {group['beta2']}")
    if group["clip_rms"] is not None and not group["clip_rms"] > 0:
        raise ValueError(f"StreamAdamW: clip_rms must be above 0, got {group['clip_rms']}")
