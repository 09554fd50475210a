"""Rows: the unit of every loss. An image, a valid pixel, a region of interest and a token are all rows.

This module is the only place that flattens logits and drops ignored positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ._typing import Float


@dataclass(frozen=True)
class Progress:
    """Where training stands; every schedule is a function of it.

    Args:
        step: optimizer steps done, from 0.
        epoch: current epoch, from 1 (as in the published schedules).
        epochs: number of epochs of the run.
        steps: number of steps of the run, if known (needed by step-wise schedules only).

    Example:
        >>> Progress(epoch=121, epochs=241).fraction
        0.5
    """

    step: int = 0
    epoch: int = 1
    epochs: int = 240
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.step < 0 or self.epoch < 1 or self.epochs < 1:
            raise ValueError(
                f"Progress: step counts from 0, epoch from 1 and epochs is at least 1, got "
                f"step={self.step}, epoch={self.epoch}, epochs={self.epochs}"
            )

    @property
    def fraction(self) -> float:
        """(epoch - 1) / (epochs - 1), at most 1; 0 for a run of one epoch."""
        return min(1.0, (self.epoch - 1) / (self.epochs - 1)) if self.epochs > 1 else 0.0

    @property
    def step_fraction(self) -> float:
        """step / (steps - 1), at most 1; needs ``steps``."""
        if self.steps is None:
            raise ValueError("Progress: a step-wise schedule needs Progress(steps=number of steps)")
        return min(1.0, self.step / (self.steps - 1)) if self.steps > 1 else 0.0


def can_look(x: Tensor) -> bool:
    """Whether values of ``x`` may be read: on CPU and not under compile (reading CUDA synchronizes)."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


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
            _check_logits(self.student, teacher)
        _check_target(self.target, self.student)
        for name, values in {"weight": self.weight, **self.extra}.items():
            _check_per_row(name, values, self.student)
        _check_views(self)
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

    def __getitem__(self, rows: slice) -> Logits:
        """The given rows, of every view."""
        per_row = 0 if self.regions is None or not self.rows else self.regions.rows // self.rows
        start, stop, _ = rows.indices(self.rows)
        return Logits(
            self.student[rows],
            self.teacher[rows],
            self.target[rows],
            None if self.strong is None else self.strong[rows],
            None if self.weight is None else self.weight[rows],
            None if self.ranking is None else self.ranking[rows],
            tuple(t[rows] for t in self.teachers),
            None if self.regions is None else self.regions[start * per_row : stop * per_row],
            {name: values[rows] for name, values in self.extra.items()},
        )


def _check_logits(student: Tensor, teacher: Tensor) -> None:
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"Logits: student and teacher must both be [n, c]; got {list(student.shape)} and "
            f"{list(teacher.shape)}. Flatten pixels, regions and tokens with fractionate.rows."
        )
    if not student.is_floating_point() or student.dtype != teacher.dtype:
        raise ValueError(
            f"Logits: student and teacher must share one floating dtype, got {student.dtype} and "
            f"{teacher.dtype}; cast one of them, for example teacher.to(student.dtype)"
        )
    if student.device != teacher.device:
        raise ValueError(
            f"Logits: student is on {student.device}, teacher on {teacher.device}; "
            f"move one of them, for example teacher.to(student.device)"
        )
    if student.shape[1] < 2:
        raise ValueError(f"Logits: at least 2 classes are needed, got c={student.shape[1]}")


def _check_target(target: Tensor, student: Tensor) -> None:
    n, c = student.shape
    if target.device != student.device:
        raise ValueError(f"Logits: target is on {target.device}, student on {student.device}; move one of them")
    if target.is_floating_point():
        if target.shape != student.shape:
            raise ValueError(
                f"Logits: a floating target holds soft labels [n, c]={[n, c]}, got "
                f"{list(target.shape)}; hard labels must be int64 [n]"
            )
        return
    if target.dtype != torch.int64 or target.shape != (n,):
        raise ValueError(
            f"Logits: target must be int64 [n]=[{n}] or soft labels [n, c]={[n, c]}, got "
            f"{target.dtype} {list(target.shape)}"
        )
    if n and can_look(target):
        low, high = (int(v) for v in target.aminmax())
        if low < 0 or high >= c:
            raise ValueError(
                f"Logits: target labels must lie in 0..{c - 1}, got {low}..{high}; ignored positions "
                f"(255, -100) are dropped by rows.pixels and rows.tokens"
            )


def _check_per_row(name: str, values: Tensor | None, student: Tensor) -> None:
    if values is None:
        return
    if values.shape != student.shape[:1] or values.device != student.device:
        raise ValueError(
            f"Logits: {name} must be [n]=[{len(student)}] on {student.device}, got "
            f"{list(values.shape)} on {values.device}"
        )


def _check_views(lg: Logits) -> None:
    shape = list(lg.student.shape)
    if lg.strong is not None and list(lg.strong.student.shape) != shape:
        raise ValueError(
            f"Logits: the strong view must have the rows and classes of the weak one {shape}, got "
            f"{list(lg.strong.student.shape)}"
        )
    if lg.regions is not None:
        rows, classes = lg.regions.student.shape
        if classes != shape[1] or (shape[0] and (rows % shape[0] or not rows)) or (rows and not shape[0]):
            raise ValueError(
                f"Logits: regions must be [n * r, c] with n={shape[0]}, c={shape[1]}, got {[rows, classes]}"
            )


def weighted_mean(x: Float[Tensor, " n"], weight: Float[Tensor, " n"] | None) -> Float[Tensor, ""]:
    """sum(weight * x) / sum(weight); 0 with a graph when there are no rows or no weight.

    Example:
        >>> import torch
        >>> weighted_mean(torch.tensor([1.0, 3.0]), torch.tensor([3.0, 1.0]))
        tensor(1.5000)
    """
    if weight is None:
        return x.sum() / max(1, x.shape[0])
    total = weight.sum()
    return (weight * x).sum() / torch.where(total == 0, torch.ones_like(total), total)


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


def chunks(lg: Logits, size: int) -> Iterator[Logits]:
    """The rows in pieces of at most ``size``; one empty piece if there are no rows."""
    if size < 1:
        raise ValueError(f"rows.chunks: a chunk needs at least 1 row, got {size}")
    for start in range(0, max(1, lg.rows), size):
        yield lg[start : start + size]


def chunked(loss: Callable[[Logits], dict[str, Tensor]], lg: Logits, size: int) -> dict[str, Float[Tensor, " n"]]:
    """Evaluate a row-wise loss piece by piece: the same rows, a fraction of the temporary memory.

    Args:
        loss: a function of rows that returns named ``[n]`` values, for example
            ``lambda part: method.components(part, progress)``.
        lg: all rows.
        size: rows per piece.
    """
    pieces = [loss(part) for part in chunks(lg, size)]
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


def with_logits(lg: Logits, student: Tensor, teacher: Tensor) -> Logits:
    """The same rows with transformed logits, still ranked by the raw teacher."""
    return replace(lg, student=student, teacher=teacher, ranking=lg.rank_by)
