"""Logits of student and teacher for the same rows, with their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .checks import check_like, check_logits, check_per_row, check_regions, check_target


@dataclass(frozen=True, eq=False)
class Logits:
    """Student and teacher logits of the same rows, with their labels.

    Args:
        student: ``[n, c]`` raw logits (no softmax, no temperature), floating point.
        teacher: ``[n, c]`` raw logits, same dtype and device; detached here, so no gradient ever
            reaches the teacher.
        target: ``[n]`` class indices in ``0..c-1``, or ``[n, c]`` soft labels (mixup, cutmix).
        strong: the same rows seen through a second, stronger augmentation (two-view methods).
        weight: ``[n]`` weight of each row in every mean; 1 if not given.
        ranking: ``[n, c]`` logits that rank the classes, if not ``teacher``: transforms put the raw
            teacher here, so that partitions always come from raw logits.
        teachers: further teachers of the same rows, ``[n, c]`` each, detached.
        regions: logits of r image regions per row, ``[n * r, c]``, the regions of a row one after the
            other (SDD).
        extra: further losses of the same rows by name, ``[n]`` each, with their graph (hints on features).

    Raises:
        ValueError: shapes, dtypes or devices do not match, or a label is out of range. Labels are
            looked at on CPU only, so nothing synchronizes a GPU.

    Example:
        >>> import torch
        >>> lg = Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([3, 1, 4, 1]))
        >>> lg.rows, lg.classes
        (4, 10)
    """

    student: Tensor
    teacher: Tensor
    target: Tensor
    strong: Logits | None = None
    weight: Tensor | None = None
    ranking: Tensor | None = None
    teachers: tuple[Tensor, ...] = ()
    regions: Logits | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for teacher in (self.teacher, *self.teachers):
            check_logits(self.student, teacher)
        check_like("ranking", self.rank_by, self.student)
        check_target(self.target, self.student)
        for name, values in {"weight": self.weight, **self.extra}.items():
            check_per_row(name, values, self.student)
        if self.strong is not None:
            check_like("strong view", self.strong.student, self.student)
        if self.regions is not None:
            check_regions(self.regions.student, self.student)
        object.__setattr__(self, "teacher", self.teacher.detach())
        object.__setattr__(self, "teachers", tuple(t.detach() for t in self.teachers))

    @property
    def rows(self) -> int:
        """n, the number of rows."""
        return self.student.shape[0]

    @property
    def classes(self) -> int:
        """c, the number of classes."""
        return self.student.shape[1]

    @property
    def soft(self) -> bool:
        """Whether ``target`` holds soft labels."""
        return self.target.ndim == 2

    @property
    def labels(self) -> Tensor:
        """``[n]`` class indices: the target, or the most likely class of a soft target."""
        return self.target.argmax(1) if self.soft else self.target

    @property
    def rank_by(self) -> Tensor:
        """``[n, c]`` the logits that order the classes: the raw teacher's."""
        return self.teacher if self.ranking is None else self.ranking

    def __getitem__(self, rows: slice | Tensor) -> Logits:
        """The rows that a slice, a mask ``[n]`` or indices pick, of every view and with all their regions."""
        return Logits(
            self.student[rows],
            self.teacher[rows],
            self.target[rows],
            None if self.strong is None else self.strong[rows],
            None if self.weight is None else self.weight[rows],
            None if self.ranking is None else self.ranking[rows],
            tuple(t[rows] for t in self.teachers),
            None if self.regions is None else self.regions[self._regions_of(self.regions.rows, rows)],
            {name: values[rows] for name, values in self.extra.items()},
        )

    def _regions_of(self, count: int, rows: slice | Tensor) -> slice | Tensor:
        """Where the regions of ``rows`` lie; a slice if they lie together, which copies nothing."""
        each = count // max(1, self.rows)
        if isinstance(rows, slice) and rows.step in (None, 1):
            start, stop, _ = rows.indices(self.rows)
            return slice(start * each, stop * each)
        return torch.arange(count, device=self.student.device).view(self.rows, each)[rows].flatten()


def with_logits(lg: Logits, student: Tensor, teacher: Tensor) -> Logits:
    """The same rows with transformed logits, still ranked by the raw teacher."""
    return replace(lg, student=student, teacher=teacher, ranking=lg.rank_by)
