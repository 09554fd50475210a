"""Losses of transformer students, by the formulas: vit-gdkd's distillers, DeiT's token, timm's two tasks.

A row of :data:`ROWS` takes a golden case's hyper-parameters and inputs and returns ``total`` and every term.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from . import dist, dkd, gdkd
from .basics import cross_entropy, kd, log_softmax

Hyper = dict[str, Any]
Inputs = dict[str, Tensor]
Row = Callable[[Hyper, Inputs], dict[str, Tensor]]


def smoothed(student: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """(1 - s) times the cross-entropy, plus s times the mean of -log p over the classes, of each row."""
    return (1 - smoothing) * cross_entropy(student, target) - smoothing * log_softmax(student).mean(-1)


def ratio(epoch0: int, skip_epochs: int, warmup_epochs: int) -> float:
    """Factor on the distillation: 0 before ``skip_epochs``, then min((e - skip) / warm-up, 1); epochs count from 0."""
    if epoch0 < skip_epochs:
        return 0.0
    return 1.0 if warmup_epochs <= 0 else min((epoch0 - skip_epochs) / warmup_epochs, 1.0)


def _whole(h: Hyper, x: Inputs, terms: dict[str, Tensor], weights: dict[str, float]) -> dict[str, Tensor]:
    means = {name: value.mean() for name, value in terms.items()}
    ce = smoothed(x["student"], x["target"], h["label_smoothing"]).mean()
    factor = ratio(h["epoch0"], h["skip_epochs"], h.get("warmup_epochs", 0))
    alone = h["epoch0"] < h["skip_epochs"]  # then the cross-entropy has weight 1, whatever `ce` says
    total = (1.0 if alone else h["ce"]) * ce + factor * sum(weights[name] * value for name, value in means.items())
    return {"ce": ce, **means, "total": total}


def _kd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    return _whole(h, x, {"kd": kd(x["student"], x["teacher"], h["temperature"])}, {"kd": h["kd"]})


def _dkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    found = dkd.dkd(x["student"], x["teacher"], x["target"], temperature=h["temperature"])
    terms = {"tckd": found["target"], "nckd": found["nontarget"]}
    return _whole(h, x, terms, {"tckd": h["alpha"], "nckd": h["beta"]})


def _groups(form: Callable[..., dict[str, Tensor]]) -> Row:
    def row(h: Hyper, x: Inputs) -> dict[str, Tensor]:
        found = form(x["student"], x["teacher"], k=h["k"], temperature=h["temperature"])
        terms = {"high": found["between"], "top": found["top"], "other": found["other"]}
        return _whole(h, x, terms, {"high": h["w0"], "top": h["w1"], "other": h["w2"]})

    return row


def _dist(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    found = dist.dist(x["student"], x["teacher"], temperature=h["temperature"])
    return _whole(h, x, {name: found[name] for name in ("inter", "intra")}, {"inter": h["beta"], "intra": h["gamma"]})


def _to_the_teachers_class(x: Inputs) -> Tensor:
    return cross_entropy(x["student_dist"], x["teacher"].argmax(1)).mean()


def _deit(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    base = smoothed(x["student"], x["target"], h["label_smoothing"]).mean()
    if h["distillation_type"] == "none":
        return {"base": base, "total": base}
    if h["distillation_type"] == "hard":
        term = _to_the_teachers_class(x)
    else:
        term = kd(x["student_dist"], x["teacher"], h["tau"]).sum() / x["student"].numel()
    return {"base": base, "distillation": term, "total": (1 - h["alpha"]) * base + h["alpha"] * term}


def effective(task: float | None, distill: float | None) -> tuple[float, float]:
    """timm's weights of the two losses, of which either may be left open."""
    if task is None:
        return 1.0, 1.0 if distill is None else distill
    return task, 1 - task if distill is None else distill


def _timm(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    task, distill = effective(h["task_loss_weight"], h["distill_loss_weight"])
    assert h["effective"] == {"task": task, "distill": distill}
    ce = cross_entropy(x["student"], x["target"]).mean()
    if "student_dist" not in x:
        term = kd(x["student"], x["teacher"], h["temperature"]).mean()
        return {"task": ce, "kd": term, "total": task * ce + distill * term}
    soft = kd(x["student_dist"], x["teacher"], h["temperature"]).mean()
    term = _to_the_teachers_class(x) if h["distill_type"] == "hard" else soft
    return {"task": ce, "distillation": term, "total": task * ce + distill * term}


ROWS: dict[str, Row] = {
    "ViT-KD": _kd,
    "ViT-DKD": _dkd,
    "ViT-GDKD": _groups(gdkd.gdkd),
    "ViT-GDKD3": _groups(gdkd.gdkd3),
    "ViT-DIST": _dist,
    "DeiT-token": _deit,
    "timm-logit": _timm,
    "timm-token": _timm,
}


def linear_then_cosine(
    epoch: int, *, lr: float, epochs: int, warmup_epochs: int, start_factor: float, min_lr: float
) -> float:
    """From ``start_factor lr`` in the first epoch (of 1, 2, ...), then a cosine whose end comes after the last one."""
    over = epoch - 1
    if over < warmup_epochs:
        return lr * (start_factor + (1 - start_factor) * over / warmup_epochs)
    done = (over - warmup_epochs) / (epochs - warmup_epochs)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * done)) / 2
