"""What a contract states, and rows to check it with: easy random ones and those that break an unguarded logarithm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..methods import Method
from ..rows import Logits, Progress

Pair = Callable[[int], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What the rows of a method must hold besides one student, one teacher and hard labels.

    Args:
        views: 2 for a strong view.
        token: whether a second head of the student is read.
        regions: sizes of the region grids.
        teachers: number of teachers.
        extras: names of further losses.
    """

    views: int = 1
    token: bool = False
    regions: tuple[int, ...] = ()
    teachers: int = 1
    extras: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Contract:
    """One row of the contract table: every field is a claim, and each claim is checked in both directions.

    A claim that is too weak fails as well: a method that says ``row_wise=False`` must really look at other rows.

    Args:
        components: names besides ``task``, in order.
        zero_at_teacher: those that vanish, with their gradient, where the student equals the teacher; the others must
            not.
        row_wise: whether a row's value depends on that row alone.
        shift_invariant: whether a constant added to all logits of a row changes nothing.
        class_symmetric: whether renaming the classes changes nothing.
        random: whether random numbers belong to the place of a row in the batch (then only its first rows are left
            standing when rows are dropped).
        needs_labels: whether a distillation component reads the label.
        held_constant: whether a weight that depends on the student is kept out of the gradient, so that finite
            differences disagree with it.
        roles: whether ``deepkd`` works on it.
        deepkd_keeps_loss: whether ``deepkd`` then leaves the whole loss as it is.
        streams: names of its gradient streams.
        backward_passes: per step.
        needs: what its rows must hold.
        progress: position in training at which it is looked at.
        classes: number of classes it is looked at with.

    Example:
        >>> Contract(components=("kd",), zero_at_teacher=("kd",)).row_wise
        True
    """

    components: tuple[str, ...]
    zero_at_teacher: tuple[str, ...] = ()
    row_wise: bool = True
    shift_invariant: bool = True
    class_symmetric: bool = True
    random: bool = False
    needs_labels: bool = False
    held_constant: bool = False
    roles: bool = False
    deepkd_keeps_loss: bool = True
    streams: tuple[str, ...] = ("loss",)
    backward_passes: int = 1
    needs: Needs = field(default_factory=Needs)
    progress: Progress = field(default_factory=lambda: Progress(step=2, epoch=3, epochs=10))
    classes: int = 7

    def rows(self, n: int = 10) -> Logits:
        """Easy rows with everything the method needs; more of them than classes, so that labels repeat."""
        return easy_rows(n, self.classes, self.needs)

    def huge(self, size: float) -> Logits:
        """Extreme rows with everything the method needs."""
        return huge_rows(self.classes, size, self.needs)

    def components_of(self, method: Method) -> Callable[[Logits], dict[str, Tensor]]:
        """The method as a function of rows."""
        return lambda lg: method.components(lg, self.progress)

    def loss_of(self, method: Method) -> Callable[[Logits], Tensor]:
        """Its whole loss as a function of rows."""
        return lambda lg: method.loss(lg, self.progress)


def easy_rows(n: int = 6, c: int = 7, needs: Needs | None = None, seed: int = 0) -> Logits:
    """Student of spread 2, teacher of spread 4, uniform labels (the teacher is mostly wrong); float64.

    Example:
        >>> easy_rows(4, 10, Needs(views=2)).strong.rows
        4
    """
    target = torch.randint(c, (n,), generator=torch.Generator().manual_seed(seed))

    def pair(view: int) -> tuple[Tensor, Tensor]:
        first = seed + 1 + 2 * view
        return random_logits(n, c, 2.0, first), random_logits(n, c, 4.0, first + 1)

    return _assembled(pair, target, needs or Needs())


