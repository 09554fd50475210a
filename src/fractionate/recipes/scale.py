"""What changes with the length of a run: a warm-up keeps its share of it, milestones keep theirs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..train import MethodSpec, Run
from ..train.spec import METHODS

PUBLISHED_EPOCHS = 240  # of the CIFAR-100 runs that the methods' default warm-up (in epochs) was made for


def defaults(method: MethodSpec) -> dict[str, Any]:
    """Arguments of the innermost method that were left at their defaults.

    Example:
        >>> defaults(MethodSpec.parse("kd(temperature=2)"))["kd_weight"]
        0.9
    """
    parameters = inspect.signature(METHODS[method.name]).parameters
    return {name: p.default for name, p in parameters.items() if name not in method.args}


def scaled(method: MethodSpec, epochs: int) -> MethodSpec:
    """The method with its default loss warm-up cut to the length of the run; one that was given is kept.

    Args:
        method: names and arguments.
        epochs: length of the run.

    Example:
        >>> scaled(MethodSpec("dkd"), 120).args
        {'warmup': 10}
        >>> scaled(MethodSpec("kd"), 120).args
        {}
    """
    warmup = defaults(method).get("warmup") or 1
    if warmup <= 1:
        return method
    return replace(method, args={**method.args, "warmup": max(1, round(warmup * epochs / PUBLISHED_EPOCHS))})


def milestones(published: Sequence[int], epochs: int) -> tuple[int, ...]:
    """Milestones of a 240-epoch run at the same shares of another length.

    Example:
        >>> milestones((150, 180, 210), 24)
        (15, 18, 21)
    """
    return tuple(sorted({max(1, round(m * epochs / PUBLISHED_EPOCHS)) for m in published}))


def lasting(run: Run, epochs: int) -> Run:
    """The run with another length; milestones and the warm-ups of the rate and of the loss keep their share of it.

    Example:
        >>> from fractionate.recipes.papers import paper
        >>> short = lasting(paper("cifar100/dkd/resnet56__resnet20/mdistiller").run(), 24)
        >>> short.epochs, short.learning_rate.milestones, short.method.args["warmup"]
        (24, (15, 18, 21), 2)
    """
    share, rate, method = epochs / run.epochs, run.learning_rate, run.method
    marks = tuple(sorted({max(1, round(m * share)) for m in rate.milestones}))
    rate = replace(rate, milestones=marks, warmup_epochs=round(rate.warmup_epochs * share))
    warmup = method.args.get("warmup")
    if isinstance(warmup, int | float):
        method = replace(method, args={**method.args, "warmup": max(1, round(warmup * share))})
    return replace(run, epochs=epochs, learning_rate=rate, method=method)
