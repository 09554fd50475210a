"""The inner loss of KD-like methods on one pair of views: KD as a whole, or in its two parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..losses import split_kl, whole
from ..rows import Logits, Progress, weighted_mean
from .checks import check_not_negative
from .mask import Mask, decoupled
from .method import Role, Terms

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
