"""Rows from maps of logits: every pixel with a label is a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .._choices import choose
from .._spoken import spoken
from .._typing import Float
from .checks import check_classes, check_same, labels_for, weights_for
from .logits import Logits, without

Labels = Literal["aligned", "published"]
Corners = bool | tuple[bool, bool]  # of both networks, or of student and teacher
VOID = 255  # the field's label of a pixel that has none, and no class where there are fewer


@spoken
def pixels(
    student: Float[Tensor, "b c h w"],
    teacher: Float[Tensor, "b c h2 w2"],
    target: Any = None,
    *,
    ignore_index: int | None = 255,
    resize: bool = False,
    labels: Labels = "aligned",
    corners: Corners = True,
    weight: Tensor | None = None,
) -> Logits:
    """Rows are pixels that are not ignored.

    Args:
        student: ``[b, c, h, w]`` logits at the head's own resolution.
        teacher: ``[b, c, h2, w2]``; a student of another size is resized to it (bilinear), so that its pixels lie where
            the teacher's do.
        target: ``[b, y, x]`` labels; reduced to the logits' size by taking one of several. ``None``: every pixel is a
            row without a label.
        ignore_index: pixels with this label are dropped from every term; ``None`` keeps all of them.
        resize: work at the labels' size instead: both logits are resized to it.
        labels: which label a pixel of smaller logits gets: ``"aligned"``, the one nearest to where the pixel lies when
            the logits are enlarged as ``corners`` says; or ``"published"``, that of row floor(i Y / h), as in the
            published code, which is up to Y / h - 1 pixels above and left of it.
        corners: how the networks enlarge their logits, of both or of (student, teacher): ``True`` with aligned corners,
            logit i to i (Y - 1) / (h - 1) (segmentation-models-pytorch); ``False`` to (i + 1/2) Y / h - 1/2
            (``align_corners=False``: torchvision).
        weight: ``[b, y, x]`` weight of every labelled pixel, reduced as the labels are.

    Raises:
        ValueError: teacher or labels are not of the student's images or classes, or of another shape than the scaling
            of a picture makes: turned round, cut or padded; more than 255 classes under ``ignore_index=255``; networks
            that enlarge in two ways, and no labels, which tell the size of the picture.

    Example:
        >>> import torch
        >>> y = torch.tensor([[[0, 255], [2, 1]]])
        >>> pixels(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), y).rows
        3
    """
    options: dict[str, Any] = {"ignore_index": ignore_index, "resize": resize, "labels": labels, "corners": corners}
    maps = fitted_maps("rows.pixels", student, teacher, target, **options, weight=weight)
    flat = [x.movedim(1, -1).flatten(0, 2) for x in maps[:2]]
    small = [None if x is None else x.flatten() for x in maps[2:]]
    return without(ignore_index, flat[0], flat[1], small[0], small[1])


def fitted_maps(
    where: str,
    student: Float[Tensor, "b c h w"],
    teacher: Float[Tensor, "b c h2 w2"],
    target: Any,
    *,
    ignore_index: int | None,
    resize: bool,
    labels: Labels,
    corners: Corners = True,
    weight: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Logits of both networks, labels and weights, all of one size; arguments and errors as in :func:`pixels`."""
    target = labels_for(where, student, teacher, target)
    if student.ndim != 4 or teacher.ndim != 4 or (target is not None and target.ndim != 3):
        raise ValueError(
            f"{where}: expected logits [b, c, h, w] twice and labels [b, h, w], got "
            f"{list(student.shape)}, {list(teacher.shape)}, {None if target is None else list(target.shape)}"
        )
    if ignore_index == VOID < student.shape[1] and target is not None:
        raise ValueError(
            f"{where}: ignore_index={VOID} is one of these {student.shape[1]} classes; give pixels without a label "
            f"another number, such as -1, and name it: ignore_index=-1 (None, if all have one)"
        )
    check_same(where, "images", student.shape[:1], teacher.shape[:1], None if target is None else target.shape[:1])
    check_classes(where, student.shape[1], teacher.shape[1], "[:, :{}]")
    _check_scaled(where, "teacher", student.shape[2:], teacher.shape[2:])
    if target is not None:
        _check_scaled(where, "label map", student.shape[2:], target.shape[1:])
    weight = weights_for(where, weight, target, student)
    if target is None and resize:
        raise ValueError(f"{where}: resize=True works at the size of the labels, and there are none (target=None)")
    choose(f"{where} option 'labels'", labels, ("aligned", "published"))
    own, other = _ways(where, corners)
    picture = None if target is None else tuple(target.shape[1:])
    if picture is not None and resize:
        return _resized(student, picture, own), _resized(teacher, picture, other), target, weight
    if picture is None and own != other:
        raise ValueError(f"{where}: corners={corners!r} needs labels, whose size is that of the picture (target=None)")
    size = tuple(teacher.shape[2:])
    placed = _resized(student, size, own) if own == other else _moved(student, own, size, other, picture or size)
    small = [_picked(x, size, labels, other) for x in (target, weight)]
    return placed, teacher, small[0], small[1]


