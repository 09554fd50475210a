"""Numbers that are not finite: refused in weights, kept from the weights in gradients, and said in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .._spoken import in_words
from ..methods import Method
from ..optim import StreamGrads, unscale
from ..rows import Logits, Progress, weighted_mean
from ..tasks import Diverged


def check_weights(what: str, net: nn.Module) -> None:
    """Refuse weights and statistics that are not finite.

    Args:
        what: what to call the network: ``"student"``, ``"teacher"``.
        net: network.

    Raises:
        ValueError: with the name of the first such tensor; or a state dict of somebody's own that cannot be made, or
            holds something else than tensors.
    """
    try:
        state = net.state_dict()
    except Exception as error:
        raise ValueError(f"the state dict of the {what} {type(net).__name__} failed: {in_words(error)}") from error
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(
                f"the {what} {type(net).__name__} keeps {name!r} in its state dict, which is no tensor but "
                f"{type(value).__name__}; keep it in a buffer (register_buffer), which is saved"
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise ValueError(
                f"the {what}'s weights are broken: {bad} of {value.numel()} values of {name!r} are NaN or infinite; "
                f"take another checkpoint"
            )


class NotFinite(Exception):
    """A gradient is not finite; the weights have not moved.

    Args:
        stream: which.
        value: its largest absolute entry.
    """

    def __init__(self, stream: str, value: float) -> None:
        super().__init__(stream, value)
        self.stream, self.value = stream, value


class LossScale:
    """The factor on losses under float16, whose gradients would vanish below 6e-8 without it.

    It starts at 65536, doubles after 2000 steps, and is halved when a gradient overflows; that step is left out, as
    ``torch.amp.GradScaler`` does it.

    Args:
        device: where the losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self.inner = torch.amp.GradScaler(device.type)
        self.inner.scale(torch.ones((), device=device))  # it has a factor from its first use on; one may diverge before

    @property
    def value(self) -> float:
        """The factor."""
        return float(self.inner.get_scale())

    def unscaled(self, grads: StreamGrads, optimizer: Any) -> StreamGrads:
        """The gradients of losses that were scaled, divided by the factor in place."""
        return unscale(grads, self.inner, optimizer)

    def step(self, optimizer: Any, grads: StreamGrads) -> bool:
        """Move the weights by unscaled gradients, and adapt the factor; whether they have moved."""
        before = self.value
        self.inner.step(optimizer, grads)
        self.inner.update()
        return self.value >= before


class Guard:
    """Looks at every gradient before the optimizer does, as a hook of the optimizer: ``with guard: ...``.

    On a CPU at once. On a GPU looking means waiting, so the largest entries are only noted (:attr:`unseen`) for the
    epoch's log, unless steps may be left out.

    Args:
        optimizer: whose steps are watched.
        net: the student; a step that is left out must leave its batch norms alone too.
        allowed: how many steps of the run may be left out.
    """

    def __init__(self, optimizer: Optimizer, net: nn.Module, allowed: int) -> None:
        self.optimizer, self.net, self.allowed = optimizer, net, allowed
        self.skipped, self.entered = 0, False
        self.unseen: Tensor | None = None
        self._buffers: list[Tensor] = []

    def __enter__(self) -> Guard:
        self._hook, self.entered = self.optimizer.register_step_pre_hook(self._before_step), True
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()
        self.entered = False

    def remember(self) -> None:
        """Keep what a forward pass changes, in case the step is left out."""
        self._buffers = [b.detach().clone() for b in self.net.buffers()]

    def forgive(self, error: Diverged) -> None:
        """Undo a step that diverged and count it.

        Raises:
            Diverged: no more steps may be left out.
        """
        if self.skipped >= self.allowed:
            raise _exhausted(error, self.allowed) from error if self.allowed else None
        self.skipped += 1
        with torch.no_grad():
            for buffer, before in zip(self.net.buffers(), self._buffers, strict=True):
                buffer.copy_(before)

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        grads = kwargs["grads"] if "grads" in kwargs else args[-1]
        grads = getattr(grads, "streams", grads)
        if not self.allowed and not _on_cpu(grads):
            self.unseen = largest_entries(grads)
            return
        if all(map(math.isfinite, _norms(grads))):  # the quick look; large but finite entries overflow here
            return
        for stream, value in zip(grads, largest_entries(grads).tolist(), strict=True):
            if not value < float("inf"):  # NaN too
                raise NotFinite(stream, value)


def _on_cpu(grads: Mapping[str, Any]) -> bool:
    return next(g.device.type == "cpu" for row in list(grads.values()) for g in row if g is not None)


