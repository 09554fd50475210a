"""The task of finding objects: the student's regions through both heads are rows, its other losses are extras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .._typing import Float
from ..config.task import Detection as Settings
from ..data import Batch, Source
from ..data.boxes import unpacked
from ..methods import Method, with_extra
from ..methods.terms import Components, Terms, around
from ..models.detection import Features, check_detector, classified, features_of, proposed, whole_logits
from ..rows import Logits, Progress
from ..teachers.live import LiveTeacher, Teacher
from ..world import current
from .boxes_drawn import drawings
from .counts import as_float
from .precision import HEADLINE, Precisions
from .proposals import Regions, anchor_losses, offset_losses, sampled_regions
from .segmentation import PAIRWISE
from .task import Metrics

BACKGROUND = 0  # its place among torchvision's classes
OWN = ("box", "objectness", "proposal_box")  # the detector's losses beside the cross-entropy of its regions
FEATURES, FOREGROUND = "features", "foreground"


@dataclass(frozen=True)
class Detection:
    """The task of drawing boxes around objects and naming them, with detectors of two stages.

    The loss is torchvision's: cross-entropy of the sampled regions (component ``task``), and as further components of
    the task's stream ``box`` (offsets of regions with objects), ``objectness`` and ``proposal_box`` (of the anchors).
    An image's anchors count by its number of regions, so that parts of a batch take the step of the whole; where every
    image has as many regions as the others that is torchvision's mean.

    Args:
        settings: as a config has them.
        classes: names of the categories, for the metrics; empty where they have none.
    """

    settings: Settings = field(default_factory=Settings)
    classes: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """COCO's average precision."""
        return HEADLINE

    @property
    def even(self) -> bool:
        """An image gives as many rows as regions are sampled in it."""
        return False

    @property
    def ask(self) -> Callable[[nn.Module, Tensor, str], Tensor]:
        """How a network's logits are taken where no regions are known: those of whole images."""
        return whole_logits

    def completed(self, method: Method) -> Method:
        """The method with the detector's own losses in the task's stream, and with what the settings ask for.

        Raises:
            ValueError: a method that compares all rows with each other, or needs another view of the images.
        """
        compared = [name for name in method.parts if name in PAIRWISE]
        if compared or method.regions or method.token or method.views > 1:
            what = (
                "compares every region with every other"
                if compared
                else "needs a second view, head or regions of images"
            )
            raise ValueError(
                f"{method.name} {what}, which detection does not have room for; take one whose components are each "
                f"region's own (kd, dkd, gdkd ...), or dist"
            )
        distils = len(method.parts) > 1
        if distils and self.settings.keep == "foreground":
            method = on_objects(method)
        for name in OWN:
            method = with_extra(method, name=name, role="task")
        if distils and self.settings.features:
            method = with_extra(method, name=FEATURES, weight=self.settings.features)
        return method

    def rows(self, student: nn.Module, teacher: Teacher | None, batch: Batch) -> Logits:
        """Class logits of both networks for the student's sampled regions, in float32 (float64 stays).

        The background is class 0. Without a teacher its place is taken by the student's own detached logits. A batch
        without any region gives a loss of 0 with a graph; one without objects has regions of the background alone.

        Raises:
            ValueError: networks that are no detectors of two stages, or do not fit each other.
        """
        known = unpacked(batch.target)
        sizes = [one.size for one in known]
        generators = [torch.Generator().manual_seed(one.draw) for one in known]
        features = features_of(check_detector(student, "student"), batch.images)
        said = proposed(student, batch.images, sizes, features)
        objectness, proposal_box = anchor_losses(student, said, known, generators)
        regions = sampled_regions(student, said.boxes, known, generators)
        logits, offsets = (as_float(x) for x in classified(student, features, regions.boxes, batch.images))
        extra = {"box": offset_losses(offsets, regions)}
        extra |= {"objectness": objectness[regions.image], "proposal_box": proposal_box[regions.image]}
        given = logits.detach()
        if teacher is not None:
            given, theirs = _taught(teacher, batch, regions, self.settings.features > 0)
            given = _checked(given.to(logits.dtype), logits)
            if self.settings.features:
                extra[FEATURES] = features_apart(features, theirs).to(logits.dtype)[regions.image]
        if self.settings.keep == "foreground":
            extra[FOREGROUND] = _share(regions.labels, bool(batch.share)).to(logits.dtype)
        extra = {name: x.to(logits.dtype) for name, x in extra.items()}
        return Logits(logits, given, regions.labels, extra=extra)

    def metrics(self, beside: Metrics | None = None) -> Precisions:
        """Average precision, calibration, and agreement with ``beside``."""
        return Precisions(self.classes, beside.answers if isinstance(beside, Precisions) else None)

    def pictures(self, student: nn.Module, teacher: nn.Module | None, source: Source) -> dict[str, bytes]:
        """Pictures for a page, by the names of files: see :func:`fractionate.tasks.boxes_drawn.drawings`."""
        return drawings(student, teacher, source)


