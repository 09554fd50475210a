"""The small tanh network of the optimizer cases."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from . import Case

SAVED_AFTER = (1, 5, 10, 20)


class Network(nn.Module):
    """z = tanh(x w1' + b1) w2' + b2; parameters in the order of the golden files."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        start = case.inputs()
        for name in ("w1", "b1", "w2", "b2"):
            setattr(self, name, nn.Parameter(start[name]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.w1.T + self.b1) @ self.w2.T + self.b2

    def flat(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.parameters()])


def batches(case: Case) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """x, target and teacher logits of each step."""
    data = case.inputs()
    yield from zip(data["x"], data["target"], data["teacher"], strict=True)
