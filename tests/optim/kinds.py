"""The table of stream optimizers: each property of theirs is stated once, for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import fractionate as fr
from fractionate import Method
from tests.optim.problem import network, step_once

Streams = fr.StreamSGD | fr.StreamAdamW


@dataclass(frozen=True)
class Kind:
    """A stream optimizer, and torch's that it is where all coefficients are equal.

    Args:
        name: for reading.
        make: from parameters and momenta.
        plain: torch's, from parameters and one coefficient.
        lr: learning rate for the small problems.
        shared: state that belongs to no stream.
    """

    name: str
    make: Callable[..., Streams]
    plain: Callable[..., torch.optim.Optimizer]
    lr: float
    shared: tuple[str, ...] = ()

    def trained(self, method: Method, steps: int = 8, merge: bool | None = None, **options: Any) -> Any:
        """The student of ``problem.network`` and its optimizer after some steps."""
        net = network()
        opt = self.make(net.parameters(), method.momenta(0.9, merge=merge), **options)
        for step in range(steps):
            step_once(net, opt, method, step, merge)
        return net, opt


def sgd(params: Iterable[Any], momenta: float | Mapping[str, float], **options: Any) -> fr.StreamSGD:
    return fr.StreamSGD(params, **{"lr": 0.05, "momentum": momenta, "weight_decay": 0.02, **options})


def adamw(params: Iterable[Any], momenta: float | Mapping[str, float], **options: Any) -> fr.StreamAdamW:
    return fr.StreamAdamW(params, **{"lr": 0.01, "betas": momenta, "weight_decay": 0.02, **options})


def torch_sgd(params: Iterable[Any], m: float, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(params, **{"lr": 0.05, "momentum": m, "weight_decay": 0.02, **options})


def torch_adamw(params: Iterable[Any], m: float, **options: Any) -> torch.optim.AdamW:
    return torch.optim.AdamW(params, **{"lr": 0.01, "betas": (m, 0.999), "weight_decay": 0.02, **options})


KINDS = [
    Kind("StreamSGD", sgd, torch_sgd, 0.05),
    Kind("StreamAdamW", adamw, torch_adamw, 0.01, shared=("exp_avg_sq", "step")),
]
EACH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def assert_same(a: nn.Module, b: nn.Module) -> None:
    """Equal to the last bit."""
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q), name
