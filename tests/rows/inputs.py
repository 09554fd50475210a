"""Rows for the tests of this folder: random logits and labels, maps with ignored pixels, rows that hold everything."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits
from tests import cases

B, C, H, W = 2, 5, 4, 6
METHODS = [fr.methods.kd(), fr.methods.dkd(warmup=1), fr.methods.gdkd(k=2, warmup=1)]
EACH = pytest.mark.parametrize("method", METHODS, ids=repr)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def labels(*shape: int, classes: int = C, seed: int = 0) -> Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def maps() -> tuple[Tensor, Tensor, Tensor]:
    """Student and teacher maps with labels, a third of them ignored."""
    y = labels(B, H, W)
    return random(B, C, H, W, seed=1), 3 * random(B, C, H, W, seed=2), y.where(y > 1, 255)


def everything(n: int) -> Logits:
    """Rows with two views, weights, a ranking, a further teacher, three regions each and an extra loss."""
    lg = cases.easy(n=n, c=C)
    regions = Logits(random(3 * n, C), random(3 * n, C, seed=1), lg.target.repeat_interleave(3))
    return replace(
        lg,
        weight=random(n).square(),
        ranking=random(n, C),
        teachers=(random(n, C),),
        regions=regions,
        extra={"hint": random(n)},
    )
