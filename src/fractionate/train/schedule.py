"""The learning rate of every epoch, in closed form, as one of torch's schedulers."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from .config import LearningRate


def factor(rate: LearningRate, epoch: int, epochs: int) -> float:
    """Learning rate of an epoch as a fraction of the base rate.

    Args:
        rate: the schedule.
        epoch: from 1.
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


def scheduler(optimizer: Optimizer, rate: LearningRate, epochs: int, done: int = 0) -> LambdaLR:
    """A scheduler to be stepped once per epoch, standing where ``done`` epochs are over.

    Whatever the optimizer's ``initial_lr`` says is the base rate, so a resumed run follows its config.
    """
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    return LambdaLR(optimizer, lambda step: factor(rate, step + 1, epochs), last_epoch=done - 1)
