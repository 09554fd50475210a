"""The two parts of KD, target and non-target: DeepKD's mask over them, and the inner loss of KD-like methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ..kernels import FORWARD, KL, Direction, Partition
from ..losses.partitions import by_target, by_target_mass, by_target_top, whole
from ..losses.split import split_kl
from ..rows import Logits, Progress, weighted_mean
from ..schedules import Schedule, phases, round_count
from .arguments import Role, check_not_negative
from .terms import NO_LABEL, Components, OnRows, RowMap, Terms

KdForm = Literal["per_row", "batch_means"]
Auto = Literal["auto"]
HELD = 0.9  # of the non-target mass, that a mask of its own size keeps


@dataclass(frozen=True)
class Mask:
    """Which non-target classes NCKD looks at (arXiv 2505.15133), and how KD's factor 1 - a counts.

    Args:
        keep: number of classes, or a schedule that gives a fraction of them; ``None`` or 0 keeps all; ``"auto"`` those
            that hold 90 % of the row's non-target mass at T.
        count_target: whether the label takes part in the ranking.
        form: of (1 - a) NCKD where a method has this factor: ``"per_row"``, or its mean over the batch.
    """

    keep: int | Schedule | Auto | None = None
    count_target: bool = True
    form: KdForm = "per_row"

    def count(self, progress: Progress, classes: int) -> int | None:
        """k at this point of training; ``None`` when nothing is masked."""
        most = classes if self.count_target else classes - 1
        if self.keep is None or self.keep == 0 or self.keep == "auto":
            return None
        if isinstance(self.keep, phases):
            return min(most, self.keep.count(progress, classes))
        if callable(self.keep):
            fraction: Any = self.keep(progress)  # of anybody's making
            if fraction is None or isinstance(fraction, str) or not 0 < fraction <= 1:
                raise ValueError(
                    f"keep: the schedule must return a fraction of the classes in (0, 1], got {fraction!r}"
                )
            return min(most, round_count(fraction * classes, classes))
        return self.keep

    def partition(self, lg: Logits, progress: Progress, temperature: float | Tensor) -> Partition:
        """{label}, {kept non-targets} and, if some are masked, {dropped}."""
        if self.keep == "auto":
            return by_target_mass(lg, HELD, temperature)
        k = self.count(progress, lg.classes)
        return by_target(lg) if k is None else by_target_top(lg, k, count_target=self.count_target)

    def decoupled(
        self,
        lg: Logits,
        progress: Progress,
        temperature: float | Tensor,
        kl: KL = "forward",
        direction: Direction = FORWARD,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """TCKD, NCKD over the kept non-targets, and the weight of NCKD in KD, the non-target mass; ``[n]`` each.

        TCKD and the mass always use the full distribution. The mass is the teacher's; of reverse KL the student's, and
        1 against a mixture, whose NCKD holds its masses.
        """
        return decoupled(lg.student, lg.teacher, self.partition(lg, progress, temperature), temperature, kl, direction)


def decoupled(
    student: Tensor,
    teacher: Tensor,
    partition: Partition,
    temperature: float | Tensor,
    kl: KL = "forward",
    direction: Direction = FORWARD,
) -> tuple[Tensor, Tensor, Tensor]:
    """As :meth:`Mask.decoupled`, with a partition that serves several temperatures and students."""
    split = split_kl(student, teacher, partition, temperature, kl, direction=direction)
    between, log_mass = split.between, split.log_mass
    if partition.size > 2:
        between, log_mass = split.between_merged([[0], [1, 2]])
    if direction.mixed:
        return between, split.within[:, 1], torch.ones_like(between)
    return between, split.within[:, 1], log_mass[direction.name == "reverse"][:, 1].exp()


# Loss of a student at a temperature; an inner loss ranks the classes of some rows once and returns it.
OfStudent = Callable[[Tensor, float | Tensor], Components]


class Inner(Protocol):
    """The loss of KD-like methods on one pair of views: KD as a whole (:class:`KdRows`), or :class:`Decoupled`."""

    def __call__(self, lg: Logits, progress: Progress) -> OfStudent:
        """The loss of any student against the teacher of these rows."""
        ...

    def masked(self, mask: Mask) -> Inner:
        """The same with masked non-targets."""
        ...


@dataclass(frozen=True)
class KdRows:
    """T^2 KL over all classes, per row."""

    def __call__(self, lg: Logits, progress: Progress) -> OfStudent:
        """``kd``, ``[n]``, of any student against the teacher of these rows."""

        def of(student: Tensor, temperature: float | Tensor) -> Components:
            return {"kd": split_kl(student, lg.teacher, whole(lg), temperature).within[:, 0]}

        return of

    def masked(self, mask: Mask) -> Inner:
        """Refused."""
        raise ValueError(NO_LABEL)


@dataclass(frozen=True)
class Decoupled:
    """TCKD and NCKD, the latter times (1 - a) unless the weights are constants (DKD).

    Args:
        mask: the non-targets that NCKD looks at; its ``form`` says how (1 - a) counts.
        constant: leave (1 - a) out.
        kl: direction inside the non-targets.
        direction: of both.
        added: to (1 - a), where it counts.
    """

    mask: Mask = Mask()
    constant: bool = False
    kl: KL = "forward"
    direction: Direction = FORWARD
    added: float = 0.0

    def __call__(self, lg: Logits, progress: Progress) -> OfStudent:
        """``target`` and ``nontarget``, ``[n]`` each, of any student against the teacher of these rows."""
        fixed = None if self.mask.keep == "auto" else self.mask.partition(lg, progress, 1.0)

        def of(student: Tensor, temperature: float | Tensor) -> Components:
            partition = self.mask.partition(lg, progress, temperature) if fixed is None else fixed
            target, nontarget, rest = decoupled(student, lg.teacher, partition, temperature, self.kl, self.direction)
            if self.constant:
                return {"target": target, "nontarget": nontarget}
            share = weighted_mean(rest, lg.weight) if self.mask.form == "batch_means" else rest
            share = share + self.added if self.added else share
            return {"target": target, "nontarget": share * nontarget}

        return of

    def masked(self, mask: Mask) -> Inner:
        """The same under another mask."""
        return replace(self, mask=mask)


@dataclass(frozen=True, eq=False)
class InnerTerms:
    """An inner loss at one temperature, as the terms of a method."""

    inner: Inner
    temperature: float | Tensor

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """Every component, ``[n]``."""
        return self.inner(lg, progress)(lg.student, self.temperature)

    def at(self, temperature: float | Tensor) -> Terms:
        """The same at another temperature."""
        return replace(self, temperature=temperature)

    def on(self, change: RowMap) -> Terms:
        """The inner loss of changed rows."""
        return OnRows(self, change)

    def masked(self, mask: Mask) -> Terms:
        """The inner loss masked."""
        return replace(self, inner=self.inner.masked(mask))


@dataclass(frozen=True)
class InnerWeights:
    """alpha and beta of a method whose inner loss is KD, or DKD if one of them is given (the other is then 1)."""

    alpha: float | None = None
    beta: float | None = None

    def check(self, where: str) -> None:
        """Both are finite numbers where given."""
        given = {"alpha": self.alpha, "beta": self.beta}
        check_not_negative(where, **{name: value for name, value in given.items() if value is not None})

    @property
    def dkd(self) -> bool:
        """Whether the inner loss is DKD."""
        return self.alpha is not None or self.beta is not None

    def weights(self, decoupled: bool) -> dict[str, tuple[float, Role | None]]:
        """Weight and role of every part of the inner loss."""
        if not decoupled:
            return {"kd": (1.0, None)}
        alpha, beta = (1.0 if x is None else x for x in (self.alpha, self.beta))
        return {"target": (alpha, "target"), "nontarget": (beta, "nontarget")}
