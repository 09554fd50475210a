"""One training step: rows -> a loss per stream -> a gradient per stream -> new weights; every step is taken here."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..data import Batch, pieces
from ..methods import Method
from ..methods.pixels import PixelMaps
from ..optim import AllReduce, StreamGrads, StreamOptimizer, UpdateAllReduce, stream_grads
from ..optim.grads import Reduce
from ..rows import Logits, Progress
from ..tasks import Diverged
from ..tasks.rows import gathered
from ..world import World
from .device import autocast
from .health import LossScale, NotFinite, blame, explain, gradient_diverged
from .join import Join
from .lockstep import Common
from .log import ROWS, UPDATE, Lap, Laps
from .parts import Part, as_rows, means_and_losses, taken

if TYPE_CHECKING:
    from .build import Training


@dataclass(frozen=True, eq=False)
class Step:
    """What one step did: detached scalars still on their device, and the gradients for monitors.

    Of a part of the step's rows it is that part's contribution to the means over all of them. A step that was
    ``skipped`` has moved nothing: in float16 a gradient has overflown under its loss scale.
    """

    loss: Tensor
    components: dict[str, Tensor]
    grads: StreamGrads
    skipped: bool = False

    def over(self, total: Tensor) -> Step:
        """Everything divided by the sum of all parts' shares; by 1 if no row counts."""
        total = torch.where(total == 0, torch.ones_like(total), total).to(self.loss.dtype)
        streams = {name: tuple(None if g is None else g / total for g in row) for name, row in self.grads.items()}
        components = {name: x / total for name, x in self.components.items()}
        return Step(self.loss / total, components, StreamGrads(streams, self.grads.parameters))


def train_step(
    trained: Sequence[Tensor],
    method: Method,
    optimizer: StreamOptimizer,
    rows: Logits | Iterable[Part],
    progress: Progress,
    merge: bool | None = None,
    *,
    ready: Callable[[Step, Progress], StreamGrads] | None = None,
    reduce: AllReduce | None = None,
    total: Callable[[Tensor], Tensor] | None = None,
    scaler: LossScale | None = None,
    lap: Lap | None = None,
) -> Step:
    """Differentiate every stream once for every part of the rows, and move the weights.

    Args:
        trained: parameters, as :func:`parameters` lists them.
        method: losses and streams.
        optimizer: with ``method.momenta(m, merge)``.
        rows: all of the step's, or its parts, which may be computed as they are asked for.
        progress: position in training.
        merge: as in ``method.stream_losses``.
        ready: what the optimizer gets of the step's gradients; by default all of them as they are.
        reduce: sums the gradients over processes, with those of the last part.
        total: given where shares do not add up to 1: from the sum of this process's, in float64, the sum of everyone's,
            by which everything is divided.
        scaler: multiplies the losses, for networks in float16, and divides the gradients.
        lap: told ``"rows"``, ``"backward"`` (with the stream's name if there are several) and ``"update"`` when each is
            over.

    Returns:
        What was done; the gradients are those before ``ready``.

    Raises:
        Diverged: a component is not finite; the weights have not moved.
    """
    step: Step | None = None
    shares: float | Tensor = 0.0
    for part in [Part(rows)] if isinstance(rows, Logits) else rows:
        last = reduce if part.last else None
        step = _differentiated(trained, method, part, progress, merge, step, last, scaler, lap)
        shares = shares + part.share
    assert step is not None
    if scaler:
        step = replace(step, grads=scaler.unscaled(step.grads, optimizer))
    if total:
        step = step.over(total(torch.as_tensor(shares, dtype=torch.float64, device=step.loss.device)))
    grads = ready(step, progress) if ready else step.grads
    if scaler:
        step = replace(step, skipped=not scaler.step(optimizer, grads))
    else:
        optimizer.step(grads)
    if lap:
        lap(UPDATE)
    return step


def _differentiated(
    trained: Sequence[Tensor],
    method: Method,
    part: Part,
    progress: Progress,
    merge: bool | None,
    before: Step | None,
    reduce: Reduce | None,
    scaler: LossScale | None,
    lap: Lap | None,
) -> Step:
    """The gradients of a part of a step, added to those of the parts before it."""
    try:
        means, losses = means_and_losses(method, part.lg, progress, merge)
    except ValueError as error:
        raise explain(error, method, as_rows(part.lg), progress) from error
    if lap:
        lap(ROWS)
        reduce = Laps(lap, reduce, one=len(losses) == 1)
    share, scale = part.share, part.share if part.scale is None else part.scale
    scaled = losses if not isinstance(scale, Tensor) and scale == 1 else {name: scale * x for name, x in losses.items()}
    if scaler:
        scaled = {name: scaler.inner.scale(x) for name, x in scaled.items()}
    grads = stream_grads(scaled, trained, onto=before.grads if before else None, reduce=reduce)
    loss = share * functools.reduce(torch.add, [x.detach() for x in losses.values()])
    found = {name: share * x.detach() for name, x in means.items()}
    if before:
        loss, found = before.loss + loss, {name: before.components[name] + x for name, x in found.items()}
    return Step(loss, found, grads)


