"""Tiny language models: hidden states, an output matrix, labels with ignored tokens, a teacher."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

import fractionate as fr


class Words(NamedTuple):
    """Float64 leaves hidden [2, t, d], weight [c, d], bias [c]; labels with -100; dense teacher logits [2, t, c]."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor
    target: Tensor
    teacher: Tensor

    @property
    def leaves(self) -> list[Tensor]:
        return [self.hidden, self.weight, self.bias]

    @property
    def logits(self) -> Tensor:
        return torch.nn.functional.linear(*self.leaves)

    @property
    def rows(self) -> fr.Logits:
        """What the plain path works on."""
        return fr.rows.tokens(self.logits, self.teacher, self.target)

    def to(self, dtype: torch.dtype) -> Words:
        leaves = [x.detach().to(dtype).requires_grad_() for x in self.leaves]
        return Words(*leaves, self.target, self.teacher.to(dtype))


def words(t: int = 7, d: int = 5, c: int = 11, ignored: float = 0.3, seed: int = 0) -> Words:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=g, dtype=torch.float64)

    hidden, weight, bias = (x.requires_grad_() for x in (normal(2, t, d), normal(c, d), normal(c)))
    target = torch.randint(c, (2, t), generator=g)
    target = target.masked_fill(torch.rand(2, t, generator=g) < ignored, -100)
    return Words(hidden, weight, bias, target, normal(2, t, c, scale=3.0))


def gradients(loss: Tensor, leaves: list[Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, leaves, retain_graph=True)
    return dict(zip(("hidden", "weight", "bias"), found, strict=True))
