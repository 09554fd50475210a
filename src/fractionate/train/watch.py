"""Monitors of one run, read once per epoch; they see gradients and change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..methods import Method, resplit
from ..monitors import GSNR, _Block, _Moments, cosines, norms
from ..optim import StreamGrads
from .config import Monitors


def unmerged(method: Method) -> Method:
    """The method as it is watched: a single stream is taken apart into its components, all at the same momentum.

    Example:
        >>> import fractionate as fr
        >>> [s.name for s in unmerged(fr.methods.kd()).streams]
        ['task', 'kd']
    """
    if len(method.streams) > 1 or len(method.parts) == 1:
        return method
    return resplit(method, {name: (name,) for name in method.parts}, {})


class Watch:
    """Everything a config asks to observe about the gradients.

    Args:
        monitors: what to observe.
    """

    def __init__(self, monitors: Monitors) -> None:
        self.monitors = monitors
        self.gsnr = GSNR(monitors.gsnr_window) if monitors.gsnr_window else None
        self.last: StreamGrads | None = None

    def see(self, grads: StreamGrads) -> None:
        """Take in the gradients of one step."""
        self.last = grads
        if self.gsnr:
            self.gsnr.update(grads)

    def read(self) -> dict[str, float]:
        """Columns of the metrics: ``gsnr/<stream>``, ``norm/<stream>``, ``cosine/<stream>|<stream>``."""
        found = {f"gsnr/{name}": g.ratio for name, g in self.gsnr.read().items()} if self.gsnr else {}
        if self.last and self.monitors.norms:
            found |= {f"norm/{name}": x for name, x in norms(self.last).items()}
        if self.last and self.monitors.cosines:
            found |= {f"cosine/{a}|{b}": x for (a, b), x in cosines(self.last).items()}
        return found

    def state_dict(self) -> dict[str, Any]:
        """The windows, begun and full; the gradients of the last step belong to a finished epoch and are not kept."""
        if not self.gsnr:
            return {}
        begun = {name: (b.mean.cpu(), b.spread.cpu(), b.count) for name, b in self.gsnr._blocks.items()}
        full = {name: (m.signal.cpu(), m.spread.cpu(), m.count) for name, m in self.gsnr._full.items()}
        return {"window": self.gsnr.window, "begun": begun, "full": full}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on with saved windows; windows of another length start anew."""
        if not self.gsnr or state.get("window") != self.gsnr.window:
            return
        for name, (mean, spread, count) in state["begun"].items():
            block = _Block(mean.to(device))
            block.spread, block.count = spread.to(device), count
            self.gsnr._blocks[name] = block
        for name, (signal, spread, count) in state["full"].items():
            self.gsnr._full[name] = _Moments(signal.to(device), spread.to(device), count)
