"""An average of the weights over the steps."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from ..models import copy_of, switched

START = 0.05  # share of the weights that it began with, from which an average is not that of the training


def check_average(decay: float, steps: int) -> None:
    """Warn of an average that will hold the untrained network still when the last step is over.

    Args:
        decay: per step.
        steps: of the whole run; the average then holds decay^steps of its start.

    Warns:
        UserWarning: more than a twentieth is left of it.
    """
    if (left := decay**steps) <= START:
        return
    usable = START ** (1 / steps)
    warnings.warn(
        f"ema={decay:g} still holds {100 * left:.0f} % of the untrained weights after the {steps:,} steps of this run, "
        f"and it is what is measured and kept: give at most ema={int(usable * 1e4) / 1e4:g}, a longer run, or ema=null",
        stacklevel=3,
    )


class Average:
    """Exponential moving average of a network: a copy whose parameters follow slowly.

    a <- decay a + (1 - decay) theta after every step, a = theta at first; buffers (the statistics of batch norms) are
    those of the network itself.

    Args:
        net: the network that is trained.
        decay: between 0 and 1; about 1 / (1 - decay) steps are averaged over.

    Source: Polyak and Juditsky 1992; with exponential weights as is usual in training networks.

    Example:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(net.weight)
        >>> average = Average(net, decay=0.75)
        >>> _ = nn.init.ones_(net.weight)
        >>> average.update(net)
        >>> average.net.weight.item()
        0.25
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.net = switched(copy_of(net), False).requires_grad_(False)

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move towards the network; nothing is synchronized."""
        own, new = ([p.detach() for p in n.parameters()] for n in (self.net, net))
        if own:
            torch._foreach_lerp_(own, new, 1 - self.decay)
        for mine, theirs in zip(self.net.buffers(), net.buffers(), strict=True):
            mine.copy_(theirs)
