"""GSNR (section 9.5) of a window of gradients, from all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Gsnr(NamedTuple):
    signal: float
    noise: float
    ratio: float
    corrected_signal: float


def gsnr(gradients: Sequence[Tensor]) -> Gsnr:
    """|mean g|^2 / tr Var(g); corrected_signal = max(0, |mean g|^2 - tr Var / N)."""
    g = torch.stack([x.flatten() for x in gradients]).double()
    signal = float((g.mean(0) ** 2).sum())
    noise = float(g.var(0, unbiased=True).sum())
    ratio = signal / noise if noise > 0 else float("inf")
    return Gsnr(signal, noise, ratio, max(0.0, signal - noise / len(g)))