def _ways(where: str, corners: Any) -> tuple[bool, bool]:
    """Whether the student's and whether the teacher's logits are enlarged with aligned corners."""
    both = corners if isinstance(corners, tuple) else (corners, corners)
    if len(both) != 2 or not all(isinstance(x, bool) for x in both):
        raise ValueError(f"{where}: corners must be True, False, or a pair (student, teacher) of them, got {corners!r}")
    return both[0], both[1]


def _check_scaled(where: str, name: str, student: Sequence[int], other: Sequence[int]) -> None:
    """One factor makes both sides of the smaller map out of the larger one's, up to less than a pixel of rounding."""
    (h, w), (y, x) = sorted((student, other), key=math.prod)
    if max((h - 1) / y, (w - 1) / x) >= min((h + 1) / y, (w + 1) / x):
        raise ValueError(
            f"{where}: the {name} is {other[0]} x {other[1]} and the student {student[0]} x {student[1]}, which no "
            f"scaling of one picture makes; turn it round (x.transpose(-2, -1)), or cut off what was padded"
        )


def _resized(x: Tensor, size: tuple[int, ...], corners: bool) -> Tensor:
    if tuple(x.shape[2:]) == size:
        return x
    return F.interpolate(x, list(size), mode="bilinear", align_corners=corners)


def _moved(x: Tensor, own: bool, size: tuple[int, ...], other: bool, picture: tuple[int, ...]) -> Tensor:
    """A map that is enlarged in one way, read (bilinear) where those of one lie that is enlarged in another."""
    for dim, (few, goal, many) in enumerate(zip(x.shape[2:], size, picture, strict=True), 2):
        i = torch.arange(goal, device=x.device, dtype=torch.float64)
        there = i * ((many - 1) / max(1, goal - 1)) if other else (i + 0.5) * (many / goal) - 0.5
        here = there * ((few - 1) / max(1, many - 1)) if own else (there + 0.5) * (few / many) - 0.5
        here = here.clamp(0, few - 1)
        low, shape = here.long(), [-1 if d == dim else 1 for d in range(x.ndim)]
        rest = (here - low).to(x.dtype).view(shape)
        x = x.index_select(dim, low).lerp(x.index_select(dim, (low + 1).clamp(max=few - 1)), rest)
    return x


def _picked(x: Tensor | None, size: tuple[int, ...], labels: Labels, corners: bool) -> Tensor | None:
    """``[b, y, x]`` labels or weights at this size: of several the one that lies where the logits' pixel does."""
    if x is None or tuple(x.shape[1:]) == size:
        return x
    rows, columns = (_places(many, few, labels, corners, x.device) for many, few in zip(x.shape[1:], size, strict=True))
    return x[:, rows][:, :, columns]


def _places(many: int, few: int, labels: Labels, corners: bool, device: torch.device) -> Tensor:
    """``[few]`` which of many positions each of few has, to the nearest: where enlarging puts it, in whole numbers."""
    i = torch.arange(few, device=device)
    if labels == "published":
        return i * many // few
    if not corners:
        return (2 * i + 1) * many // (2 * few)
    return (2 * i * (many - 1) + few - 1) // (2 * max(1, few - 1))
