"""Graded inputs: from easy random logits to confident teachers, ties, huge values and no rows at all."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fractionate import Logits

LOW_PRECISION = (torch.float32, torch.bfloat16, torch.float16)


def random_logits(n: int, c: int, scale: float, seed: int) -> Tensor:
    return scale * torch.randn(n, c, generator=torch.Generator().manual_seed(seed)).double()


def labels(n: int, c: int, seed: int = 0) -> Tensor:
    return torch.randint(c, (n,), generator=torch.Generator().manual_seed(seed))


def easy(n: int = 6, c: int = 7, seed: int = 0, *, strong: bool = True) -> Logits:
    """Student of spread 2, teacher of spread 4, uniform labels: the teacher is mostly wrong."""
    y = labels(n, c, seed)
    student, teacher = (random_logits(n, c, s, seed + i) for i, s in ((1, 2.0), (2, 4.0)))
    second = None
    if strong:
        views = (random_logits(n, c, s, seed + i) for i, s in ((3, 2.0), (4, 3.0)))
        second = Logits(*views, y)
    return Logits(student, teacher, y, strong=second)


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
    signs = random_logits(4, c, 1.0, seed).sign() * size
    spike = torch.full((2, c), -size).double()
    spike[:, 1] = size
    flat = torch.full((1, c), size).double()
    ramp = torch.linspace(-size, size, c).double()[None]
    student = torch.cat([signs, spike, flat, ramp, flat, -ramp])
    teacher = torch.cat([signs.roll(1, 0), -spike, spike[:1], flat, ramp, -ramp])
    y = torch.arange(len(student)) % c
    strong = Logits(student.flip(0), teacher.flip(0), y)
    return Logits(student, teacher, y, strong=strong)


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


def cast(lg: Logits, dtype: torch.dtype) -> Logits:
    """The same rows in another floating dtype, both views."""
    strong = None if lg.strong is None else cast(lg.strong, dtype)
    target = lg.target.to(dtype) if lg.soft else lg.target
    return Logits(lg.student.to(dtype), lg.teacher.to(dtype), target, strong=strong)
