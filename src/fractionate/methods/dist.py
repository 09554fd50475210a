"""DIST: correlations instead of divergences."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..losses.relations import column_correlation, row_correlation
from ..rows import Logits, Progress
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_not_negative, check_positive, preset
from .method import Method, Part, Task, Terms

Hard = Literal["error", "argmax"]


@preset
def dist(
    *,
    beta: float = 2.0,
    gamma: float = 2.0,
    temperature: float = 4.0,
    scale: bool = True,
    gather: bool = False,
    ce_weight: float = 1.0,
    warmup: float = 1,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """DIST: Pearson correlation of the probabilities along every row and along every class.

    L = ce_weight CE + W(e) T^2 [ beta (1 - mean over rows rho(p^S_i, p^T_i)) + gamma (1 - mean over classes
    rho(p^S_c, p^T_c)) ]

    Args:
        beta: weight of ``inter`` (rows).
        gamma: weight of ``intra`` (classes); it needs at least two rows, and depends on the batch of the process.
        temperature: T.
        scale: whether the terms carry T^2 (classification does, segmentation does not).
        gather: take the columns of ``intra`` over all processes (as many rows on each).
        ce_weight, warmup, label_smoothing, hard: as in :func:`kd`; reads no label.

    Returns:
        Method with components ``task``, ``inter``, ``intra``. A class whose probabilities are constant over the rows
        contributes a correlation of 0 and no gradient.

    Source: arXiv 2205.10536; CIFAR-100 T 4, ImageNet T 1; segmentation beta = gamma = 1, T 1, no T^2.

    Example:
        >>> import torch, fractionate as fr
        >>> z = torch.randn(4, 10, dtype=torch.float64)
        >>> rows = fr.methods.dist().components(fr.Logits(z, z, torch.tensor([0, 1, 2, 3])))
        >>> [bool(rows[name].abs().max() < 1e-3) for name in ("inter", "intra")]
        [True, True]
    """
    check_positive("dist", temperature=temperature)
    check_not_negative("dist", beta=beta, gamma=gamma)
    check_common("dist", ce_weight, warmup, label_smoothing, hard)

    def at(temperature: float | Tensor) -> Terms:
        def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
            square = temperature * temperature if scale else 1.0
            inter = 1 - row_correlation(lg.student, lg.teacher, temperature)
            columns = column_correlation(lg.student, lg.teacher, temperature, lg.weight, gather=gather)
            return {"inter": square * inter, "intra": (square * (1 - columns.mean())).expand(lg.rows)}

        return terms

    return Method(
        name="dist",
        parts={
            "task": Part(constant(ce_weight), "task"),
            "inter": Part(warmup_to(beta, warmup)),
            "intra": Part(warmup_to(gamma, warmup)),
        },
        terms=at(temperature),
        tempered=at,
        task=Task(label_smoothing),
        hard=hard,
        row_wise=False,
    )
