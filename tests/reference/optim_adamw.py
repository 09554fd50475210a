"""AdamW over streams (section 27), one parameter tensor at a time, and its forms that were found wrong.

As in ``tests/reference/optim.py``, ``grads`` maps streams to the gradient of this parameter or ``None``. ``moments``
holds what the rule remembers of it: every stream's first moment, ``v``, and ``t``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

Moments = dict[str, Any]


def stream_adamw(
    theta: Tensor,
    moments: Moments,
    grads: Mapping[str, Tensor | None],
    *,
    lr: float,
    betas: Mapping[str, float],
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    gain: Literal["normalised", "heavy-ball"] = "normalised",
    base: float = 0.9,
    clip_rms: float | None = None,
) -> Tensor:
    """The new parameter; a stream that misses it counts as zero, and one that no stream reaches stays."""
    if all(grads.get(name) is None for name in betas):
        return theta
    given = {name: theta * 0 if grads.get(name) is None else grads[name] for name in betas}
    t = moments["t"] = moments.get("t", 0) + 1
    for name, b in betas.items():
        moments[name] = b * moments.get(name, theta * 0) + (1 - b) * given[name]
    moments["v"] = beta2 * moments.get("v", theta * 0) + (1 - beta2) * sum(given.values()) ** 2
    update = theta * 0
    for name, b in betas.items():
        factor = 1.0 if gain == "normalised" else (1 - base) / (1 - b)
        update = update + factor * moments[name] / (1 - b**t)
    update = update / (moments["v"].sqrt() / (1 - beta2**t) ** 0.5 + eps)
    if clip_rms is not None:
        rms = update.square().mean().sqrt()
        update = update * min(1.0, clip_rms / float(rms)) if rms > 0 else update
    return (1 - lr * weight_decay) * theta - lr * update


def second_moment_per_stream(
    theta: Tensor,
    moments: Moments,
    grads: Mapping[str, Tensor],
    *,
    lr: float,
    betas: Mapping[str, float],
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> Tensor:
    """What this package does not do: every stream divided by a root of its own, so that loss weights cancel out."""
    t = moments["t"] = moments.get("t", 0) + 1
    for name, b in betas.items():
        moments[name] = b * moments.get(name, theta * 0) + (1 - b) * grads[name]
        moments[f"v {name}"] = beta2 * moments.get(f"v {name}", theta * 0) + (1 - beta2) * grads[name] ** 2
        root = moments[f"v {name}"].sqrt() / (1 - beta2**t) ** 0.5
        theta = theta - lr * moments[name] / (1 - b**t) / (root + eps)
    return theta
