"""DeepKD's dynamic top-k mask over the non-target classes (arXiv 2505.15133, section 9.2 of the specification)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..losses import Partition, by_target, by_target_top, split_kl
from ..losses.split import KL
from ..rows import Logits, Progress
from ..schedules import Schedule, phases, round_count


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
