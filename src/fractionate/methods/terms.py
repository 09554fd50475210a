"""Terms that are read off one split, DeepKD's mask over its non-targets, and the inner loss of KD-like methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from ..kernels import KL, Partition, has_split_mean, split_mean
from ..losses import by_target, by_target_top, split_kl, whole
from ..rows import Logits, Progress, weighted_mean
from ..schedules import Schedule, phases, round_count
from .checks import check_not_negative

if TYPE_CHECKING:
    from .method import Role, Terms


@dataclass(frozen=True, eq=False)
class SplitTerms:
    """The terms of a method whose components are parts of one split; also their weighted mean at once.

    Args:
        partition: function of rows that gives the groups.
        parts: component name -> the group whose ``within`` it is, or ``None`` for ``between``.
        temperature: T.
        kl: direction inside the groups.

    Example:
        >>> import torch
        >>> from fractionate.losses import by_target
        >>> terms = SplitTerms(lambda lg, progress: by_target(lg), {"target": None, "nontarget": 1}, 4.0)
        >>> lg = Logits(torch.randn(2, 5), torch.randn(2, 5), torch.tensor([0, 1]))
        >>> {name: x.shape for name, x in terms(lg, Progress()).items()}
        {'target': torch.Size([2]), 'nontarget': torch.Size([2])}
    """

    partition: Callable[[Logits, Progress], Partition]
    parts: Mapping[str, int | None]
    temperature: float | Tensor
    kl: KL = "forward"

    def __call__(self, lg: Logits, progress: Progress) -> dict[str, Tensor]:
        """Every component, ``[n]``."""
        split = split_kl(lg.student, lg.teacher, self.partition(lg, progress), self.temperature, self.kl)
        return {name: split.between if g is None else split.within[:, g] for name, g in self.parts.items()}

    def mean(self, lg: Logits, progress: Progress, weights: Mapping[str, float]) -> Tensor | None:
        """Mean over the rows of the weighted components, from one look at the logits; ``None`` where that is no gain.

        Args:
            lg: rows.
            progress: position in training.
            weights: weight of every component that counts.
        """
        temperature = self.temperature
        if lg.weight is not None or isinstance(temperature, Tensor):
            return None
        if not has_split_mean(lg.student, lg.teacher, temperature, self.kl):
            return None
        partition = self.partition(lg, progress)
        each = [0.0] * (partition.size + 1)
        for name, g in self.parts.items():
            each[0 if g is None else g + 1] = weights.get(name, 0.0)
        return split_mean(lg.student, lg.teacher, partition, temperature, tuple(each))


@dataclass(frozen=True)
class Mask:
    """Which non-target classes NCKD looks at.

    Args:
        keep: number of classes, or a schedule that gives a fraction of them; ``None`` or 0 keeps all.
        count_target: whether the label takes part in the ranking.
    """

    keep: int | Schedule | None = None
    count_target: bool = True

    def count(self, progress: Progress, classes: int) -> int | None:
        """k at this point of training; ``None`` when nothing is masked."""
        most = classes if self.count_target else classes - 1
        if self.keep is None or self.keep == 0:
            return None
        if isinstance(self.keep, phases):
            return min(most, self.keep.count(progress, classes))
        if callable(self.keep):
            fraction = self.keep(progress)
            if not 0 < fraction <= 1:
                raise ValueError(
                    f"keep: the schedule must return a fraction of the classes in (0, 1], got {fraction!r}"
                )
            return min(most, round_count(fraction * classes, classes))
        return self.keep

    def partition(self, lg: Logits, progress: Progress) -> Partition:
        """{label}, {kept non-targets} and, if some are masked, {dropped}."""
        k = self.count(progress, lg.classes)
        return by_target(lg) if k is None else by_target_top(lg, k, count_target=self.count_target)

    def decoupled(
        self, lg: Logits, progress: Progress, temperature: float | Tensor, kl: KL = "forward"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """TCKD, NCKD over the kept non-targets, and the teacher's non-target mass; ``[n]`` each.

        TCKD and the mass always use the full distribution.
        """
        return decoupled(lg.student, lg.teacher, self.partition(lg, progress), temperature, kl)


def decoupled(
    student: Tensor, teacher: Tensor, partition: Partition, temperature: float | Tensor, kl: KL = "forward"
) -> tuple[Tensor, Tensor, Tensor]:
    """As :meth:`Mask.decoupled`, with a partition that serves several temperatures and students."""
    split = split_kl(student, teacher, partition, temperature, kl)
    if partition.size == 2:
        return split.between, split.within[:, 1], split.mass[:, 1]
    between, (log_mass, _) = split.between_merged([[0], [1, 2]])
    return between, split.within[:, 1], log_mass[:, 1].exp()


def check_keep(keep: int | Schedule | None) -> None:
    """``keep`` is an integer, a schedule or ``None``."""
    if keep is None or callable(keep):
        return
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 0:
        raise ValueError(
            f"deepkd: keep is a number of classes (an integer, 0 = no mask) or a schedule that returns a "
            f"fraction of the classes, such as fr.schedules.phases(plateau=.55); got {keep!r}"
        )


KdForm = Literal["per_row", "batch_means"]
# Loss of a student at a temperature; an inner loss ranks the classes of some rows once and returns it.
OfStudent = Callable[[Tensor, float | Tensor], dict[str, Tensor]]
Inner = Callable[[Logits, Progress], OfStudent]


def kd_rows(lg: Logits, progress: Progress) -> OfStudent:
    """T^2 KL over all classes, per row."""

    def of(student: Tensor, temperature: float | Tensor) -> dict[str, Tensor]:
        return {"kd": split_kl(student, lg.teacher, whole(lg), temperature).within[:, 0]}

    return of


@dataclass(frozen=True)
class Decoupled:
    """TCKD and NCKD, the latter times (1 - a) unless the weights are constants (DKD).

    Args:
        mask: the non-targets that NCKD looks at.
        form: (1 - a) ``"per_row"``, so that the sum is KD, or as its mean over the batch.
        constant: leave (1 - a) out.
    """

    mask: Mask
    form: KdForm = "per_row"
    constant: bool = False

    def __call__(self, lg: Logits, progress: Progress) -> OfStudent:
        """``target`` and ``nontarget``, ``[n]`` each, of any student against the teacher of these rows."""
        partition = self.mask.partition(lg, progress)

        def of(student: Tensor, temperature: float | Tensor) -> dict[str, Tensor]:
            target, nontarget, rest = decoupled(student, lg.teacher, partition, temperature)
            if self.constant:
                return {"target": target, "nontarget": nontarget}
            share = weighted_mean(rest, lg.weight) if self.form == "batch_means" else rest
            return {"target": target, "nontarget": share * nontarget}

        return of


def at(inner: Inner, temperature: float | Tensor) -> Terms:
    """The inner loss at one temperature, as the terms of a method."""

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        return inner(lg, progress)(lg.student, temperature)

    return terms


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
