"""What is done to any network, whoever wrote it: it is named, copied, and brought into a mode."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from .._spoken import in_words


def name_of(net: nn.Module) -> str:
    """The class of a network, for messages."""
    return str(getattr(net, "original_name", type(net).__name__))  # a script module keeps its class's name there


def copy_of(net: nn.Module) -> nn.Module:
    """``copy.deepcopy`` that also copies networks which keep tensors computed from their weights.

    Weight norm and spectral norm of the older kind keep such a tensor and compute it anew in every pass.

    Example:
        >>> import torch
        >>> net = nn.utils.weight_norm(nn.Linear(2, 3))
        >>> torch.equal(copy_of(net)(torch.ones(1, 2)), net(torch.ones(1, 2)))
        True
    """
    kept = (x for module in net.modules() for x in vars(module).values() if isinstance(x, Tensor) and not x.is_leaf)
    return copy.deepcopy(net, {id(x): x.detach().clone() for x in kept})


def switched(net: nn.Module, training: bool) -> nn.Module:
    """The network in training or evaluation mode; a ``train`` of somebody's own need not return it.

    Raises:
        ValueError: that ``train`` raised something.

    Example:
        >>> switched(nn.Dropout(), False).training
        False
    """
    try:
        net.train(training)
    except Exception as error:
        if not isinstance(net, nn.Module):
            raise
        raise ValueError(f"train({training}) of the network {name_of(net)} failed: {in_words(error)}") from error
    return net
