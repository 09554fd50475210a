"""NKD: normalised KD, a cross-entropy on the label and one among the other classes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..losses import by_target
from ..losses.partition import Partition
from ..losses.soft import inside_cross_entropy
from ..losses.split import widen
from ..rows import Logits, Progress
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_not_negative, check_positive, preset
from .mask import Mask
from .method import Method, Part, Task, Terms

Hard = Literal["error", "argmax"]


@preset
def nkd(
    *,
    gamma: float = 1.5,
    temperature: float = 1.0,
    ce_weight: float = 1.0,
    warmup: float = 1,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Normalised KD: the label weighted by the teacher's confidence, the other classes renormalised.

    L = ce_weight CE + W(e) mean[ -a_1 log sigma_1 - gamma T^2 sum over c != y of hat p_c log hat q_c ]

    a_1 and sigma_1 are the probabilities of the label at T = 1 in teacher and student; hat p and hat q are those of
    the other classes at T, renormalised. The second term is NCKD plus the entropy of hat p, so it is not 0 where the
    student equals the teacher.

    Args:
        gamma: weight of ``nontarget``.
        temperature: T of ``nontarget``.
        ce_weight, warmup, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``target``, ``nontarget``.

    Raises:
        ValueError: fewer than 3 classes, soft labels, an argument out of range.

    Source: arXiv 2303.13005.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([0]))
        >>> {name: round(float(x), 4) for name, x in fr.methods.nkd().components(lg).items() if name != "task"}
        {'target': 0.3662, 'nontarget': 0.6931}
    """
    check_positive("nkd", temperature=temperature)
    check_not_negative("nkd", gamma=gamma)
    check_common("nkd", ce_weight, warmup, label_smoothing, hard)

    def masked(mask: Mask, temperature: float | Tensor) -> Terms:
        def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
            label = lg.labels[:, None]
            log_q = widen(lg.student).log_softmax(1).gather(1, label)[:, 0]
            a = widen(lg.teacher).softmax(1).gather(1, label)[:, 0]
            kept = _kept(mask.partition(lg, progress), lg)
            return {
                "target": -a * log_q,
                "nontarget": inside_cross_entropy(lg.student, lg.teacher, kept, temperature),
            }

        return terms

    def build(mask: Mask) -> Method:
        return Method(
            name="nkd",
            parts={
                "task": Part(constant(ce_weight), "task"),
                "target": Part(warmup_to(1.0, warmup), "target"),
                "nontarget": Part(warmup_to(gamma, warmup), "nontarget"),
            },
            terms=masked(mask, temperature),
            task=Task(label_smoothing),
            needs_labels=True,
            hard=hard,
            decouple=lambda mask, form: build(mask),
            tempered=lambda value: masked(mask, value),
        )

    return build(Mask())


def _kept(partition: Partition, lg: Logits) -> Tensor:
    """``[n, c]`` the non-targets that count."""
    if partition.size == 2:
        return ~by_target(lg).members(lg.rows, lg.student.device)
    return Partition(partition.groups[1:], lg.classes).members(lg.rows, lg.student.device)
