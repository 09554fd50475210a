"""One training step: rows -> a loss per stream -> a gradient per stream -> new weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data import Batch
from ..methods import Method
from ..methods.method import sum_of
from ..models import logits_of
from ..optim import AllReduce, StreamGrads, StreamSGD, stream_grads
from ..rows import Logits, Progress, weighted_mean
from .regions import region_rows
from .teacher import Teacher


@dataclass(frozen=True, eq=False)
class Step:
    """What one step did: detached scalars still on their device, and the gradients for monitors.

    Of a part of the step's rows it is that part's contribution to the means over all of them.
    """

    loss: Tensor
    components: dict[str, Tensor]
    grads: StreamGrads


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


def parameters(student: nn.Module, method: Method) -> list[nn.Parameter]:
    """What is trained: the student, and whatever the method itself learns (a temperature, say)."""
    return [*student.parameters(), *(method.module.parameters() if method.module else ())]


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
    if before:
        loss, found = before.loss + loss, {name: before.components[name] + x for name, x in found.items()}
    return Step(loss, found, grads)


def train_step(
    trained: Sequence[Tensor],
    method: Method,
    optimizer: StreamSGD,
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
