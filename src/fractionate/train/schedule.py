"""The learning rate of every epoch, in closed form, as one of torch's schedulers."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..config.optimizers import LearningRate


def factor(rate: LearningRate, epoch: int, epochs: int) -> float:
    """Learning rate of an epoch as a fraction of the base rate.

    For epoch e of E, with w epochs of warm-up from s, and t = e - 1 the epochs that are over,

        e <= w:  s + (1 - s) t / w
        cosine:  (1 + cos(pi (t - w) / (E - w))) / 2
        poly:    m + (1 - m) (1 - (t - w) / (E - w))^power, with the minimum m

    as torch's ``CosineAnnealingLR`` gives it: the first epoch has the whole rate, and 0 would come after the last one.
    A cosine that names a ``minimum`` follows the published code: t = e, and the last epoch has that minimum.

    Args:
        rate: the schedule.
        epoch: from 1.
        epochs: of the whole run.

    Example:
        >>> steps = LearningRate("step", milestones=(150, 180))
        >>> [round(factor(steps, e, 240), 4) for e in (150, 151, 181)]
        [1.0, 0.1, 0.01]
        >>> [round(factor(LearningRate("cosine"), e, 4), 4) for e in (1, 2, 3, 4)]
        [1.0, 0.8536, 0.5, 0.1464]
    """
    return _at(rate, epoch - 1, 1, epochs)


def _at(rate: LearningRate, before: float, length: float, epochs: int) -> float:
    """The factor of a stretch of training of that ``length``, when ``before`` epochs are over."""
    over = before + length if rate.minimum and rate.schedule == "cosine" else before
    if over < rate.warmup_epochs:
        return rate.warmup_start + (1 - rate.warmup_start) * over / rate.warmup_epochs
    if rate.schedule == "step":
        return rate.decay ** sum(milestone <= before for milestone in rate.milestones)
    if rate.schedule == "cosine" and epochs > rate.warmup_epochs:
        done = (over - rate.warmup_epochs) / (epochs - rate.warmup_epochs)
        return rate.minimum + (1 - rate.minimum) * (1 + math.cos(math.pi * done)) / 2
    if rate.schedule == "poly" and epochs > rate.warmup_epochs:
        left = 1 - (over - rate.warmup_epochs) / (epochs - rate.warmup_epochs)
        return rate.minimum + (1 - rate.minimum) * max(0.0, left) ** rate.power  # a run's end may come out below 0
    return 1.0


def scheduler(optimizer: Optimizer, rate: LearningRate, epochs: int, steps: int, done: int = 0) -> LambdaLR:
    """A scheduler to be stepped after every training step, standing where ``done`` steps are over.

    Whatever the optimizer's ``initial_lr`` says is the base rate, so a resumed run follows its config.

    Args:
        optimizer: whose rate is set.
        rate: the schedule.
        epochs: of the whole run.
        steps: per epoch.
        done: steps that are over.

    Example:
        >>> import torch
        >>> sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> rates = scheduler(sgd, LearningRate("cosine", per="step"), epochs=1, steps=2)
        >>> [round(sgd.param_groups[0]["lr"], 3)]
        [1.0]
    """
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])

    def at(step: int) -> float:
        if rate.per == "epoch":
            return factor(rate, step // steps + 1, epochs)
        return _at(rate, step / steps, 1 / steps, epochs)

    return LambdaLR(optimizer, at, last_epoch=done - 1)
