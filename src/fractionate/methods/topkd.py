"""TopKD: a contrast of logit vectors and cosines with a teacher whose top logits are raised; a reconstruction."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .._choices import choose
from ..losses.topk import SCALINGS, Scaling, logit_contrast, scale_top, top_cosine
from ..rows import Logits, Progress
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_count, check_not_negative, check_positive, preset
from .method import Method, Part, Task
from .reconstruction import reconstruction

Hard = Literal["error", "argmax"]


@reconstruction
@preset
def topkd(
    *,
    k: int = 5,
    gamma: float = 0.5,
    lam: float = 0.1,
    kappa: float = 0.5,
    alpha: float = 2.0,
    beta: float = 1.0,
    tau: float = 0.07,
    lam_con: float = 1.0,
    lam_tdl: float = 1.0,
    scaling: Scaling = "sign_safe",
    center: bool = False,
    warmup: float = 1,
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Top-k KD (reconstruction): contrast of whole logit vectors, and cosines on the top, bottom and middle classes.

    L = ce_weight CE + W(e) mean[ lam_con CON + lam_tdl TDL ]
    CON = 1/2 [ CE(A / tau, id) + CE(A^T / tau, id) ],  A the cosines between all student and all teacher rows
    TDL = alpha (1 - cos_top) + beta (1 - cos_bottom) + (1 - cos_middle),  student against the scaled teacher

    **Reconstruction.** The paper's appendix could not be read and no code is published. Only the range of k (3, 5,
    10; 50 collapses on CIFAR-100) and the unit weights of CON and TDL have a source. The scaling rule and gamma,
    lam, kappa, alpha, beta, tau, the normalisation and the weight of the cross-entropy are choices of this package:
    do not compare its numbers with published ones as if they were the authors' method.

    Args:
        k: size of the top and of the bottom group, 1..c/2.
        gamma, lam, kappa: strengths of the scaling, see ``fractionate.losses.scale_top``.
        alpha, beta: weights of the top and bottom cosines.
        tau: temperature of the contrast.
        lam_con, lam_tdl: weights of ``contrastive`` and ``decoupled``.
        scaling: ``"sign_safe"``, or the ``"literal"`` product, which lowers a negative logit of the label.
        center: subtract row means before the cosines.
        warmup: epochs over which the distillation weights grow linearly; 1 = none.
        ce_weight, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``contrastive``, ``decoupled``; the contrast needs the whole batch.

    Raises:
        ValueError: k outside 1..c/2, soft labels, an argument out of range.

    Source: arXiv 2508.04539, reconstruction (see above); not the topological KD that is also called TopKD.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> m = fr.methods.topkd(k=3)
        >>> list(m.components(lg))
        ['task', 'contrastive', 'decoupled']
        >>> m
        <Method topkd(k=3) [reconstruction]>
    """
    check_scaling("topkd", k, gamma, lam, kappa, scaling)
    check_positive("topkd", tau=tau)
    check_not_negative("topkd", alpha=alpha, beta=beta, lam_con=lam_con, lam_tdl=lam_tdl)
    check_common("topkd", ce_weight, warmup, label_smoothing, hard)

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        scaled = scale_top(
            lg.teacher, lg.labels, k=k, gamma=gamma, lam=lam, kappa=kappa, scaling=scaling, ranking=lg.rank_by
        )
        cosines = top_cosine(lg.student, scaled, lg.rank_by, k=k, alpha=alpha, beta=beta, center=center)
        return {"contrastive": logit_contrast(lg.student, lg.teacher, tau=tau, weight=lg.weight), "decoupled": cosines}

    return Method(
        name="topkd",
        parts={
            "task": Part(constant(ce_weight), "task"),
            "contrastive": Part(warmup_to(lam_con, warmup)),
            "decoupled": Part(warmup_to(lam_tdl, warmup)),
        },
        terms=terms,
        task=Task(label_smoothing),
        needs_labels=True,
        hard=hard,
        row_wise=False,
    )


def check_scaling(where: str, k: int, gamma: float, lam: float, kappa: float, scaling: str) -> None:
    """The arguments of ``scale_top``."""
    check_count(where, "k", k, 1)
    check_not_negative(where, gamma=gamma, lam=lam, kappa=kappa)
    choose(f"{where} scaling", scaling, SCALINGS)
