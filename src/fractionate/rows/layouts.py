"""Rows from images, regions of interest and tokens: flattened here and in `maps` alone."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from .._choices import choose
from .._spoken import spoken
from .._typing import Float
from .checks import check_classes, check_same, labels_for, weights_for
from .logits import Logits, without


@spoken
def images(student: Tensor, teacher: Tensor, target: Any = None, *, weight: Tensor | None = None) -> Logits:
    """Rows are images: ``[n, c]`` logits and ``[n]`` or ``[n, c]`` targets, taken as they are.

    Example:
        >>> import torch
        >>> images(torch.zeros(2, 5), torch.zeros(2, 5), torch.tensor([3, 0])).rows
        2
    """
    return Logits(student, teacher, target, weight=weight)


@spoken
def rois(
    student: Float[Tensor, "r c"],
    teacher: Float[Tensor, "r c"],
    target: Any = None,
    *,
    foreground_only: bool = False,
    background: int | None = None,
    weight: Tensor | None = None,
) -> Logits:
    """Rows are regions of interest.

    Args:
        student: ``[r, c]`` class logits of the sampled regions, the background among the classes.
        teacher: ``[r, c]`` logits of the teacher's head on the same regions.
        target: ``[r]`` matched classes.
        foreground_only: drop background regions; no region left gives a loss of 0.
        background: the class of the background, which ``foreground_only`` needs: 0 in torchvision, ``c - 1`` in
            detectron2 and mmdetection. Nothing in the logits tells, so it is not guessed.
        weight: ``[r]`` weight of every region.

    Raises:
        ValueError: teacher or labels are not of the student's regions or classes; ``foreground_only`` without
            labels or without ``background``.

    Example:
        >>> import torch
        >>> y = torch.tensor([0, 2, 1, 0])
        >>> rois(torch.zeros(4, 3), torch.zeros(4, 3), y, foreground_only=True, background=0).rows
        2
    """
    where = "rows.rois"
    target = labels_for(where, student, teacher, target)
    if student.ndim != 2 or teacher.ndim != 2 or (target is not None and target.ndim != 1):
        raise ValueError(
            f"{where}: expected logits [r, c] twice and labels [r], got {list(student.shape)}, "
            f"{list(teacher.shape)}, {_shape(target)}"
        )
    check_same(where, "regions", student.shape[:1], teacher.shape[:1], None if target is None else target.shape)
    check_classes(where, student.shape[1], teacher.shape[1], "[:, :{}]")
    last = student.shape[1] - 1
    if background is not None and not 0 <= background <= last:
        raise ValueError(f"{where}: background must be one of the classes 0..{last}, got {background}")
    if foreground_only and (background is None or target is None):
        missing = "labels (target=None)" if target is None else "background="
        raise ValueError(
            f"{where}: foreground_only drops the regions labelled as background and needs to know them, but "
            f"{missing} is missing; background is 0 in torchvision, c - 1 = {last} in detectron2 and mmdetection"
        )
    weight = weights_for(where, weight, target, student)
    return without(background if foreground_only else None, student, teacher, target, weight)


@spoken
def tokens(
    student: Float[Tensor, "b t c"],
    teacher: Float[Tensor, "b t c"],
    target: Any = None,
    *,
    ignore_index: int | None = -100,
    weight: Tensor | None = None,
    mean_over: Literal["tokens", "sequences"] = "tokens",
) -> Logits:
    """Rows are the tokens whose label is not ``ignore_index``; logits are not shifted here.

    Args:
        student: ``[b, t, c]`` logits.
        teacher: ``[b, t, c]`` logits of the same tokens over the same vocabulary.
        target: ``[b, t]`` labels; ``None``: every token is a row without a label (give padding a weight of 0).
        ignore_index: tokens with this label are dropped from every term; ``None`` keeps all of them.
        weight: ``[b, t]`` weight of every token.
        mean_over: ``"tokens"``: every token counts alike (times its weight); ``"sequences"``: every sequence that
            has a token left does, and a loss is the mean over sequences of the mean over their tokens.

    Returns:
        The rows; ``extra["sequence"]`` holds the number of the sequence of each, which :func:`fractionate.methods.tad`
        reads.

    Raises:
        ValueError: teacher or labels are not of the student's tokens, or the vocabularies differ.

    Example:
        >>> import torch
        >>> tokens(torch.zeros(1, 3, 7), torch.zeros(1, 3, 7), torch.tensor([[5, -100, 6]])).rows
        2
        >>> y = torch.tensor([[5, 6], [4, -100]])
        >>> tokens(torch.zeros(2, 2, 7), torch.zeros(2, 2, 7), y, mean_over="sequences").weight
        tensor([0.5000, 0.5000, 1.0000])
    """
    where = "rows.tokens"
    choose(f"{where} option 'mean_over'", mean_over, ("tokens", "sequences"))
    target = labels_for(where, student, teacher, target)
    if student.ndim != 3 or (target is not None and target.shape != student.shape[:2]):
        raise ValueError(
            f"{where}: expected logits [b, t, c] and labels [b, t], got {list(student.shape)} and {_shape(target)}"
        )
    check_same(where, "tokens", student.shape[:2], teacher.shape[:-1], None)
    check_classes(where, student.shape[2], teacher.shape[2], "[..., :{}]")
    weight = weights_for(where, weight, target, student)
    if mean_over == "sequences":
        weight = _per_sequence(weight, target, ignore_index, student)
    flat = [None if x is None else x.flatten() for x in (target, weight)]
    numbers = torch.arange(student.shape[0], device=student.device).repeat_interleave(student.shape[1])
    both = student.flatten(0, 1), teacher.flatten(0, 1)
    return without(ignore_index, *both, flat[0], flat[1], {"sequence": numbers})


def _shape(x: Tensor | None) -> list[int] | None:
    return None if x is None else list(x.shape)


def _per_sequence(weight: Tensor | None, target: Tensor | None, ignore: int | None, student: Tensor) -> Tensor:
    """``[b, t]`` weights that sum to 1 over the kept tokens of every sequence that has any."""
    wide = student.dtype if student.dtype == torch.float64 else torch.float32
    given = torch.ones(student.shape[:2], dtype=wide, device=student.device) if weight is None else weight
    if target is not None and ignore is not None:
        given = torch.where(target != ignore, given, torch.zeros_like(given))
    total = given.sum(1, keepdim=True)
    return given / torch.where(total == 0, torch.ones_like(total), total)
