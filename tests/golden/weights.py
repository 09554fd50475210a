"""The golden networks' weights: every tensor of a state dict is filled by a formula, so none are stored."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def fill(net: nn.Module) -> nn.Module:
    """Fill all entries of the state dict; i counts entries, j runs over the elements of one."""
    state = net.state_dict()
    net.load_state_dict({key: entry(key, i, value) for i, (key, value) in enumerate(state.items())})
    return net


def entry(key: str, i: int, like: Tensor) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.zeros_like(like)
    s = noise(i, like.numel()).view(like.shape)
    if key.endswith("running_mean"):
        return 0.1 * s
    if key.endswith("running_var"):
        return 1 + 0.2 * s.abs()
    if like.ndim > 1:
        return (4.5 / like[0].numel()) ** 0.5 * s
    return 1 + 0.1 * s if key.endswith("weight") else 0.1 * s


def noise(i: int, size: int) -> Tensor:
    """s(i, j) for j = 0 .. size - 1: a fixed sequence in [-1, 1)."""
    j = torch.arange(size)
    return 2 * ((13 * j * j + (14 * i + 7) * j + 101 * i + 17) % 10007).double() / 10007 - 1
