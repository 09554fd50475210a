"""Errors for numbers that are not finite: in which step, stream and component, and what to try."""

from __future__ import annotations

import torch

from ..methods import Method
from ..rows import Logits, Progress
from ..tasks import Diverged


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
