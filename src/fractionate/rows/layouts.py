"""Rows from images, pixels, regions of interest and tokens: here alone logits are flattened and positions dropped."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .._typing import Float
from .logits import Logits


def images(student: Tensor, teacher: Tensor, target: Tensor) -> Logits:
    """Rows are images: ``[n, c]`` logits and ``[n]`` or ``[n, c]`` targets, taken as they are."""
    return Logits(student, teacher, target)


def pixels(
    student: Float[Tensor, "b c h w"],
    teacher: Float[Tensor, "b c h2 w2"],
    target: Tensor,
    *,
    ignore_index: int | None = 255,
    resize: bool = False,
) -> Logits:
    """Rows are pixels that are not ignored.

    Args:
        student: ``[b, c, h, w]`` logits at the head's own resolution.
        teacher: ``[b, c, h2, w2]``; a student of another size is resized to it (bilinear, aligned corners).
        target: ``[b, y, x]`` labels; reduced to the logits' size by nearest neighbour.
        ignore_index: pixels with this label are dropped from every term; ``None`` keeps all of them.
        resize: work at the labels' size instead: both logits are resized to it.

    Example:
        >>> import torch
        >>> y = torch.tensor([[[0, 255], [2, 1]]])
        >>> pixels(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), y).rows
        3
    """
    if target.ndim != 3 or student.ndim != 4 or teacher.ndim != 4:
        raise ValueError(
            f"rows.pixels: expected logits [b, c, h, w] twice and labels [b, h, w], got "
            f"{list(student.shape)}, {list(teacher.shape)}, {list(target.shape)}"
        )
    size = tuple(target.shape[1:]) if resize else tuple(teacher.shape[2:])
    student, teacher = _resized(student, size), _resized(teacher, size)
    if tuple(target.shape[1:]) != size:
        target = F.interpolate(target[:, None].float(), size, mode="nearest")[:, 0].long()
    flat = [x.movedim(1, -1).flatten(0, 2) for x in (student, teacher)]
    return _without(ignore_index, flat[0], flat[1], target.flatten())


def rois(
    student: Float[Tensor, "r c"],
    teacher: Float[Tensor, "r c"],
    target: Tensor,
    *,
    foreground_only: bool = False,
) -> Logits:
    """Rows are regions of interest; the background is the last class.

    Args:
        student: ``[r, c]`` class logits of the sampled regions.
        teacher: ``[r, c]`` logits of the teacher's head on the same regions.
        target: ``[r]`` matched classes, background ``c - 1``.
        foreground_only: drop background regions; no region left gives a loss of 0.
    """
    return _without(student.shape[1] - 1 if foreground_only else None, student, teacher, target)


def tokens(
    student: Float[Tensor, "b t c"],
    teacher: Float[Tensor, "b t c"],
    target: Tensor,
    *,
    ignore_index: int | None = -100,
) -> Logits:
    """Rows are the tokens whose label is not ``ignore_index``; logits are not shifted here.

    Example:
        >>> import torch
        >>> tokens(torch.zeros(1, 3, 7), torch.zeros(1, 3, 7), torch.tensor([[5, -100, 6]])).rows
        2
    """
    if student.ndim != 3 or target.shape != student.shape[:2]:
        raise ValueError(
            f"rows.tokens: expected logits [b, t, c] and labels [b, t], got {list(student.shape)} "
            f"and {list(target.shape)}"
        )
    return _without(ignore_index, student.flatten(0, 1), teacher.flatten(0, 1), target.flatten())


def _resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(x.shape[2:]) == size:
        return x
    return F.interpolate(x, list(size), mode="bilinear", align_corners=True)


def _without(ignore: int | None, student: Tensor, teacher: Tensor, target: Tensor) -> Logits:
    if ignore is None:
        return Logits(student, teacher, target)
    keep = target != ignore
    return Logits(student[keep], teacher[keep], target[keep])
