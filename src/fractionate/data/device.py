"""Small tensors drawn on the CPU, on their way to where the images live."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(x: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on ``device``; through pinned memory, so that the CPU does not wait for a GPU."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)
