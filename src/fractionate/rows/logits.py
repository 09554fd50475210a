"""Logits of student and teacher for the same rows, with their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .._spoken import spoken
from .._typing import Float
from .checks import (
    check_like,
    check_logits,
    check_per_row,
    check_regions,
    check_target,
    check_view,
    check_weight,
    labels_from,
    plain,
    same_memory,
    warn_of_probabilities,
    weights_from,
)


@dataclass(frozen=True, eq=False)
class Logits:
    """Student and teacher logits of the same rows, with their labels.

    Args:
        student: ``[n, c]`` raw logits (no softmax, no temperature), floating point.
        teacher: ``[n, c]`` raw logits, same dtype and device; detached here, so no gradient ever
            reaches the teacher. It may come from ``torch.inference_mode()``.
        target: ``[n]`` class indices in ``0..c-1``, integers of any size, a tensor or an array; or ``[n, c]`` soft
            labels, each row a distribution (mixup, cutmix); or ``None`` for rows without labels. Those are taken by
            methods that read no label, built with ``ce_weight=0``; others refuse them.
        strong: the same rows seen through a second, stronger augmentation (two-view methods).
        weight: ``[n]`` weight of each row in every mean, not negative; 1 if not given.
        ranking: ``[n, c]`` logits that rank the classes, if not ``teacher``: transforms put the raw
            teacher here, so that partitions always come from raw logits.
        teachers: further teachers of the same rows, ``[n, c]`` each, detached.
        regions: logits of r image regions per row, ``[n * r, c]``, the regions of a row one after the
            other (SDD).
        extra: further losses of the same rows by name, ``[n]`` each, with their graph (hints on features).
        label_weight: ``[n]`` factor on each row's cross-entropy alone, 0 for a row without a label, whose ``target`` is
            then never read. With n / (number of labels) for the others the mean over n rows is that over the labels.
            Methods whose terms read labels refuse it.
        token: the same rows through a second head of the student, such as that of a distillation token.

    Raises:
        ValueError: shapes, dtypes or devices do not match, a label is out of range, soft labels are none (negative, or
            a row that does not sum to 1), or a weight is negative. Values are looked at on CPU only, so
            nothing synchronizes a GPU.

    Warns:
        UserWarning: student or teacher holds probabilities (on CPU): its network ends in a softmax.

    Example:
        >>> import torch
        >>> lg = Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([3, 1, 4, 1]))
        >>> lg.rows, lg.classes
        (4, 10)
    """

    student: Tensor
    teacher: Tensor
    target: Tensor | Any = None  # Any: what is no tensor becomes one, and None stays
    strong: Logits | None = None
    weight: Tensor | None = None
    ranking: Tensor | None = None
    teachers: tuple[Tensor, ...] = ()
    regions: Logits | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    label_weight: Tensor | None = None
    token: Logits | None = None

    @spoken
    def __post_init__(self) -> None:
        check_logits(self.student, self.teacher)
        for k, teacher in enumerate(self.teachers):
            check_logits(self.student, teacher, f"teachers[{k}]")
        check_like("ranking", self.teacher if self.ranking is None else self.ranking, self.student)
        target = labels_from(self.target, self.student)
        if target is not None:
            check_target(target, self.student)
        weight = None if self.weight is None else weights_from("weight", self.weight, self.student)
        known = None if self.label_weight is None else weights_from("label_weight", self.label_weight, self.student)
        for name, values in {"weight": weight, "label_weight": known, **self.extra}.items():
            check_per_row(name, values, self.student)
        check_weight(weight)
        check_weight(known, "label_weight")
        for name, view in {"strong view": self.strong, "token": self.token}.items():
            if view is not None:
                check_like(name, view.student, self.student)
                check_view(name, view.target, target)
        if self.regions is not None:
            check_regions(self.regions.student, self.student, self.regions.target, target)
        teacher, ranking = plain(self.teacher.detach()), None if self.ranking is None else plain(self.ranking)
        teachers = tuple(map(plain, map(Tensor.detach, self.teachers)))
        warn_of_probabilities("student", self.student)
        if not same_memory(teacher, self.student):  # a labels-only run has no teacher to speak of
            warn_of_probabilities("teacher", teacher)
        for k, further in enumerate(teachers):
            warn_of_probabilities(f"teachers[{k}]", further)
        found = {"target": target, "weight": weight, "label_weight": known}
        for name, value in {**found, "teacher": teacher, "ranking": ranking, "teachers": teachers}.items():
            object.__setattr__(self, name, value)

    @property
    def rows(self) -> int:
        """n, the number of rows."""
        return self.student.shape[0]

    @property
    def classes(self) -> int:
        """c, the number of classes."""
        return self.student.shape[1]

    @property
    def total_weight(self) -> Float[Tensor, ""]:
        """Sum of the weights, or the number of rows: what a mean over these rows counts for in a larger one.

        The mean of a step that is taken in parts (accumulation, several processes) is
        ``weighted_mean(means, totals)`` of the parts' means and total weights.

        Example:
            >>> import torch
            >>> Logits(torch.zeros(3, 2), torch.zeros(3, 2)).total_weight
            tensor(3.)
        """
        if self.weight is not None:
            return self.weight.sum()
        wide = self.student.dtype if self.student.dtype == torch.float64 else torch.float32
        return torch.full((), self.rows, dtype=wide, device=self.student.device)

    @property
    def soft(self) -> bool:
        """Whether ``target`` holds soft labels; an error in words if there are none."""
        return self._labelled().ndim == 2

    @property
    def labels(self) -> Tensor:
        """``[n]`` class indices: the target, or the most likely class of a soft target; an error if there are none."""
        target = self._labelled()
        return target.argmax(1) if self.soft else target

    @property
    def rank_by(self) -> Tensor:
        """``[n, c]`` the logits that order the classes: the raw teacher's."""
        return self.teacher if self.ranking is None else self.ranking

    def _labelled(self) -> Tensor:
        if self.target is None:
            raise ValueError(
                "Logits: these rows have no labels (target=None), but a label is read; give labels, or take a method "
                "that reads none, built with ce_weight=0"
            )
        return self.target

    def __getitem__(self, rows: slice | Tensor) -> Logits:
        """The rows that a slice, a mask ``[n]`` or indices pick, of every view and with all their regions."""
        return Logits(
            self.student[rows],
            self.teacher[rows],
            None if self.target is None else self.target[rows],
            None if self.strong is None else self.strong[rows],
            None if self.weight is None else self.weight[rows],
            None if self.ranking is None else self.ranking[rows],
            tuple(t[rows] for t in self.teachers),
            None if self.regions is None else self.regions[self._regions_of(self.regions.rows, rows)],
            {name: values[rows] for name, values in self.extra.items()},
            None if self.label_weight is None else self.label_weight[rows],
            None if self.token is None else self.token[rows],
        )

    def _regions_of(self, count: int, rows: slice | Tensor) -> slice | Tensor:
        """Where the regions of ``rows`` lie; a slice if they lie together, which copies nothing."""
        each = count // max(1, self.rows)
        if isinstance(rows, slice) and rows.step in (None, 1):
            start, stop, _ = rows.indices(self.rows)
            return slice(start * each, stop * each)
        return torch.arange(count, device=self.student.device).view(self.rows, each)[rows].flatten()