def on_objects(method: Method) -> Method:
    """The method whose distillation sees the regions with objects alone, also where it relates regions to each other.

    A component is 0 at the others, and its mean over all regions is that over those with objects.
    """
    return around(method, _of_objects, twin=None if method.twin is None else on_objects(method.twin))


def _of_objects(inner: Terms, lg: Logits, progress: Progress) -> Components:
    share = lg.extra[FOREGROUND]
    there = share > 0
    found = inner(lg[there], progress).items()
    return {name: x.new_zeros(lg.rows).masked_scatter(there, share[there].to(x.dtype) * x) for name, x in found}


def _share(labels: Tensor, own: bool) -> Float[Tensor, " n"]:
    """For regions with objects the number of all regions per one with an object, in all processes; 0 for others.

    The mean over all regions is that over those with objects then.
    """
    there = (labels != BACKGROUND).double()
    counts = torch.stack([torch.full_like(there.sum(), len(there)), there.sum()]) * own
    if torch.is_grad_enabled():  # in a training step, which all processes take together
        counts = current().sum_(counts)
    return there * counts[0] / counts[1].clamp(min=1)


@torch.no_grad()
def _taught(teacher: Teacher, batch: Batch, regions: Regions, features: bool) -> tuple[Tensor, Features]:
    """The teacher's class logits of the student's regions, and its feature maps if they are asked for."""
    live = getattr(teacher, "teacher", teacher)  # behind what students side by side share
    if not isinstance(live, LiveTeacher):
        raise ValueError("regions of the student need the teacher as a live network, not stored logits")
    net = check_detector(live.net, "teacher")
    once: Callable[[Batch, Callable[[], Features]], Features] = getattr(teacher, "once", lambda batch, make: make())
    apart: Callable[[Callable[[], Tensor]], Tensor] = getattr(teacher, "apart", lambda make: make())  # profile's clock
    maps = once(batch, lambda: features_of(net, batch.images))
    said = apart(lambda: classified(net, maps, regions.boxes, batch.images)[0])
    return as_float(said), maps if features else {}


def _checked(given: Tensor, own: Tensor) -> Tensor:
    if given.shape != own.shape:
        raise ValueError(
            f"the teacher's head has {given.shape[1]} classes and the student's {own.shape[1]}, the background "
            f"included; both need those of the data"
        )
    return given


def features_apart(own: Features, other: Features) -> Float[Tensor, " n"]:
    """Mean squared difference of both networks' feature maps, of every image, averaged over the levels.

    Raises:
        ValueError: other levels, sizes or channels.
    """
    shapes = [{name: tuple(x.shape[1:]) for name, x in maps.items()} for maps in (own, other)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"task.features compares feature maps of the same shapes; the student's are {shapes[0]}, the teacher's "
            f"{shapes[1]} (channels, height, width by level): take networks with the same +fpnN, or task.features=0"
        )
    gaps = [(as_float(x) - as_float(other[name])).square().flatten(1).mean(1) for name, x in own.items()]
    return torch.stack(gaps).mean(0)
