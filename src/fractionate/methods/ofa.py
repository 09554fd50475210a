"""The OFA loss: a cross-entropy whose target stresses the label by an exponent."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..losses.soft import adaptive_cross_entropy
from ..rows import Logits, Progress
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_not_negative, check_positive, preset
from .method import Method, Part, Task, Terms

Hard = Literal["error", "argmax"]


@preset
def ofa(
    *,
    gamma: float = 1.0,
    temperature: float = 1.0,
    weight: float = 1.0,
    ce_weight: float = 1.0,
    warmup: float = 1,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """The loss of one-for-all distillation: cross-entropy with a target whose label part is raised to a power.

    L = ce_weight CE + weight W(e) mean[ -sum_c r_c log p^S_c ], r_c = (p^T_c + 1[c = y])^gamma - 1[c = y]

    Args:
        gamma: exponent; 1 is the cross-entropy with the teacher's probabilities.
        temperature: T of both probabilities; there is no T^2.
        weight: weight of ``ofa``.
        ce_weight, warmup, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``ofa``. The branches at intermediate layers of the paper are not offered.

    Raises:
        ValueError: soft labels (the target is not defined for mixed ones), an argument out of range.

    Source: arXiv 2310.19444.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]))
        >>> fr.methods.ofa().components(lg)["ofa"]
        tensor([0.6931])
    """
    check_positive("ofa", gamma=gamma, temperature=temperature)
    check_not_negative("ofa", weight=weight)
    check_common("ofa", ce_weight, warmup, label_smoothing, hard)

    def at(temperature: float | Tensor) -> Terms:
        def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
            return {"ofa": adaptive_cross_entropy(lg.student, lg.teacher, lg.labels, gamma, temperature)}

        return terms

    return Method(
        name="ofa",
        parts={"task": Part(constant(ce_weight), "task"), "ofa": Part(warmup_to(weight, warmup))},
        terms=at(temperature),
        tempered=at,
        task=Task(label_smoothing),
        needs_labels=True,
        hard=hard,
    )
