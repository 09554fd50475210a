"""Weights that are no numbers are refused before they are used."""

from __future__ import annotations

import torch
from torch import nn


def check_weights(what: str, net: nn.Module) -> None:
    """Refuse weights and statistics that are not finite.

    Args:
        what: what to call the network: ``"student"``, ``"teacher"``.
        net: network.

    Raises:
        ValueError: with the name of the first such tensor.
    """
    for name, value in net.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise ValueError(
                f"the {what}'s weights are broken: {bad} of {value.numel()} values of {name!r} are NaN or infinite; "
                f"take another checkpoint"
            )