@spoken
def with_logits(lg: Logits, student: Tensor, teacher: Tensor) -> Logits:
    """The same rows with transformed logits, still ranked by the raw teacher."""
    return replace(lg, student=student, teacher=teacher, ranking=lg.rank_by)


@spoken
def with_weight(lg: Logits, weight: Float[Tensor, " n"]) -> Logits:
    """The same rows, every one counting ``weight`` times what it did; the weights of the other views stay.

    Example:
        >>> import torch
        >>> lg = Logits(torch.zeros(2, 3), torch.zeros(2, 3), weight=torch.tensor([1.0, 2.0]))
        >>> with_weight(lg, torch.tensor([3.0, 0.5])).weight
        tensor([3., 1.])
    """
    return replace(lg, weight=weight if lg.weight is None else lg.weight * weight)


def without(
    ignore: int | None,
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None,
    weight: Tensor | None,
    numbers: Mapping[str, Tensor] | None = None,
) -> Logits:
    """The rows whose label is not the ignored one."""
    extra = numbers or {}
    if ignore is None or target is None:
        return Logits(student, teacher, target, weight=weight, extra=extra)
    keep = target != ignore
    kept = {name: x[keep] for name, x in extra.items()}
    weight = None if weight is None else weight[keep]
    return Logits(student[keep], teacher[keep], target[keep], weight=weight, extra=kept)


def blame(lg: Logits, row: int) -> str:
    """Which input makes a loss of this row not finite, in words: of the row itself, else of any other row."""
    given = dict(_inputs(lg))
    for name, x in given.items():
        if len(x) == lg.rows and not bool(x.detach()[row].isfinite().all()):
            return f"{name} not finite in row {row}"
    for name, x in given.items():
        bad = ~x.detach().isfinite().flatten(1).all(1) if x.ndim > 1 else ~x.detach().isfinite()
        if bool(bad.any()):
            return f"{name} not finite in row {int(bad.nonzero()[0, 0])}"
    return "student and teacher logits are finite there"


def _inputs(lg: Logits, prefix: str = "the ") -> list[tuple[str, Tensor]]:
    """Every tensor of the rows that a loss reads, under the words of a sentence."""
    found = [(f"{prefix}student logits are", lg.student), (f"{prefix}teacher logits are", lg.teacher)]
    found += [(f"{prefix}logits of teachers[{k}] are", t) for k, t in enumerate(lg.teachers)]
    if lg.target is not None and lg.target.is_floating_point():
        found.append((f"{prefix}target is", lg.target))
    found += [(f"{prefix}extra loss {name!r} is", x) for name, x in lg.extra.items()]
    if lg.weight is not None:
        found.append((f"{prefix}weight is", lg.weight))
    if lg.label_weight is not None:
        found.append((f"{prefix}label_weight is", lg.label_weight))
    for words, view in (
        ("in the strong view the ", lg.strong),
        ("at the token the ", lg.token),
        ("in the regions the ", lg.regions),
    ):
        if view is not None:
            found += _inputs(view, words)
    return found
