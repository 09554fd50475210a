"""The task of classification and its rows: both networks' logits of images, of their regions, of all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from .._typing import Float
from ..data import Batch
from ..losses import region_logits
from ..models import Ask, class_logits, logits_of, token_logits
from ..models.preprocessing import shown_of
from ..rows import Logits
from ..teachers.live import LiveTeacher, Teacher
from ..world import World
from .classification import HEADLINE, Scores
from .task import Metrics


@dataclass(frozen=True)
class Classification:
    """The task of telling classes of images apart.

    Args:
        regions: sizes of the region grids whose logits the method reads; empty if none.
        token: whether the method reads a second head of the student, that of a distillation token.
    """

    regions: tuple[int, ...] = ()
    token: bool = False

    @property
    def headline(self) -> str:
        """Top-1 accuracy."""
        return HEADLINE

    @property
    def ask(self) -> Ask:
        """How a network's logits are taken."""
        return class_logits if self.token else logits_of

    @property
    def even(self) -> bool:
        """An image is a row."""
        return True

    def rows(self, student: nn.Module, teacher: Teacher | None, batch: Batch) -> Logits:
        """The logits of both networks, in float32, with those of image regions if the method reads them."""
        if self.regions:
            return region_rows(student, teacher, batch, self.regions)
        return make_rows(student, teacher, batch, token=self.token)

    def metrics(self, beside: Metrics | None = None) -> Scores:
        """Accuracy, loss, calibration, and agreement with ``beside``."""
        return Scores(beside.top() if isinstance(beside, Scores) else None)


def make_rows(student: nn.Module, teacher: Teacher | None, batch: Batch, *, token: bool = False) -> Logits:
    """Student and teacher logits of a batch, in float32 (float64 stays).

    Two views are two forward passes of the student, so each has batch-norm statistics of its own. Without a teacher its
    place is taken by the student's own detached logits, which a method without distillation terms never reads.

    Args:
        student, teacher: as in :meth:`Classification.rows`.
        batch: images.
        token: take the logits of the student's distillation token too, from the same forward pass.
    """
    heads = token_logits(student, batch.images, "student") if token else (logits_of(student, batch.images, "student"),)
    views = [_float(heads[0])]
    if batch.strong is not None:
        views.append(_float(logits_of(student, batch.strong, "student")))
    given = [v.detach() for v in views] if teacher is None else _logits(teacher, batch, views[0].dtype)
    target, weight = labels_of(batch, views[0])
    strong = None if batch.strong is None else Logits(views[1], given[1], target)
    second = Logits(_float(heads[1]), given[0], target) if token else None
    return Logits(views[0], given[0], target, strong=strong, label_weight=weight, token=second)


def labels_of(batch: Batch, like: Float[Tensor, "n c"]) -> tuple[Tensor | None, Float[Tensor, " n"] | None]:
    """The labels of a batch, and the weight of every image's cross-entropy.

    Without any label: ``None`` and ``None``. With some: an image without one has the weight 0, the others
    n / (images with a label), both of the whole step, so that the step's task is the mean over its labelled images
    however it is divided into parts, while every other component is the mean over all its images.

    Args:
        batch: images of a step, or a part of it.
        like: logits.
    """
    if batch.labelled is None:
        return batch.target, None
    if batch.labelled == 0:
        return None, None
    soft = batch.target.ndim == 2
    known = batch.target.sum(1) > 0 if soft else batch.target >= 0
    if soft:
        target = torch.where(known[:, None], batch.target, 1 / batch.target.shape[1])
    else:
        target = batch.target.clamp_min(0)
    return target, known.to(like.dtype) * ((batch.whole or len(batch)) / batch.labelled)


def _float(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _logits(teacher: Teacher, batch: Batch, dtype: torch.dtype) -> list[Tensor]:
    weak, strong = teacher(batch)
    if batch.strong is not None and strong is None:
        raise ValueError("the batch has a strong view, but the teacher gave no logits for it")
    return [x.to(dtype) for x in (weak, strong) if x is not None]


def region_rows(student: nn.Module, teacher: Teacher | None, batch: Batch, scales: Sequence[int]) -> Logits:
    """Student and teacher logits of a batch and of its regions, from one forward pass of each network.

    Args:
        student: network with ``features(x)``, a list of feature maps, and a linear head after global average pooling.
        teacher: a live network of the same kind.
        batch: images.
        scales: sizes of the grids, the whole image (1) first.

    Raises:
        ValueError: a teacher that is not a network, or a network without such a head.
    """
    if not isinstance(teacher, LiveTeacher):
        raise ValueError("region logits need the teacher as a live network, not stored logits")
    own = _regions(student, batch.images, scales)
    own = own if own.dtype == torch.float64 else own.float()
    with torch.inference_mode():
        other = _regions(teacher.net, batch.images, scales)
    other = other.clone().to(own.dtype)
    count = sum(size * size for size in scales)
    target, weight = labels_of(batch, own[::count])
    regions = Logits(own, other, None if target is None else target.repeat_interleave(count, 0))
    return Logits(own[::count], other[::count], target, regions=regions, label_weight=weight)


def _regions(net: nn.Module, images: Tensor, scales: Sequence[int]) -> Tensor:
    head = next((m for m in reversed(list(net.modules())) if isinstance(m, nn.Linear)), None)
    features = getattr(net, "features", None)
    if head is None or not callable(features):
        raise ValueError(_refusal(net, "no features(x) or no linear layer was found"))
    how = shown_of(net)  # features are not asked for through the network's own call
    maps = [x for x in features(how.pixels(images) if how else images) if x.ndim == 4]
    if not maps or maps[-1].shape[1] != head.in_features:
        found = "none" if not maps else f"{maps[-1].shape[1]} channels"
        raise ValueError(_refusal(net, f"the last feature map has {found}, the head reads {head.in_features} numbers"))
    return region_logits(maps[-1], head, scales)


def _refusal(net: nn.Module, why: str) -> str:
    return (
        f"sdd classifies regions of the last feature map, so {type(net).__name__} must end in global average pooling "
        f"and one linear layer: {why}. Networks of this package that do: the CIFAR networks and convnet_gap_*"
    )


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
