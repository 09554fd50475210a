"""DIST: correlations instead of divergences, and beside GDKD's divergences."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .._choices import choose
from ..kernels import KL, KLS
from ..losses import by_top, column_correlation, row_correlation, split_kl
from ..rows import Logits, Progress
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_count, check_not_negative, check_positive
from .gdkd import gdkd_parts
from .method import Method, Part, Task, Terms
from .presets import preset

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


@preset
def dist_gdkd(
    *,
    k: int = 5,
    w0: float = 1.0,
    w1: float = 1.0,
    w2: float = 8.0,
    beta: float = 2.0,
    gamma: float = 2.0,
    temperature: float = 4.0,
    warmup: float = 20,
    kl: KL = "forward",
    gather: bool = False,
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """DIST plus GDKD; the warm-up is GDKD's alone.

    L = ce_weight CE + T^2 [ beta (1 - mean rho over rows) + gamma (1 - mean rho over classes) ] + W(e) L_gdkd
    L_gdkd = T^2 mean[ w0 between + w1 within[top] + w2 within[rest] ]

    Args:
        k, w0, w1, w2: as in :func:`gdkd`.
        beta, gamma: weights of ``inter`` (correlation along a row) and ``intra`` (along a class), as in :func:`dist`.
        temperature: T of all terms.
        warmup: W, epochs over which GDKD's weights grow linearly; 1 = none.
        kl, ce_weight, label_smoothing, hard: as in :func:`gdkd`.
        gather: take the columns of ``intra`` over all processes, as in :func:`dist`.

    Returns:
        Method with components ``task``, ``inter``, ``intra``, ``between``, ``top``, ``other``. Under :func:`deepkd` the
        correlations belong to the task stream, like MLKD's.

    Raises:
        ValueError: k outside 1..c-1, an argument out of range.

    Source: ZaberKo/GDKD (code beside arXiv 2512.04625); DIST is arXiv 2205.10536.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.dist_gdkd(k=3).components(lg))
        ['task', 'inter', 'intra', 'between', 'top', 'other']
    """
    check_count("dist_gdkd", "k", k, 1)
    check_positive("dist_gdkd", temperature=temperature)
    check_not_negative("dist_gdkd", w0=w0, w1=w1, w2=w2)
    check_not_negative("dist_gdkd", beta=beta, gamma=gamma)
    choose("kl direction", kl, KLS)
    check_common("dist_gdkd", ce_weight, warmup, label_smoothing, hard)

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        split = split_kl(lg.student, lg.teacher, by_top(lg, k), temperature, kl)
        rows = row_correlation(lg.student, lg.teacher, temperature)
        columns = column_correlation(lg.student, lg.teacher, temperature, lg.weight, gather=gather)
        return {
            "inter": temperature**2 * (1 - rows),
            "intra": (temperature**2 * (1 - columns.mean())).expand(lg.rows),
            "between": split.between,
            "top": split.within[:, 0],
            "other": split.within[:, 1],
        }

    divergences = gdkd_parts(w0, w1, w2, warmup, ce_weight)
    return Method(
        name="dist_gdkd",
        parts={
            "task": divergences.pop("task"),
            "inter": Part(constant(beta), "task"),
            "intra": Part(constant(gamma), "task"),
            **divergences,
        },
        terms=terms,
        task=Task(label_smoothing),
        hard=hard,
        row_wise=False,
    )