def huge_rows(c: int = 7, size: float = 1e4, needs: Needs | None = None, seed: int = 0) -> Logits:
    """Logits of +-size in every pattern that breaks an unguarded log or exp: ten rows, float64."""
    spike = torch.full((2, c), -size).double()
    spike[:, 1] = size
    flat = torch.full((1, c), size).double()
    ramp = torch.linspace(-size, size, c).double()[None]

    def pair(view: int) -> tuple[Tensor, Tensor]:
        signs = random_logits(4, c, 1.0, seed + view).sign() * size
        student = torch.cat([signs, spike, flat, ramp, flat, -ramp])
        teacher = torch.cat([signs.roll(1, 0), -spike, spike[:1], flat, ramp, -ramp])
        return (student.flip(0), teacher.flip(0)) if view % 2 else (student, teacher)

    return _assembled(pair, torch.arange(10) % c, needs or Needs())


def random_logits(n: int, c: int, scale: float, seed: int) -> Tensor:
    """``[n, c]`` normal numbers, the same for the same seed; float64."""
    return scale * torch.randn(n, c, generator=torch.Generator().manual_seed(seed)).double()


def _assembled(pair: Pair, target: Tensor, needs: Needs) -> Logits:
    n = len(target)
    lg = Logits(*pair(0), target, teachers=tuple(pair(10 + k)[1] for k in range(needs.teachers - 1)))
    count = sum(size * size for size in needs.regions)
    strong = token = regions = None
    if needs.views == 2:
        strong = Logits(*pair(1), target, teachers=tuple(pair(20 + k)[1] for k in range(needs.teachers - 1)))
    if needs.token:
        token = replace(lg, student=pair(1)[0])
    if count:
        pairs = [pair(0 if k == 0 else 30 + k) for k in range(count)]  # the first region is the whole image
        student, teacher = (torch.stack([p[i] for p in pairs], 1).flatten(0, 1) for i in (0, 1))
        regions = Logits(student, teacher, target.repeat_interleave(count))
    extra = {name: torch.linspace(0, 1 + k, n).to(lg.student.dtype) for k, name in enumerate(needs.extras)}
    return replace(lg, strong=strong, token=token, regions=regions, extra=extra)


# -- every view of the rows ------------------------------------------------------------------


def views(lg: Logits) -> Iterator[Logits]:
    """The rows themselves, their strong view, their token and their regions."""
    yield lg
    for other in (lg.strong, lg.token, lg.regions):
        if other is not None:
            yield from views(other)


def students(lg: Logits) -> list[Tensor]:
    """The student's logits of every view."""
    return [view.student for view in views(lg)]


def with_students(lg: Logits, logits: Sequence[Tensor]) -> Logits:
    """The rows with other student logits, one tensor per view in the order of :func:`students`."""
    remaining = iter(logits)
    return each_view(lg, lambda view: replace(view, student=next(remaining)))


def with_leaf_students(lg: Logits) -> Logits:
    """Fresh leaves that record gradients in the place of the student's logits."""
    return with_students(lg, [z.detach().clone().requires_grad_() for z in students(lg)])


def with_labels(lg: Logits, target: Tensor) -> Logits:
    """Other labels in every view; a region has the label of its row."""
    return each_view(lg, lambda view: replace(view, target=target.repeat_interleave(_share(view, lg), 0)))


def cast(lg: Logits, dtype: torch.dtype) -> Logits:
    """The same rows in another floating dtype."""

    def changed(view: Logits) -> Logits:
        return replace(
            view,
            student=view.student.to(dtype),
            teacher=view.teacher.to(dtype),
            target=view.target.to(dtype) if view.soft else view.target,
            teachers=tuple(t.to(dtype) for t in view.teachers),
            extra={name: x.to(dtype) for name, x in view.extra.items()},
        )

    return each_view(lg, changed)


def each_view(lg: Logits, change: Callable[[Logits], Logits]) -> Logits:
    """``change`` applied to the rows, then to their strong view, their token and their regions."""
    own = change(replace(lg, strong=None, token=None, regions=None))
    strong, token, regions = (None if v is None else each_view(v, change) for v in (lg.strong, lg.token, lg.regions))
    return replace(own, strong=strong, token=token, regions=regions)


def _share(view: Logits, lg: Logits) -> int:
    return view.rows // max(1, lg.rows)
