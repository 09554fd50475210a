"""Graded inputs: from easy random logits to confident teachers, ties, huge values and no rows at all."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fractionate import Logits
from fractionate.testing import Needs, easy_rows, huge_rows
from fractionate.testing.inputs import cast, random_logits

__all__ = [
    "LOW_PRECISION",
    "agreeing",
    "cast",
    "confident",
    "easy",
    "graded",
    "huge",
    "labels",
    "random_logits",
    "tied",
    "with_teacher",
]

LOW_PRECISION = (torch.float32, torch.bfloat16, torch.float16)


def labels(n: int, c: int, seed: int = 0) -> Tensor:
    return easy(n, c, seed, strong=False).target


def easy(n: int = 6, c: int = 7, seed: int = 0, *, strong: bool = True) -> Logits:
    """Student of spread 2, teacher of spread 4, uniform labels: the teacher is mostly wrong."""
    return easy_rows(n, c, Needs(views=2 if strong else 1), seed)


def confident(n: int = 6, c: int = 7, seed: int = 0, *, right: bool) -> Logits:
    """A teacher 12 above everything else, at the label or at the class after it."""
    lg = easy(n, c, seed)
    top = lg.target if right else (lg.target + 1) % c
    return with_teacher(lg, raised(lg.teacher, top), raised(lg.strong.teacher, top))


def raised(logits: Tensor, at: Tensor) -> Tensor:
    """The given class 12 above the largest logit of its row."""
    best = logits.amax(1, keepdim=True) + 12
    return logits.scatter(1, at[:, None], best)


def tied(n: int = 6, c: int = 7, seed: int = 0) -> Logits:
    """Teachers with few distinct values: almost every rank is shared."""
    lg = easy(n, c, seed)
    return with_teacher(lg, *((z / 4).round().clamp(-1, 1) for z in (lg.teacher, lg.strong.teacher)))


def agreeing(n: int = 6, c: int = 7, seed: int = 0) -> Logits:
    """The student equals the teacher."""
    lg = easy(n, c, seed)
    strong = Logits(lg.strong.teacher, lg.strong.teacher, lg.target)
    return Logits(lg.teacher, lg.teacher, lg.target, strong=strong)


def huge(c: int = 7, seed: int = 0, size: float = 1e4) -> Logits:
    """Logits of +-size in every pattern that breaks an unguarded log or exp; float64."""
    return huge_rows(c, size, Needs(views=2), seed)


def graded(c: int = 7) -> Iterator[tuple[str, Logits]]:
    """Named inputs from easy to degenerate, all float64 with a second view."""
    yield "easy", easy(c=c)
    yield "teacher confident and right", confident(c=c, right=True)
    yield "teacher confident and wrong", confident(c=c, right=False)
    yield "ties", tied(c=c)
    yield "student equals teacher", agreeing(c=c)
    yield "huge", huge(c=c)
    yield "one row", easy(n=1, c=c)
    yield "no rows", easy(n=0, c=c)


def with_teacher(lg: Logits, teacher: Tensor, strong: Tensor) -> Logits:
    second = Logits(lg.strong.student, strong, lg.target)
    return Logits(lg.student, teacher, lg.target, strong=second)
