"""A step's streams as one gradient, by the combine rule of the config."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..combine import STREAM, summed_by, weights
from ..config.run import Run
from ..methods import Method
from ..optim import Momenta, StreamGrads
from ..optim.products import BrokenGradient
from ..rows import Progress
from ..world import World
from .health import NotFinite, largest_entries
from .log import unmerged

APART = 1_000_003  # between the seeds of runs, whose steps are counted up from there


def streams_to_join(run: Run, method: Method) -> tuple[Method, Momenta]:
    """The method whose streams are combined, a single stream taken apart; and the one momentum of the optimizer."""
    return unmerged(method), Momenta({STREAM: run.optimizer.base}, base=run.optimizer.base)


class Join:
    """The combine rule of a run.

    Args:
        run: the config.
        world: the processes whose gradients have been summed.

    Attributes:
        weights: of the last step.
    """

    def __init__(self, run: Run, world: World) -> None:
        self.run, self.world = run, world
        self.weights: dict[str, float] = {}

    def __call__(self, grads: StreamGrads, losses: Mapping[str, Tensor], progress: Progress) -> StreamGrads:
        """One stream instead of all; the same if the config asks for no rule.

        Args:
            grads: of the whole step, those of all processes.
            losses: this process's contributions to the losses; of streams that diverged here, none.
            progress: position in training.

        Raises:
            NotFinite: a gradient is not finite.
            ValueError: a loss without a logarithm.
        """
        rule = self.run.combine
        if rule == "none":
            return grads
        whole = self._of_all(grads, losses) if rule == "min_norm_log" else None
        try:
            self.weights = weights(grads, rule, whole, seed=APART * self.run.seed + progress.step)
        except BrokenGradient as error:
            largest = float(largest_entries({error.stream: grads[error.stream]}))
            raise NotFinite(error.stream, largest) from error
        return StreamGrads({STREAM: summed_by(grads, self.weights)}, grads.parameters)

    def columns(self) -> dict[str, float]:
        """Columns of the metrics: ``combine/<stream>``, the weight of the last step; none where all of them are 1."""
        return {f"combine/{name}": w for name, w in self.weights.items()} if self.run.combine != "total" else {}

    def _of_all(self, grads: StreamGrads, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every stream's loss over all rows of the step."""
        there = next(g for row in grads.values() for g in row if g is not None)
        missing = torch.full((), math.nan)
        found = torch.stack([losses.get(name, missing).to(there.device, torch.float64) for name in grads])
        return dict(zip(grads, self.world.sum_(found).unbind(), strict=True))
