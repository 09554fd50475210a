"""From the network part of a config to a network with its weights, and from a name to a device."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..models import create, load_checkpoint
from .config import Network


def build(config: Network, num_classes: int) -> nn.Module:
    """The network, filled from its checkpoint if it has one.

    Raises:
        ValueError: an unknown name, or a checkpoint that does not fit.
        FileNotFoundError: no checkpoint there.

    Example:
        >>> build(Network("convnet_4_8"), num_classes=10).fc.out_features
        10
    """
    net = create(
        config.name,
        num_classes=num_classes,
        pretrained=config.pretrained and not config.checkpoint,  # the file brings every weight
        stem=config.stem,
        published_bn=config.published_bn,
    )
    if config.checkpoint:
        load_checkpoint(net, config.checkpoint)
    return net


def in_channels_last(net: nn.Module) -> nn.Module:
    """The same network, its weights laid out channels last."""
    convertible: Any = net  # torch's annotations do not know this call in every release
    return convertible.to(memory_format=torch.channels_last)


def place(name: str) -> torch.device:
    """The device that a config names; ``"auto"`` is a GPU if there is one.

    Raises:
        ValueError: a GPU asked for that is not there.

    Example:
        >>> place("cpu")
        device(type='cpu')
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but torch finds no GPU; use device=cpu or device=auto")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")
