"""The learning rate of every epoch, in closed form, as one of torch's schedulers."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..config.run import LearningRate


def factor(rate: LearningRate, epoch: float, epochs: int) -> float:
    """Learning rate of an epoch as a fraction of the base rate.

    Args:
        rate: the schedule.
        epoch: from 1; a rate that changes with every step takes the share of the run that is over, in epochs.
        epochs: of the whole run.

    Example:
        >>> steps = LearningRate("step", milestones=(150, 180))
        >>> [round(factor(steps, e, 240), 4) for e in (150, 151, 181)]
        [1.0, 0.1, 0.01]
    """
    if epoch < rate.warmup_epochs:
        return rate.warmup_start + (1 - rate.warmup_start) * epoch / rate.warmup_epochs
    if rate.schedule == "step":
        return rate.decay ** sum(milestone < epoch for milestone in rate.milestones)
    if rate.schedule == "cosine" and epochs > rate.warmup_epochs:
        done = (epoch - rate.warmup_epochs) / (epochs - rate.warmup_epochs)
        return rate.minimum + (1 - rate.minimum) * (1 + math.cos(math.pi * done)) / 2
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
        [0.5]
    """
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])

    def at(step: int) -> float:
        position = (step + 1) / steps if rate.per == "step" else step // steps + 1
        return factor(rate, position, epochs)

    return LambdaLR(optimizer, at, last_epoch=done - 1)
