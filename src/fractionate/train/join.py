"""What an optimizer gets of a step: streams clipped, joined by the combine rule of the config, and clipped as a sum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..combine import STREAM, summed_by, weights
from ..config.run import Run
from ..methods import Method
from ..optim import StreamGrads, clip_streams, clip_total
from ..optim.products import BrokenGradient
from ..rows import Progress
from ..world import World
from .health import NotFinite, largest_entries

if TYPE_CHECKING:
    from .step import Step

APART = 1_000_003  # between the seeds of runs, whose steps are counted up from there


class Join:
    """From the gradients of a step to those of the optimizer, as a config wants it.

    Args:
        run: the config.
        method: with the streams that are combined.
        world: the processes whose gradients have been summed.

    Attributes:
        weights: of the streams in the last step.
    """

    def __init__(self, run: Run, method: Method, world: World) -> None:
        self.run, self.method, self.world = run, method, world
        self.weights: dict[str, float] = {}

    def __call__(self, step: Step, progress: Progress) -> StreamGrads:
        """Streams clipped each, one stream instead of all if there is a rule, and clipped as a sum.

        Args:
            step: all of it; gradients of all processes, and this process's contributions to the means of the
                components, or none where it has diverged.
            progress: position in training.

        Raises:
            NotFinite: a gradient that is combined is not finite.
            ValueError: a loss without a logarithm.
        """
        o = self.run.optimizer
        grads = step.grads if o.clip_streams is None else clip_streams(step.grads, o.clip_streams)
        grads = self._combined(grads, step.components, progress)
        return grads if o.clip is None else clip_total(grads, o.clip * self.method.update.magnified)

    def columns(self) -> dict[str, float]:
        """Columns of the metrics: ``combine/<stream>``, the weight in the last step; none where all of them are 1."""
        return {f"combine/{name}": w for name, w in self.weights.items()} if self.run.combine != "total" else {}

    def _combined(self, grads: StreamGrads, components: Mapping[str, Tensor], progress: Progress) -> StreamGrads:
        rule = self.run.combine
        if rule == "none":
            return grads
        losses = self._losses(grads, components, progress) if rule == "min_norm_log" else None
        try:
            self.weights = weights(grads, rule, losses, seed=APART * self.run.seed + progress.step)
        except BrokenGradient as error:
            if self.run.precision == "float16":  # the loss scale leaves the step out
                return grads
            largest = float(largest_entries({error.stream: grads[error.stream]}))
            raise NotFinite(error.stream, largest) from error
        return StreamGrads({STREAM: summed_by(grads, self.weights)}, grads.parameters)

    def _losses(self, grads: StreamGrads, components: Mapping[str, Tensor], progress: Progress) -> dict[str, Tensor]:
        """Every stream's loss over all rows of the step: a weighted sum of its components, like each part's."""
        there = next(g for row in grads.values() for g in row if g is not None)
        own = self.method.combine(components, progress, merge=False) if components else {}
        missing = torch.full((), math.nan)
        found = torch.stack([own.get(name, missing).to(there.device, torch.float64) for name in grads])
        return dict(zip(grads, self.world.sum_(found).unbind(), strict=True))
