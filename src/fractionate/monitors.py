"""Monitors look at gradient streams and never change an update."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from .optim import StreamGrads


@dataclass(frozen=True)
class Gsnr:
    """Signal-to-noise ratio of one stream over one window.

    Args:
        ratio: |mean g|^2 / tr Var(g); inf when the gradient did not vary at all.
        signal: |mean g|^2 corrected for noise, max(0, |mean g|^2 - tr Var / N).
        noise: tr Var(g), the summed variance over all parameters (N - 1 in the denominator).
        count: N, gradients in the window.
    """

    ratio: float
    signal: float
    noise: float
    count: int


class GSNR:
    """Gradient signal-to-noise ratio per stream over a window of consecutive steps.

    GSNR_c = |mean g|^2 / tr Var(g), tr Var = (sum |g_i|^2 - N |mean g|^2) / (N - 1), over N flattened gradients.
    The streams must stay unmerged while it is measured (``stream_losses(..., merge=False)``).

    Args:
        window: N; at least 2.
        mode: ``"block"`` keeps a running sum and starts anew after N steps; ``"sliding"`` keeps the last N
            gradients (N times the memory: small models only).

    Source: arXiv 2505.15133 (window 200); the estimator's form is a reconstruction.

    Example:
        >>> monitor = GSNR(window=2)
        >>> for g in (1.0, 3.0):
        ...     monitor.update({"task": [torch.tensor([g])]})
        >>> monitor.read()["task"].ratio
        2.0
    """

    def __init__(self, window: int = 200, mode: Literal["block", "sliding"] = "block") -> None:
        if window < 2 or mode not in ("block", "sliding"):
            raise ValueError(
                f"GSNR: needs a window of at least 2 and mode 'block' or 'sliding', got {window}, {mode!r}"
            )
        self.window, self.mode = window, mode
        self._sums: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}
        self._count: dict[str, int] = {}
        self._recent: dict[str, deque[Tensor]] = {}
        self._last: dict[str, Gsnr] = {}

    @torch.no_grad()
    def update(self, grads: Mapping[str, object]) -> None:
        """Take in the gradients of one step; nothing is synchronized before :meth:`read`."""
        for name, g in _flat(grads).items():
            if self.mode == "sliding":
                self._recent.setdefault(name, deque(maxlen=self.window)).append(g)
                continue
            if self._count.get(name, 0) == self.window:
                self._last[name] = self._block(name)
                self._count[name] = 0
            fresh = self._count.get(name, 0) == 0
            self._sums[name] = g.clone() if fresh else self._sums[name].add_(g)
            square = g.square().sum()
            self._squares[name] = square if fresh else self._squares[name] + square
            self._count[name] = 1 if fresh else self._count[name] + 1

    def read(self) -> dict[str, Gsnr]:
        """The latest window of every stream with at least two gradients: a full block if there is one."""
        if self.mode == "sliding":
            return {n: _gsnr(*_moments(list(g))) for n, g in self._recent.items() if len(g) > 1}
        found = {}
        for name, count in self._count.items():
            if count == self.window or (name not in self._last and count > 1):
                found[name] = self._block(name)
            elif name in self._last:
                found[name] = self._last[name]
        return found

    def _block(self, name: str) -> Gsnr:
        return _gsnr(self._sums[name], self._squares[name], self._count[name])


def _moments(grads: list[Tensor]) -> tuple[Tensor, Tensor, int]:
    stack = torch.stack(grads)
    return stack.sum(0), stack.square().sum(), len(grads)


def _gsnr(total: Tensor, squares: Tensor, count: int) -> Gsnr:
    mean = float((total.double() / count).square().sum())
    noise = max(0.0, (float(squares) - count * mean) / (count - 1))
    ratio = mean / noise if noise > 0 else (float("inf") if mean > 0 else 0.0)
    return Gsnr(ratio, max(0.0, mean - noise / count), noise, count)


@torch.no_grad()
def norms(grads: StreamGrads | Mapping[str, object]) -> dict[str, float]:
    """Euclidean norm of every stream's gradient over all parameters.

    Example:
        >>> norms({"loss": [torch.tensor([3.0]), torch.tensor([4.0])]})
        {'loss': 5.0}
    """
    return {name: float(g.norm()) for name, g in _flat(grads).items()}


@torch.no_grad()
def cosines(grads: StreamGrads | Mapping[str, object]) -> dict[tuple[str, str], float]:
    """Cosine between the gradients of every pair of streams; 0 when one of them is zero.

    Example:
        >>> one, two = [torch.tensor([1.0, 0.0])], [torch.tensor([1.0, 1.0])]
        >>> round(cosines({"a": one, "b": two})["a", "b"], 4)
        0.7071
    """
    flat = _flat(grads)
    return {
        (a, b): float(torch.nn.functional.cosine_similarity(flat[a], flat[b], dim=0)) for a, b in combinations(flat, 2)
    }


@torch.no_grad()
def shares(grads: StreamGrads | Mapping[str, object]) -> dict[str, float]:
    """Part of every stream in the summed norms; they add up to 1 (all 0 when every gradient is)."""
    sizes = norms(grads)
    total = sum(sizes.values())
    return {name: size / total if total else 0.0 for name, size in sizes.items()}


def _flat(grads: Mapping[str, object]) -> dict[str, Tensor]:
    """Every stream as one vector over the parameters that any stream reaches; missing gradients are zeros."""
    rows = {name: list(g) for name, g in grads.items()}  # type: ignore[call-overload]
    like = [next((x for x in column if x is not None), None) for column in zip(*rows.values(), strict=True)]
    return {
        name: torch.cat(
            [
                (torch.zeros_like(z) if g is None else g).detach().flatten().float()
                for g, z in zip(row, like, strict=True)
                if z is not None
            ]
        )
        for name, row in rows.items()
    }
