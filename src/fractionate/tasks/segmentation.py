"""The task of a class for every pixel: rows of labelled pixels, and an intersection over union that sums exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.task import Segmentation as Settings
from ..data import Batch, Source
from ..methods import Method, with_extra
from ..methods.pixels import CHUNK, PixelMaps, unchunked
from ..methods.terms import Components, Terms, around
from ..models.dense import aligned_corners, main_and_auxiliary, maps_of, same_size
from ..rows import Logits, Progress, fitted_maps, pixels
from ..schedules import Schedule
from ..teachers.live import LiveTeacher, Teacher
from .counts import HEADLINE, Counts, as_float, labelled
from .overlays import overlays
from .task import Metrics

AUXILIARY = "auxiliary"
Maps = tuple[Tensor, Tensor | None]
PAIRWISE = ("contrastive", "batch_correlation", "direction")  # components that hold a number for every two rows


@dataclass(frozen=True)
class Segmentation:
    """The task of giving every pixel a class.

    Args:
        settings: as a config has them.
        classes: names of the classes, for the metrics; empty where they have none.
        window: height and width of sliding windows.
    """

    settings: Settings = field(default_factory=Settings)
    classes: tuple[str, ...] = ()
    window: tuple[int, int] | None = None

    @property
    def headline(self) -> str:
        """Mean intersection over union."""
        return HEADLINE

    @property
    def even(self) -> bool:
        """An image gives as many rows as it has pixels with a label."""
        return False

    @property
    def ask(self) -> Callable[[nn.Module, Tensor, str], Tensor]:
        """How a network's map of logits is taken."""
        return partial(maps_of, head=self.settings.logits == "head")

    def completed(self, method: Method) -> Method:
        """The method with what the settings ask of the auxiliary head.

        That is its cross-entropy in the task's stream, and the method's own components between both auxiliary heads.

        Raises:
            ValueError: a method that compares all rows with each other, or needs another view of the images.
        """
        compared = [name for name in method.parts if name in PAIRWISE]
        if compared or method.regions or method.token or method.views > 1:
            what = "compares every pixel with every other" if compared else "needs a second view, head or regions"
            raise ValueError(
                f"{method.name} {what}, which a dense task does not have room for; take one whose components are each "
                f"pixel's own (kd, dkd, gdkd ...), or dist"
            )
        if self.settings.auxiliary_kd and len(method.parts) > 1:
            method = on_both_heads(method, self.settings.auxiliary_kd)
        weight = self.settings.auxiliary
        return with_extra(method, name=AUXILIARY, weight=weight, role="task") if weight else method

    def rows(self, student: nn.Module, teacher: Teacher | None, batch: Batch) -> Logits:
        """Logits of both networks for every pixel with a label, in float32 (float64 stays).

        Without a teacher its place is taken by the student's own detached logits, which a method without distillation
        terms never reads. An image without any label gives no row; a batch of such images a loss of 0 with a graph.

        Raises:
            ValueError: maps that do not fit each other or the labels; no auxiliary head where its loss is asked for.
        """
        s = self.settings
        head, both = s.logits == "head", bool(s.auxiliary_kd) and teacher is not None
        main, auxiliary = main_and_auxiliary(student, batch.images, "student", head=head)
        main = as_float(main)
        if both:
            assert teacher is not None
            given, theirs = _both_maps(teacher, batch, head)
            given = given.to(main.dtype)
        else:
            given, theirs = main.detach() if teacher is None else teacher(batch)[0].to(main.dtype), None
        corners = self._corners(student, teacher)
        lg = self._pixels(main, given, batch.target, corners)
        if not (s.auxiliary or both):
            return lg
        own = self._needed(auxiliary, "student", type(student).__name__)
        beside = given if not both else self._needed(theirs, "teacher", "of this run").to(main.dtype)
        if head:  # the rows of the main heads
            beside = same_size(beside, (given.shape[2], given.shape[3]), corners[1])
        other = self._pixels(as_float(own), beside, batch.target, corners)
        assert other.target is not None
        extra = {AUXILIARY: F.cross_entropy(other.student, other.target, reduction="none")} if s.auxiliary else {}
        return Logits(lg.student, lg.teacher, lg.target, extra=extra, token=other if both else None)

    def maps(self, student: nn.Module, teacher: Teacher | None, batch: Batch) -> PixelMaps:
        """What :meth:`rows` makes rows of, for losses that are taken a chunk of pixels at a time."""
        main = as_float(maps_of(student, batch.images, "student", head=self.settings.logits == "head"))
        given = main.detach() if teacher is None else teacher(batch)[0].to(main.dtype)
        s = self.settings
        target = batch.target.where(labelled(batch.target, s.ignore, main.shape[1]), s.ignore)
        resize = s.logits == "labels"
        options: dict[str, Any] = {"labels": s.labels, "corners": self._corners(student, teacher), "weight": None}
        own, other, truth, _ = fitted_maps(
            "task.maps", main, given, target, ignore_index=None, resize=resize, **options
        )
        assert truth is not None
        return PixelMaps(own, other.detach(), truth, s.ignore)

    def in_chunks(self, method: Method, batch: Batch) -> bool:
        """Whether the pixels of a batch are so many, and the method such, that no rows need be made of them."""
        heads = self.settings.auxiliary or self.settings.auxiliary_kd
        return batch.target.numel() > CHUNK and not heads and unchunked(method) is None

    def _needed(self, maps: Tensor | None, what: str, name: str) -> Tensor:
        """An auxiliary head's map, which must be there."""
        if maps is not None:
            return maps
        asked = "auxiliary" if self.settings.auxiliary and what == "student" else "auxiliary_kd"
        raise ValueError(
            f"task.{asked}={getattr(self.settings, asked):g}: the {what} {name} returns no map 'aux'; take one with "
            f"such a head (torchvision:deeplabv3_resnet50+aux), or task.{asked}=0"
        )

    def metrics(self, beside: Metrics | None = None) -> Counts:
        """IoU, accuracy, loss, calibration, and agreement with ``beside``."""
        answers = beside.answers if isinstance(beside, Counts) else None
        sliding = self.window if self.settings.evaluate == "sliding" else None
        return Counts(self.settings.ignore, self.classes, answers, sliding, self.settings.stride)

    def pictures(self, student: nn.Module, teacher: nn.Module | None, source: Source) -> dict[str, bytes]:
        """Pictures for a page, by the names of files: see :func:`fractionate.tasks.overlays.overlays`."""
        return overlays(student, teacher, source, self.settings.ignore)

    def _corners(self, student: nn.Module, teacher: Teacher | None) -> tuple[bool, bool]:
        """Whether student and teacher enlarge their logits with aligned corners; the published code does so for all."""
        if self.settings.labels == "published":
            return True, True
        own, net = aligned_corners(student), getattr(getattr(teacher, "teacher", teacher), "net", None)
        return own, aligned_corners(net) if isinstance(net, nn.Module) else own

    def _pixels(self, student: Tensor, teacher: Tensor, target: Tensor, corners: tuple[bool, bool]) -> Logits:
        s, resize = self.settings, self.settings.logits == "labels"
        target = target.where(labelled(target, s.ignore, student.shape[1]), s.ignore)
        options: dict[str, Any] = {"resize": resize, "labels": s.labels, "corners": corners}
        return pixels(student, teacher, target, ignore_index=s.ignore, **options)