class Stepper:
    """Moves the weights by one batch, or by this process's part of it: batch -> rows -> :func:`train_step`.

    A step's gradient is the sum over its parts, here and in other processes, of share * gradient of the part's mean,
    share = sum of the part's row weights / sum of all. Methods that compare the rows of a batch get those of all
    processes.

    Args:
        training: from :func:`prepare`.
        trained: parameters.
        world: the processes that take every step together; by default this one alone.
        lap: as for :func:`train_step`.
        common: what is shared with the students beside this one, where there are any.
    """

    def __init__(
        self,
        training: Training,
        trained: list[nn.Parameter],
        world: World | None = None,
        lap: Lap | None = None,
        common: Common | None = None,
    ) -> None:
        self.training, self.trained, self.world, self.lap = training, trained, world or World(), lap
        self.teacher = training.teacher
        if common and self.teacher and not training.method.regions:  # those come out of the network itself
            self.teacher = common.answers(self.teacher)
        together = None if self.world.alone else training.run.parallel.sync
        self.reduce = AllReduce(scale=1.0) if together == "gradients" else None
        self.exchange = UpdateAllReduce(training.optimizer) if together == "update" else None
        self.scaler = LossScale(trained[0].device) if training.run.precision == "float16" else None
        self.join = Join(training.run, training.method, self.world)
        o, rule = training.run.optimizer, training.run.combine != "none"
        self.ready = self.join if rule or o.clip is not None or o.clip_streams is not None else None
        self.autocast = autocast(training.run, trained[0].device)
        self.whole = not (self.world.alone or training.method.row_wise)  # every process sees all rows
        parts = 1 if self.whole else self.world.size * training.run.accumulate
        self.total = self.world.sum_ if parts > 1 and not training.task.even else None

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
        t = self.training
        try:
            step = train_step(
                self.trained,
                t.method,
                t.optimizer,
                self._parts(batch),
                progress,
                t.merge,
                ready=self.ready,
                reduce=self.reduce,
                total=self.total,
                scaler=self.scaler,
                lap=self.lap,
            )
        except NotFinite as found:
            raise self._blame(found, batch, progress, None) from found
        except Diverged as own:
            if self.reduce:
                self._tell(own, self.reduce, batch, progress)
            raise
        if step.skipped:
            self._heed(progress)
        return step

    def _parts(self, batch: Batch) -> Iterator[Part]:
        """The rows of one part of the batch after the other."""
        count, processes = self.training.run.accumulate, self.world.size if self.exchange else 1
        parts = [batch] if count == 1 else pieces(batch, count)
        for piece in parts:
            lg, last = self._rows(piece), piece is parts[-1]
            if self.whole:
                yield Part(lg, 1 / self.world.size, 1.0 * processes, last)
                continue
            # what the rows count for, per image of the whole step; nothing if they are borrowed
            share = piece.share if not self.total else lg.total_weight * bool(piece.share) / (piece.whole or len(piece))
            yield Part(lg, share, share * processes, last)

    def _rows(self, batch: Batch) -> Logits | PixelMaps:
        t = self.training
        if t.method.views == 1 and batch.strong is not None:  # nothing reads it, and batch norms would average over it
            batch = replace(batch, strong=None)
        with self.autocast:
            lg = taken(t.task, t.method, t.student, self.teacher, batch)
        if t.method.row_wise or isinstance(lg, PixelMaps):
            return lg
        return gathered(lg, self.world, lg.rows if batch.share else 0)

    def _tell(self, own: Diverged, reduce: AllReduce, batch: Batch, progress: Progress) -> None:
        """Let the other processes hear of an error here, or they would wait for these gradients."""
        bad = tuple(torch.full_like(p, math.nan) for p in self.trained)
        t, optimizer = self.training, self.training.optimizer
        streams = t.method.momenta(t.run.optimizer.base, t.merge)
        found = {name: reduce.start(name, self.trained, bad) for name in streams}
        reduce.finish()
        if self.total:
            self.total(torch.zeros((), dtype=torch.float64, device=bad[0].device))
        grads = StreamGrads(found, tuple(self.trained))
        if self.scaler:
            grads = self.scaler.unscaled(grads, optimizer)
        try:
            grads = self.join(Step(bad[0].sum(), {}, grads), progress)
            if self.scaler:
                self.scaler.step(optimizer, grads)
                self.world.everyones(str(own))
            else:
                optimizer.step(grads)
        except NotFinite as seen:
            raise self._blame(seen, batch, progress, own) from seen

    def _heed(self, progress: Progress) -> None:
        """After a step that was left out: hear what another process has to say, and end where no scale is left."""
        said = next((words for words in self.world.everyones(None) if words), None)
        if said:
            raise Diverged(said)
        if self.scaler and self.scaler.value < 1:
            streams = "+".join(self.training.optimizer.momenta)
            raise gradient_diverged(self.training.method, progress.epoch, progress.step, streams, math.inf)

    def _blame(self, found: NotFinite, batch: Batch, progress: Progress, own: Diverged | None) -> Diverged:
        """The error for gradients that are not finite; of several processes, by the one that knows most."""
        t = self.training
        if self.world.alone:
            lg = as_rows(self._rows(batch))  # the first pass's graph is gone
            return blame(t.method, found, lg, progress, self.trained)
        said = next((words for words in self.world.everyones(own and str(own)) if words), None)
        if said:
            return Diverged(said)
        return gradient_diverged(t.method, progress.epoch, progress.step, found.stream, found.value)
