"""One training step: rows -> a loss per stream -> a gradient per stream -> new weights; by one process or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Batch, pieces
from ..methods import Method
from ..methods.method import sum_of
from ..models import logits_of
from ..optim import AllReduce, StreamGrads, StreamOptimizer, UpdateAllReduce, clip_streams, clip_total, stream_grads
from ..rows import Logits, Progress, weighted_mean
from ..tasks.classification import Diverged, region_rows
from ..teachers.live import Teacher
from ..world import World
from .build import Training, autocast
from .health import NotFinite, blame
from .join import Join
from .log import explain, gradient_diverged


def gathered(lg: Logits, world: World, count: int) -> Logits:
    """The rows of all processes, in which only this process's own carry a gradient.

    Every process then computes the loss of the whole batch, and the sum over processes of the parameters' gradients is
    that loss's gradient. Costs ``[n, c]`` numbers per view and network, not a gradient's size.

    Args:
        lg: this process's rows.
        world: the processes.
        count: rows of ``lg`` that belong to the batch; 0 if they are borrowed.
    """
    if world.alone:
        return lg
    own = lg[slice(0, count)]
    return Logits(**{f.name: _together(getattr(own, f.name), world) for f in fields(Logits)})


def _together(value: Any, world: World) -> Any:
    if isinstance(value, Tensor):
        parts = world.rows(value.detach())
        parts[world.rank] = value
        return torch.cat(parts)
    if isinstance(value, Logits):
        return gathered(value, world, value.rows)
    if isinstance(value, tuple):
        return tuple(_together(x, world) for x in value)
    if isinstance(value, dict):
        return {name: _together(x, world) for name, x in value.items()}
    return value


@dataclass(frozen=True, eq=False)
class Step:
    """What one step did: detached scalars still on their device, and the gradients for monitors.

    Of a part of the step's rows it is that part's contribution to the means over all of them.
    """

    loss: Tensor
    components: dict[str, Tensor]
    grads: StreamGrads
    losses: Mapping[str, Tensor] = field(default_factory=dict)  # of the streams


def make_rows(student: nn.Module, teacher: Teacher | None, batch: Batch) -> Logits:
    """Student and teacher logits of a batch, in float32 (float64 stays).

    Two views are two forward passes of the student, so each has batch-norm statistics of its own. Without a teacher its
    place is taken by the student's own detached logits, which a method without distillation terms never reads.
    """
    views = [_float(logits_of(student, batch.images, "student"))]
    if batch.strong is not None:
        views.append(_float(logits_of(student, batch.strong, "student")))
    given = [v.detach() for v in views] if teacher is None else _logits(teacher, batch, views[0].dtype)
    strong = None if batch.strong is None else Logits(views[1], given[1], batch.target)
    return Logits(views[0], given[0], batch.target, strong=strong)


def rows_of(method: Method, student: nn.Module, teacher: Teacher | None, batch: Batch) -> Logits:
    """The rows that a method reads: :func:`make_rows`, with the logits of image regions if it needs them."""
    if method.regions:
        return region_rows(student, teacher, batch, method.regions)
    return make_rows(student, teacher, batch)


def differentiate(
    trained: Sequence[Tensor],
    method: Method,
    lg: Logits,
    progress: Progress,
    merge: bool | None = None,
    *,
    share: float = 1.0,
    scale: float | None = None,
    before: Step | None = None,
    reduce: AllReduce | None = None,
) -> Step:
    """Differentiate every stream once.

    Args:
        trained: parameters, as :func:`parameters` lists them.
        method: losses and streams.
        lg: rows; all of the step's, or a part of them.
        progress: position in training.
        merge: as in ``method.stream_losses``.
        share: weight of these rows in the step's means.
        scale: factor on the gradients; by default ``share``.
        before: earlier parts of the same step, to which this one is added.
        reduce: sums the gradients over processes.
    """
    rows = method.components(lg, progress)
    means = {name: weighted_mean(x, lg.weight) for name, x in rows.items()}
    losses = method.combine(means, progress, merge)
    scale = share if scale is None else scale
    scaled = losses if scale == 1 else {name: scale * x for name, x in losses.items()}
    grads = stream_grads(scaled, trained, onto=before.grads if before else None, reduce=reduce)
    loss = share * sum_of([x.detach() for x in losses.values()])
    found = {name: share * x.detach() for name, x in means.items()}
    of_streams = {name: share * x.detach() for name, x in losses.items()}
    if before:
        loss, found = before.loss + loss, {name: before.components[name] + x for name, x in found.items()}
        of_streams = {name: before.losses[name] + x for name, x in of_streams.items()}
    return Step(loss, found, grads, of_streams)


def train_step(
    trained: Sequence[Tensor],
    method: Method,
    optimizer: StreamOptimizer,
    lg: Logits,
    progress: Progress,
    merge: bool | None = None,
) -> Step:
    """Differentiate every stream once and move the weights.

    Args:
        trained: parameters, as :func:`parameters` lists them.
        method: losses and streams.
        optimizer: with ``method.momenta(m, merge)``.
        lg: rows.
        progress: position in training.
        merge: as in ``method.stream_losses``.
    """
    step = differentiate(trained, method, lg, progress, merge)
    optimizer.step(step.grads)
    return step


def _float(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _logits(teacher: Teacher, batch: Batch, dtype: torch.dtype) -> list[Tensor]:
    weak, strong = teacher(batch)
    if batch.strong is not None and strong is None:
        raise ValueError("the batch has a strong view, but the teacher gave no logits for it")
    return [x.to(dtype) for x in (weak, strong) if x is not None]


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
        self.join = Join(training.run, world)

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
            self.training.optimizer.step(self._ready(step, progress))
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

    def _ready(self, step: Step, progress: Progress) -> StreamGrads:
        """What the optimizer gets: streams clipped each, combined where the config says how, and clipped as a sum."""
        o, grads = self.training.run.optimizer, step.grads
        grads = grads if o.clip_streams is None else clip_streams(grads, o.clip_streams)
        grads = self.join(grads, step.losses, progress)
        return grads if o.clip is None else clip_total(grads, o.clip)

    def _poison(self, reduce: AllReduce) -> StreamGrads:
        """Gradients that are NaN, here and thereby everywhere."""
        bad = tuple(torch.full_like(p, math.nan) for p in self.trained)
        streams = self.training.method.momenta(self.training.run.optimizer.base, self.training.merge)
        found = {name: reduce.start(name, self.trained, bad) for name in streams}
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
