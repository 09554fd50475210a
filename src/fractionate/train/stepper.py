"""One step of a training: by one process or by several, of a whole batch or of parts that follow each other."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from ..data import Batch, pieces
from ..optim import AllReduce, StreamGrads, UpdateAllReduce, clip_streams, clip_total
from ..rows import Logits, Progress
from .gather import gathered
from .guard import NotFinite, blame
from .log import Diverged, explain, gradient_diverged
from .prepare import Training, autocast
from .step import Step, differentiate, rows_of
from .world import World


class Stepper:
    """Moves the weights by one batch, or by this process's part of it.

    A step's gradient is the sum over its parts, here and in other processes, of share * gradient of the part's mean.
    Methods that compare the rows of a batch get those of all processes.

    Args:
        training: from :func:`prepare`.
        trained: parameters.
        world: the processes that take every step together.
    """

    def __init__(self, training: Training, trained: list[nn.Parameter], world: World) -> None:
        self.training, self.trained, self.world = training, trained, world
        together = None if world.alone else training.run.parallel.sync
        self.reduce = AllReduce(scale=1.0) if together == "gradients" else None
        self.exchange = UpdateAllReduce(training.optimizer) if together == "update" else None

    def exchanging(self) -> AbstractContextManager[object]:
        """Around steps: what the optimizer does beside its own work."""
        return self.exchange or nullcontext()

    def settle(self) -> None:
        """Make the main process's momentum buffers those of all."""
        if self.exchange:
            self.exchange.average_buffers()

    def __call__(self, batch: Batch, progress: Progress) -> Step:
        """Move the weights.

        Raises:
            Diverged: a loss or a gradient is not finite, in any process; the weights have not moved.
        """
        step, own = None, None
        try:
            for piece in (parts := pieces(batch, self.training.run.accumulate)):
                step = self._differentiate(piece, progress, step, self.reduce if piece is parts[-1] else None)
        except Diverged as error:
            if self.reduce is None:
                raise
            own = error  # the others must hear of it, or they would wait for these gradients
            step = Step(torch.tensor(math.nan), {}, self._poison(self.reduce))
        assert step is not None
        try:
            self.training.optimizer.step(self._clipped(step.grads))
        except NotFinite as found:
            raise self._blame(found, batch, progress, own) from found
        if own:  # nobody has looked at the gradients
            raise own
        return step

    def _differentiate(self, batch: Batch, progress: Progress, before: Step | None, reduce: AllReduce | None) -> Step:
        """The gradients of a part of a step, added to those of the parts before it."""
        t = self.training
        lg = self._rows(batch)
        whole = not (self.world.alone or t.method.row_wise)  # every process sees all rows
        share = 1 / self.world.size if whole else batch.share
        scale = (1.0 if whole else batch.share) * (self.world.size if self.exchange else 1)
        try:
            return differentiate(
                self.trained, t.method, lg, progress, t.merge, share=share, scale=scale, before=before, reduce=reduce
            )
        except ValueError as error:
            raise explain(error, t.method, lg, progress) from error

    def _rows(self, batch: Batch) -> Logits:
        t = self.training
        with autocast(t.run, batch.images.device):
            lg = rows_of(t.method, t.student, t.teacher, batch)
        return lg if t.method.row_wise else gathered(lg, self.world, len(batch) if batch.share else 0)

    def _clipped(self, grads: StreamGrads) -> StreamGrads:
        o = self.training.run.optimizer
        grads = grads if o.clip_streams is None else clip_streams(grads, o.clip_streams)
        return grads if o.clip is None else clip_total(grads, o.clip)

    def _poison(self, reduce: AllReduce) -> StreamGrads:
        """Gradients that are NaN, here and thereby everywhere."""
        bad = tuple(torch.full_like(p, math.nan) for p in self.trained)
        found = {name: reduce.start(name, self.trained, bad) for name in self.training.optimizer.momenta}
        reduce.finish()
        return StreamGrads(found, tuple(self.trained))

    def _blame(self, found: NotFinite, batch: Batch, progress: Progress, own: Diverged | None) -> Diverged:
        """The error for gradients that are not finite; of several processes, by the one that knows most."""
        t = self.training
        if self.world.alone:
            return blame(t.method, found, self._rows(batch), progress, self.trained)  # the first pass's graph is gone
        said = next((words for words in self.world.everyones(own and str(own)) if words), None)
        if said:
            return Diverged(said)
        return gradient_diverged(t.method, progress.epoch, progress.step, found.stream, found.value)
