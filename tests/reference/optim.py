"""Optimizer rules (sections 8 and 9.3), one parameter tensor at a time.

``grads`` maps stream names to the gradient of this parameter, or to ``None`` where the stream does
not reach it. ``buffers`` maps stream names to momentum buffers and is filled on the first step.
Every rule returns the new parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

Buffers = dict[str, Tensor]
Grads = Mapping[str, Tensor | None]


def sgd(
    theta: Tensor,
    buffers: Buffers,
    grads: Grads,
    *,
    lr: float,
    momenta: Mapping[str, float],
    weight_decay: float = 0.0,
    decay_stream: str | None = None,
    dampening: float = 0.0,
    nesterov: bool = False,
    gains: Mapping[str, float] | None = None,
) -> Tensor:
    """Each stream is a heavy ball of its own: V <- m V + (1 - dampening) g, first V := g; theta <-
    theta - lr sum of V.

    ``decay_stream`` receives lambda theta, theta before the step (default: the first stream that
    reaches the parameter). Nesterov moves by g + m V instead of V; ``gains`` scales the step of a
    stream.
    """
    present = [name for name in momenta if grads.get(name) is not None]
    if not present:
        return theta
    decayed = decay_stream if decay_stream in momenta else present[0]
    step = theta * 0
    for name, m in momenta.items():
        g = grads.get(name)
        g = theta * 0 if g is None else g
        if name == decayed:
            g = g + weight_decay * theta
        buffers[name] = m * buffers[name] + (1 - dampening) * g if name in buffers else g.clone()
        move = g + m * buffers[name] if nesterov else buffers[name]
        step = step + (1.0 if gains is None else gains[name]) * move
    return theta - lr * step


def normalized_gain(m_stream: float, m: float) -> float:
    """(1 - m_c) / (1 - m): the steady-state step of a stream equals that of plain SGD."""
    return (1 - m_stream) / (1 - m)


def dot(
    theta: Tensor,
    buffers: Buffers,
    grads: Grads,
    *,
    lr: float,
    momentum: float,
    delta: float,
    weight_decay: float = 0.0,
    orphan: Literal["own", "mean"] = "own",
) -> Tensor:
    """DOT: task at m - Delta with the decay, distillation at m + Delta.

    ``orphan="mean"``: a parameter that one loss alone reaches has one buffer, at m, with the decay.
    """
    momenta, decay = {"task": momentum - delta, "distillation": momentum + delta}, "task"
    present = [name for name in momenta if grads.get(name) is not None]
    if orphan == "mean" and len(present) == 1:
        momenta, decay = {present[0]: momentum}, present[0]
    return sgd(theta, buffers, grads, lr=lr, momenta=momenta, weight_decay=weight_decay, decay_stream=decay)


def deepkd_paper(
    theta: Tensor,
    buffers: Buffers,
    grads: Grads,
    *,
    lr: float,
    momenta: Mapping[str, float],
    weight_decay: float = 0.0,
    decay_on: Literal["task", "target", "decoupled"] = "task",
) -> Tensor:
    """Three buffers, decay in the buffer of ``decay_on`` at the unmoved theta, or apart from all
    buffers."""
    if decay_on == "decoupled":
        moved = sgd(theta, buffers, grads, lr=lr, momenta=momenta)
        return moved - lr * weight_decay * theta
    return sgd(
        theta,
        buffers,
        grads,
        lr=lr,
        momenta=momenta,
        weight_decay=weight_decay,
        decay_stream=decay_on,
    )


def deepkd_published(
    theta: Tensor,
    buffers: Buffers,
    grads: Grads,
    *,
    lr: float,
    m_task: float,
    m_target: float,
    m_nontarget: float,
    weight_decay: float = 0.0,
) -> Tensor:
    """As coded: task, then nontarget, then target, each moving theta at once; coefficients by
    presence of gradients."""
    mean = (m_task + m_target + m_nontarget) / 3
    task, target, nontarget = (grads.get(n) is not None for n in ("task", "target", "nontarget"))
    if task:
        m = m_target if target else m_nontarget if nontarget else mean
        if m_task == 0:  # no buffer: a plain gradient step
            theta = theta - lr * grads["task"]
        else:
            theta = theta - lr * _push(buffers, "task", grads["task"], m)
    if nontarget:
        m = m_nontarget if task else m_target if target else mean
        orphan = not task and not target
        decay = weight_decay * theta if orphan and "nontarget" in buffers else 0 * theta
        theta = theta - lr * _push(buffers, "nontarget", grads["nontarget"] + decay, m)
    if target:
        m = m_target if task else m_nontarget if nontarget else mean
        orphan = not task and not nontarget
        decay = weight_decay * theta * (2 if orphan and "target" in buffers else 1)
        theta = theta - lr * _push(buffers, "target", grads["target"] + decay, m)
    return theta


def _push(buffers: Buffers, name: str, g: Tensor, m: float) -> Tensor:
    buffers[name] = m * buffers[name] + g if name in buffers else g.clone()
    return buffers[name]
