"""The task of a class for every pixel: rows of labelled pixels, and an intersection over union that sums exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ..config.task import Segmentation as Settings
from ..data import Batch, Source
from ..methods import Method, with_extra
from ..models.dense import main_and_auxiliary, maps_of, same_size
from ..rows import Logits, pixels
from ..teachers.live import Teacher
from .counts import HEADLINE, Counts, as_float, labelled
from .overlays import overlays
from .task import Metrics

AUXILIARY = "auxiliary"
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
        """The method with the cross-entropy of the auxiliary head in the task's stream, if the settings ask for it.

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
        weight = self.settings.auxiliary
        return with_extra(method, name=AUXILIARY, weight=weight, role="task") if weight else method

    def rows(self, student: nn.Module, teacher: Teacher | None, batch: Batch) -> Logits:
        """Logits of both networks for every pixel with a label, in float32 (float64 stays).

        Without a teacher its place is taken by the student's own detached logits, which a method without distillation
        terms never reads. An image without any label gives no row; a batch of such images a loss of 0 with a graph.

        Raises:
            ValueError: maps that do not fit each other or the labels; no auxiliary head where its loss is asked for.
        """
        head = self.settings.logits == "head"
        main, auxiliary = main_and_auxiliary(student, batch.images, "student", head=head)
        main = as_float(main)
        given = main.detach() if teacher is None else teacher(batch)[0].to(main.dtype)
        lg = self._pixels(main, given, batch.target)
        if not self.settings.auxiliary:
            return lg
        if auxiliary is None:
            raise ValueError(
                f"task.auxiliary={self.settings.auxiliary:g}: the student {type(student).__name__} returns no map "
                f"'aux'; take one with such a head (torchvision:deeplabv3_resnet50+aux), or task.auxiliary=0"
            )
        size = given.shape[2:] if head else batch.target.shape[1:]
        other = self._pixels(same_size(as_float(auxiliary), (size[0], size[1])), given, batch.target)
        assert other.target is not None
        extra = F.cross_entropy(other.student, other.target, reduction="none")
        return Logits(lg.student, lg.teacher, lg.target, extra={AUXILIARY: extra})

    def metrics(self, beside: Metrics | None = None) -> Counts:
        """IoU, accuracy, loss, calibration, and agreement with ``beside``."""
        answers = beside.answers if isinstance(beside, Counts) else None
        sliding = self.window if self.settings.evaluate == "sliding" else None
        return Counts(self.settings.ignore, self.classes, answers, sliding, self.settings.stride)

    def pictures(self, student: nn.Module, teacher: nn.Module | None, source: Source) -> dict[str, bytes]:
        """Pictures for a page, by the names of files: see :func:`fractionate.tasks.overlays.overlays`."""
        return overlays(student, teacher, source, self.settings.ignore)

    def _pixels(self, student: Tensor, teacher: Tensor, target: Tensor) -> Logits:
        s = self.settings
        target = target.where(labelled(target, s.ignore, student.shape[1]), s.ignore)
        return pixels(student, teacher, target, ignore_index=s.ignore, resize=s.logits == "labels", labels=s.labels)
