"""Parts of a step: rows of a batch, or for many pixels the maps that rows would be made of, and the losses of both."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..data import Batch
from ..methods import Method
from ..methods.pixels import PixelMaps, pixel_means
from ..rows import Logits, Progress, weighted_mean
from ..tasks import Task
from ..teachers.live import Teacher


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of a step that is taken in parts, here and in other processes.

    Args:
        lg: the rows.
        share: weight of these rows in the step's means; a tensor where it follows from the rows.
        scale: factor on their gradients; by default ``share``.
        last: whether no part follows in this process.
    """

    lg: Logits | PixelMaps
    share: float | Tensor = 1.0
    scale: float | Tensor | None = None
    last: bool = True


def taken(task: Task, method: Method, student: nn.Module, teacher: Teacher | None, batch: Batch) -> Logits | PixelMaps:
    """The rows of a batch, or its maps where the task has them and losses can be taken in chunks."""
    in_chunks = getattr(task, "in_chunks", None)
    if in_chunks is None or not in_chunks(method, batch):
        return task.rows(student, teacher, batch)
    found: PixelMaps = task.maps(student, teacher, batch)  # type: ignore[attr-defined]
    return found


def as_rows(lg: Logits | PixelMaps) -> Logits:
    """The rows, for those who look at single ones."""
    return lg.rows if isinstance(lg, PixelMaps) else lg


def means_and_losses(
    method: Method, lg: Logits | PixelMaps, progress: Progress, merge: bool | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The mean of every component, and a loss per stream."""
    if isinstance(lg, PixelMaps):
        return pixel_means(method, lg, progress, merge)
    means = {name: weighted_mean(x, lg.weight) for name, x in method.components(lg, progress).items()}
    return means, method.combine(means, progress, merge)
