"""Monitors look at gradient streams and never change an update."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor

from ._spoken import spoken
from .optim import StreamAdamW, StreamGrads
from .optim.sharded import local

__all__ = ["GSNR", "Gsnr", "cosines", "norms", "shares"]


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

    @spoken
    def __init__(self, window: int = 200, mode: Literal["block", "sliding"] = "block") -> None:
        if window < 2 or mode not in ("block", "sliding"):
            raise ValueError(
                f"GSNR: needs a window of at least 2 and mode 'block' or 'sliding', got {window}, {mode!r}"
            )
        self.window, self.mode = window, mode
        self._blocks: dict[str, _Block] = {}
        self._full: dict[str, _Moments] = {}
        self._recent: dict[str, deque[Tensor]] = {}
        self._untold: set[str] = set()  # streams with a window that `ended` has not told

    @spoken
    @torch.no_grad()
    def update(self, grads: Mapping[str, object]) -> None:
        """Take in the gradients of one step; nothing is synchronized before :meth:`read`."""
        for name, g in _flat(grads).items():
            if self.mode == "sliding":
                self._recent.setdefault(name, deque(maxlen=self.window)).append(g)
                if len(self._recent[name]) == self.window:
                    self._untold.add(name)
            elif name in self._blocks:
                self._blocks[name].add(g)
            else:
                self._blocks[name] = _Block(g)
            if name in self._blocks and self._blocks[name].count == self.window:
                self._full[name] = self._blocks.pop(name).moments()
                self._untold.add(name)

    @torch.no_grad()
    def read(self) -> dict[str, Gsnr]:
        """The latest window of every stream with at least two gradients: a full block if there is one."""
        if self.mode == "sliding":
            return {name: _gsnr(_moments(g)) for name, g in self._recent.items() if len(g) > 1}
        begun = {name: block.moments() for name, block in self._blocks.items() if block.count > 1}
        return {name: _gsnr(moments) for name, moments in (begun | self._full).items()}

    def ended(self) -> dict[str, Gsnr | None]:
        """The window that ended since this was last asked, of every stream; of several the last, ``None`` without one.

        So a window is told once and an unfinished one never; a sliding window ends with every step, once it is full.

        Example:
            >>> monitor = GSNR(window=2)
            >>> for g in (1.0, 3.0, 4.0):
            ...     monitor.update({"task": [torch.tensor([g])]})
            >>> monitor.ended()["task"].ratio, monitor.ended()["task"]
            (2.0, None)
        """
        found = self.read() if self._untold else {}
        told = {name: found[name] if name in self._untold else None for name in self._names()}
        self._untold.clear()
        return told

    def _names(self) -> dict[str, None]:
        return dict.fromkeys((*self._full, *self._blocks, *self._recent))

    def state_dict(self) -> dict[str, Any]:
        """The windows, begun and full, on the CPU, and which of them :meth:`ended` has yet to tell."""
        return {
            "window": self.window,
            "mode": self.mode,
            "begun": {name: (b.mean.cpu(), b.spread.cpu(), b.count) for name, b in self._blocks.items()},
            "full": {name: (m.signal.cpu(), m.spread.cpu(), m.count) for name, m in self._full.items()},
            "recent": {name: [g.cpu() for g in recent] for name, recent in self._recent.items()},
            "untold": sorted(self._untold),
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        """Go on with saved windows; those of another length or mode start anew.

        Args:
            state: from :meth:`state_dict`.
            device: where the gradients are going to be.

        Example:
            >>> first, second = GSNR(window=2), GSNR(window=2)
            >>> first.update({"task": [torch.tensor([1.0])]})
            >>> second.load_state_dict(first.state_dict())
            >>> second.update({"task": [torch.tensor([3.0])]})
            >>> second.read()["task"].ratio
            2.0
        """
        if (state.get("window"), state.get("mode", "block")) != (self.window, self.mode):
            return
        for name, (mean, spread, count) in state["begun"].items():
            block = _Block(mean.to(device))
            block.spread, block.count = spread.to(device), count
            self._blocks[name] = block
        for name, (signal, spread, count) in state["full"].items():
            self._full[name] = _Moments(signal.to(device), spread.to(device), count)
        for name, recent in state.get("recent", {}).items():
            self._recent[name] = deque((g.to(device) for g in recent), maxlen=self.window)
        self._untold = set(state.get("untold", ()))  # an older one told all at an epoch's end


@dataclass(frozen=True, eq=False)
class _Moments:
    """|mean|^2 and the sum of squared distances from the mean, still on their device."""

    signal: Tensor
    spread: Tensor
    count: int


class _Block:
    """Running mean and spread of the gradients so far; never a difference of large sums (Welford 1962)."""

    @spoken
    def __init__(self, first: Tensor) -> None:
        self.mean, self.spread, self.count = first.clone(), torch.zeros_like(first[:1]).sum(), 1

    def add(self, g: Tensor) -> None:
        self.count += 1
        step = g - self.mean
        self.mean.add_(step, alpha=1 / self.count)
        self.spread += torch.dot(step, g - self.mean)

    def moments(self) -> _Moments:
        return _Moments(self.mean.square().sum(), self.spread, self.count)


def _moments(grads: Sequence[Tensor]) -> _Moments:
    """The same from all gradients at once, seen from the first one, so that equal gradients have no spread at all."""
    away = torch.stack([g - grads[0] for g in grads])
    mean = away.mean(0)
    return _Moments((grads[0] + mean).square().sum(), (away - mean).square().sum(), len(grads))


def _gsnr(moments: _Moments) -> Gsnr:
    signal, noise, count = float(moments.signal), float(moments.spread) / (moments.count - 1), moments.count
    ratio = signal / noise if noise else (float("inf") if signal else 0.0)
    return Gsnr(ratio, max(signal - noise / count, 0.0), noise, count)


@spoken
@torch.no_grad()
def norms(grads: StreamGrads | Mapping[str, object]) -> dict[str, float]:
    """Euclidean norm of every stream's gradient over all parameters.

    Example:
        >>> norms({"loss": [torch.tensor([3.0]), torch.tensor([4.0])]})
        {'loss': 5.0}
    """
    return {name: float(g.norm()) for name, g in _flat(grads).items()}


@spoken
@torch.no_grad()
def cosines(grads: StreamGrads | Mapping[str, object]) -> dict[tuple[str, str], float]:
    """Cosine between the gradients of every pair of streams; 0 when one of them is zero.

    Example:
        >>> one, two = [torch.tensor([1.0, 0.0])], [torch.tensor([1.0, 1.0])]
        >>> round(cosines({"a": one, "b": two})["a", "b"], 4)
        0.7071
    """
    unit = {name: g / n if (n := g.norm()) else g for name, g in _flat(grads).items()}
    return {(a, b): float(torch.dot(unit[a], unit[b])) for a, b in combinations(unit, 2)}


@spoken
@torch.no_grad()
def shares(grads: StreamGrads | Mapping[str, object]) -> dict[str, float]:
    """Part of every stream in the summed norms; they add up to 1 (all 0 when every gradient is)."""
    sizes = norms(grads)
    total = sum(sizes.values())
    return {name: size / total if total else 0.0 for name, size in sizes.items()}


@dataclass(frozen=True)
class UpdateRms:
    """Root mean square of an AdamW step in units of the learning rate.

    Args:
        overall: over all weights.
        largest: of the tensor that stepped farthest.
    """

    overall: float
    largest: float


@torch.no_grad()
def update_rms(optimizer: StreamAdamW) -> UpdateRms:
    """How far the last step of :class:`StreamAdamW` went, in units of ``lr`` and without weight decay.

    rms = sqrt(mean u^2), u = sum_c gain_c m_c / (1 - b_c^t) / (sqrt(v) / sqrt(1 - beta2^t) + eps). About 1 at most
    where streams are independent. Far above 1 they cancel in v, which looks at their sum, while moments of unequal
    memory do not: bound it by ``clip_rms``, or choose closer coefficients. Of parameters in shards this process's part
    is seen.

    Args:
        optimizer: after a step; 0 before the first.

    Example:
        >>> import fractionate as fr
        >>> p = torch.zeros(2)
        >>> optimizer = fr.StreamAdamW([p], betas={"a": 0.9, "b": 0.5})
        >>> optimizer.step({"a": [torch.ones(2)], "b": [torch.ones(2)]})
        >>> round(update_rms(optimizer).overall, 6)
        1.0
    """
    moves = [u for u in local(optimizer.updates().values()) if u.numel()]
    squares = [float(_wide(u).square().sum()) for u in moves]
    means = [square / u.numel() for square, u in zip(squares, moves, strict=True)]
    weights = sum(u.numel() for u in moves)
    return UpdateRms((sum(squares) / weights) ** 0.5 if weights else 0.0, max(means, default=0.0) ** 0.5)


def _flat(grads: Mapping[str, object]) -> dict[str, Tensor]:
    """Every stream as one vector over the trained parameters; missing gradients are zeros.

    For a plain mapping, which knows no parameters, over those that any stream reaches.
    """
    streams: Mapping[str, Any] = grads.streams if isinstance(grads, StreamGrads) else grads
    rows = {name: list(g) for name, g in streams.items()}
    if isinstance(grads, StreamGrads):
        like = [p if p.requires_grad else None for p in grads.parameters]
    else:
        like = [next((x for x in column if x is not None), None) for column in zip(*rows.values(), strict=True)]
    return {
        name: torch.cat(
            [_wide(torch.zeros_like(z) if g is None else g) for g, z in zip(row, like, strict=True) if z is not None]
        )
        for name, row in rows.items()
    }


def _wide(x: Tensor) -> Tensor:
    return x.detach().flatten().to(torch.promote_types(x.dtype, torch.float32))