def guessing(shares: Mapping[str, float]) -> float:
    """Mean IoU in percent of answers that look at no image: the commonest class everywhere, or each as often as it is.

    Args:
        shares: class -> its labelled pixels in percent of all, as :class:`fractionate.tasks.DenseEvaluation` has them.

    Example:
        >>> round(guessing({"road": 90.0, "sky": 10.0}), 2), round(guessing({"road": 50.0, "sky": 50.0}), 2)
        (45.0, 33.33)
    """
    parts = [share / 100 for share in shares.values()]
    return 100 * max(max(parts), sum(p / (2 - p) for p in parts)) / len(parts)


def on_both_heads(method: Method, weight: float) -> Method:
    """The method with each of its components a second time, between the auxiliary heads (``Logits.token``).

    L = L(method) + weight (L(method, auxiliary heads) without the cross-entropy), as the published code has it. A
    component ``auxiliary_NAME`` has the role, the schedule and the stream of ``NAME``.

    Args:
        method: any that distils.
        weight: on all of them.
    """
    again = {name: f"{AUXILIARY}_{name}" for name in method.parts if name != "task"}
    found = {new: method.parts[old] for old, new in again.items()}
    parts = {name: replace(part, weight=_times(weight, part.weight)) for name, part in found.items()}
    streams = [
        replace(s, components=(*s.components, *(again[c] for c in s.components if c in again))) for s in method.streams
    ]
    return around(
        method,
        partial(_on_both, again=again),
        parts={**method.parts, **parts},
        streams=tuple(streams),
        twin=None if method.twin is None else on_both_heads(method.twin, weight),
    )


def _on_both(inner: Terms, lg: Logits, progress: Progress, again: dict[str, str]) -> Components:
    if lg.token is None:
        raise ValueError("task.auxiliary_kd: these rows hold no logits of auxiliary heads")
    return {**inner(lg, progress), **{again[name]: x for name, x in inner(lg.token, progress).items()}}


def _times(weight: float, schedule: Schedule) -> Schedule:
    return lambda progress: weight * schedule(progress)


@torch.no_grad()
def _both_maps(teacher: Teacher, batch: Batch, head: bool) -> tuple[Tensor, Tensor | None]:
    """The maps of a live teacher's two heads; asked for once where students go side by side."""
    live = getattr(teacher, "teacher", teacher)
    if not isinstance(live, LiveTeacher):
        raise ValueError("task.auxiliary_kd needs the teacher as a live network, not stored logits")
    once: Callable[[Batch, Callable[[], Maps]], Maps] = getattr(teacher, "once", lambda batch, make: make())
    return once(batch, lambda: main_and_auxiliary(live.net, batch.images, "teacher", head=head))
