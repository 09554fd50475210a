"""An average of the weights over the steps."""

from __future__ import annotations

import torch
from torch import nn

from ..models import copy_of, switched


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
