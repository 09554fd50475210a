"""DeepKD's step the way published code takes it: a backward pass per loss through ``p.grad``, then loops over tensors.

For parameters that every loss reaches. The rules are those of ``optim.py``, in the in-place form that the benchmarks
compare with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

ORDER = ("task", "nontarget", "target")


class PublishedStep:
    def __init__(
        self,
        params: Sequence[Tensor],
        *,
        lr: float,
        momenta: Mapping[str, float],
        weight_decay: float,
        rule: Literal["paper", "published-code"],
    ) -> None:
        self.params = [p for p in params if p.requires_grad]
        self.lr, self.momenta, self.weight_decay, self.rule = lr, momenta, weight_decay, rule
        self.buffers: dict[str, list[Tensor]] = {}

    def backward(self, losses: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """One pass per loss, whether or not two of them share a momentum."""
        grads = {}
        for name, loss in losses.items():
            for p in self.params:
                p.grad = None
            loss.backward(retain_graph=True)
            grads[name] = [p.grad for p in self.params]
        return grads

    @torch.no_grad()
    def step(self, grads: Mapping[str, Sequence[Tensor]]) -> None:
        if self.rule == "paper":
            decayed = [g.add(p, alpha=self.weight_decay) for g, p in zip(grads["task"], self.params, strict=True)]
            for name in ORDER:
                self._move(name, decayed if name == "task" else grads[name], self.momenta[name])
            return
        self._move("task", grads["task"], self.momenta["target"])
        self._move("nontarget", grads["nontarget"], self.momenta["nontarget"])
        decayed = [g.add(p, alpha=self.weight_decay) for g, p in zip(grads["target"], self.params, strict=True)]
        self._move("target", decayed, self.momenta["target"])

    def _move(self, name: str, grads: Sequence[Tensor], momentum: float) -> None:
        first = name not in self.buffers
        if first:
            self.buffers[name] = [g.clone() for g in grads]
        for p, g, buffer in zip(self.params, grads, self.buffers[name], strict=True):
            if not first:
                buffer.mul_(momentum).add_(g)
            p.add_(buffer, alpha=-self.lr)