def _norms(grads: Mapping[str, Any]) -> list[float]:
    """Sum of the Euclidean norms of every stream, which a CPU computes many times faster than maxima."""
    rows = [[g.detach() for g in row if g is not None] for row in list(grads.values())]
    return torch.stack([torch.stack([n.float() for n in torch._foreach_norm(r)]).sum() for r in rows if r]).tolist()


def largest_entries(grads: StreamGrads | Mapping[str, Any]) -> Tensor:
    """Largest absolute entry of every stream's gradients, ``[streams]``; infinite or NaN if any entry is.

    Example:
        >>> largest_entries({"task": [torch.tensor([1.0, -3.0]), None], "kd": [torch.tensor([2.0]), None]}).tolist()
        [3.0, 2.0]
    """
    found = [[g.detach() for g in row if g is not None and g.numel()] for row in grads.values()]
    like = next(g for row in found for g in row)
    none = torch.zeros((), device=like.device)
    norms = [
        torch.stack([n.float() for n in torch._foreach_norm(row, float("inf"))]).amax() if row else none
        for row in found
    ]
    return torch.stack(norms)


def blame(method: Method, found: NotFinite, lg: Logits, progress: Progress, trained: list[nn.Parameter]) -> Diverged:
    """The error for a gradient that is not finite, with the component it comes from.

    Args:
        method: losses and streams.
        found: which stream.
        lg: rows of the step, computed anew.
        progress: position in training.
        trained: parameters.
    """
    names = {c for s in method.streams if s.name in found.stream.split("+") for c in s.components}
    rows = method.components(lg, progress)
    guilty = None
    for name in (n for n in method.parts if n in names and rows[n].requires_grad):
        loss = weighted_mean(rows[name], lg.weight)
        grads = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
        if not bool(torch.isfinite(largest_entries({name: grads})).all()):
            guilty = name
            break
    return gradient_diverged(method, progress.epoch, progress.step, found.stream, found.value, guilty)


def _exhausted(error: Diverged, allowed: int) -> Diverged:
    return (
        Diverged(f"{error}; {allowed} such steps were left out before, as skip_nonfinite allows") if allowed else error
    )


def explain(error: ValueError, method: Method, lg: Logits, progress: Progress) -> Exception:
    """What to raise when a loss refused its rows: :class:`Diverged` if a component is not finite, else ``error``."""
    try:
        with torch.no_grad():
            rows = {"task": method.task(lg, progress), **method.terms(lg, progress)}
    except (ValueError, TypeError, AttributeError):  # the rows do not fit the method: that is the error
        return error
    for name in method.parts:
        bad = rows[name][~torch.isfinite(rows[name])]
        if len(bad):
            return diverged(method, progress.epoch, progress.step, name, float(bad[0]))
    return error


def diverged(method: Method, epoch: int, step: int, component: str, value: float) -> Diverged:
    """The error with its place; ``component`` is empty when only the weighted sum is not finite."""
    stream = next((s.name for s in method.streams if component in s.components), "")
    what = f"component {component!r} of stream {stream!r}" if component else "the weighted loss"
    return Diverged(f"{_where(epoch, step)}: {what} is {value}; {_advice(method)}")


def gradient_diverged(
    method: Method, epoch: int, step: int, stream: str, value: float, component: str | None = None
) -> Diverged:
    """The same for a gradient; ``component`` is the guilty one where it could be found out."""
    what = f"component {component!r} in stream {stream!r}" if component else f"stream {stream!r}"
    return Diverged(f"{_where(epoch, step)}: the gradient of {what} is {value}; {_advice(method)}")


def weights_diverged(method: Method, epoch: int, step: int, value: float) -> Diverged:
    """The error for weights that a finite gradient has moved too far."""
    return Diverged(f"{_where(epoch, step)}: the weights are {value} after it; {_advice(method)}")


def logits_diverged(method: Method, epoch: int, step: int, error: Diverged) -> Diverged:
    """The error for finite weights whose logits on the test images are not."""
    return Diverged(f"{_where(epoch, step)}: after it {error}; {_advice(method)}")


def _where(epoch: int, step: int) -> str:
    return f"training diverged in epoch {epoch}, step {step}"


def _advice(method: Method) -> str:
    return (
        f"lower optimizer.lr, bound the gradients (optimizer.clip=1), let the rate warm up for longer "
        f"(learning_rate.warmup_epochs), or lower the weights or the momentum shifts of {method.name}"
    )
