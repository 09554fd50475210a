"""Rows of detectors of one stage: anchors with their class logits, and the sides of boxes with a distribution each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._spoken import spoken
from .._typing import Float
from .checks import can_look, check_tensor, labels_from, values_from, weights_from
from .logits import Logits

SIDES = 4  # left, top, right, bottom
NEVER = 0.1  # how far before the last bin a side's target ends, as published


@spoken
def anchors(
    student: Float[Tensor, "... c"],
    teacher: Tensor,
    target: Any,
    *,
    background: int | None = None,
    weight: Tensor | None = None,
) -> Logits:
    """Rows are the anchors that were matched with an object.

    Args:
        student: ``[n, a, c]`` or ``[a, c]`` class logits of all anchors, for which a softmax over the classes is taken
            here, though such detectors are trained with a sigmoid for each.
        teacher: the same of the teacher at the same anchors.
        target: ``[n, a]`` or ``[a]`` classes from 0; below 0 for an anchor without an object, or one that is ignored.
        background: a further label of anchors without an object: ``c`` in mmdetection.
        weight: one number per anchor.

    Raises:
        ValueError: teacher, labels or weights are not of the student's anchors.

    Example:
        >>> y = torch.tensor([[2, -1, 0], [3, 3, 3]])
        >>> anchors(torch.zeros(2, 3, 3), torch.zeros(2, 3, 3), y, background=3).rows
        2
    """
    where = "rows.anchors"
    check_tensor(where, "student", student)
    check_tensor(where, "teacher", teacher)
    labels = labels_from(target, student)
    if labels is None or labels.is_floating_point() or labels.shape != student.shape[:-1]:
        found = None if labels is None else f"{str(labels.dtype).removeprefix('torch.')} {list(labels.shape)}"
        raise ValueError(f"{where}: target must be integers {list(student.shape[:-1])}, one per anchor, got {found}")
    _check_same(where, student, teacher)
    keep = labels >= 0
    if background is not None:
        keep = keep & (labels != background)
    classes = student.shape[-1]
    if can_look(labels) and bool((keep & (labels >= classes)).any()):
        raise ValueError(
            f"{where}: target holds the label {int(labels.max())}, and the classes are 0..{classes - 1}; if it stands "
            f"for anchors without an object, give background={int(labels.max())}"
        )
    given = None if weight is None else _per_anchor(where, weight, labels.shape, student)[keep]
    return Logits(student[keep], teacher[keep], labels[keep], weight=given)


@spoken
def sides(
    student: Float[Tensor, "a d"],
    teacher: Tensor,
    target: Any = None,
    *,
    weight: Tensor | None = None,
) -> Logits:
    """Rows are the sides of boxes, each with logits over bins of its distance from the anchor's centre.

    The mean weighs every side by its anchor's ``weight``. The published loss divides by the sum of these weights too,
    but by 1 where that is less (and by 4 + 1.2e-7 sides): multiply by ``weight.sum().clamp(max=1)`` to get that.

    Args:
        student: ``[a, 4 bins]`` logits of left, top, right and bottom, of positive anchors; any number of bins.
        teacher: the same of the teacher's.
        target: ``[a, 4]`` distances in bins, or ``None``; the label of a side is the bin at or below its distance,
            which is kept within 0 and 0.1 before the last bin, so that the last one is never a label, as published.
        weight: ``[a]`` weight of every anchor: the largest class score of the student, detached, in the published code.

    Raises:
        ValueError: teacher, target or weights are not of the student's anchors; or their logits make no four sides.

    Source: ZaberKo/mmdet-gdkd, arXiv 2102.12252.

    Example:
        >>> lg = sides(torch.zeros(2, 4 * 17), torch.zeros(2, 4 * 17), torch.full((2, 4), 16.0))
        >>> lg.rows, lg.classes, lg.target[0].item()
        (8, 17, 15)
    """
    where = "rows.sides"
    check_tensor(where, "student", student)
    check_tensor(where, "teacher", teacher)
    if student.ndim != 2 or student.shape[1] % SIDES or student.shape[1] < 2 * SIDES:
        raise ValueError(f"{where}: expected logits [anchors, 4 x bins] with 2 bins or more, got {list(student.shape)}")
    _check_same(where, student, teacher)
    bins = student.shape[1] // SIDES
    labels = None
    if target is not None:
        distances = values_from("target", target, student)
        if distances.shape != (len(student), SIDES):
            raise ValueError(f"{where}: target must be [{len(student)}, 4] distances, got {list(distances.shape)}")
        if can_look(distances) and bool(distances.isnan().any()):
            raise ValueError(f"{where}: target holds distances that are not a number (NaN); leave such anchors out")
        labels = distances.clamp(0, bins - 1 - NEVER).floor().long().flatten()
    given = None
    if weight is not None:
        given = _per_anchor(where, weight, student.shape[:1], student).repeat_interleave(SIDES)
    return Logits(student.reshape(-1, bins), teacher.reshape(-1, bins), labels, weight=given)


def _check_same(where: str, student: Tensor, teacher: Tensor) -> None:
    if teacher.shape != student.shape:
        raise ValueError(
            f"{where}: the teacher has logits {list(teacher.shape)} and the student {list(student.shape)}; both must "
            f"be of the same anchors and classes or bins"
        )


def _per_anchor(where: str, weight: Any, shape: torch.Size, student: Tensor) -> Tensor:
    found = weights_from("weight", weight, student)
    if found.shape != shape:
        raise ValueError(f"{where}: weight must be {list(shape)}, one per anchor, got {list(found.shape)}")
    return found
