"""Monitors of one run, read once per epoch; they see gradients and change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..methods import Method, resplit
from ..monitors import GSNR, cosines, norms
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
        return self.gsnr.state_dict() if self.gsnr else {}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on with saved windows; windows of another length start anew."""
        if self.gsnr and state:
            self.gsnr.load_state_dict(state, device)
