"""DIST: correlations instead of divergences, and beside GDKD's divergences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Unpack

from torch import Tensor

from ..kernels import KL
from ..losses import by_top, column_correlation, row_correlation
from ..rows import Logits, Progress
from ..schedules import constant
from .arguments import Common, check_count, check_not_negative, check_positive, with_common
from .inner import Mask
from .method import Method, Part, Weights, distillation
from .split import Readings, split_method
from .terms import NO_LABEL, Components, OnRows, RowMap, Terms, as_terms


@with_common()
def dist(
    *,
    beta: float = 2.0,
    gamma: float = 2.0,
    temperature: float = 4.0,
    scale: bool = True,
    gather: bool = False,
    **common: Unpack[Common],
) -> Method:
    """DIST: Pearson correlation of the probabilities along every row and along every class.

    L = ce_weight CE + W(e) T^2 [ beta (1 - mean over rows rho(p^S_i, p^T_i)) + gamma (1 - mean over classes
    rho(p^S_c, p^T_c)) ]

    Args:
        beta: weight of ``inter`` (rows).
        gamma: weight of ``intra`` (classes); it needs at least two rows, and depends on the batch of the process.
        temperature: T.
        scale: whether the terms carry T^2 (classification does, segmentation does not).
        gather: take the columns of ``intra`` over all processes.
        ce_weight, warmup, label_smoothing, hard: as in :func:`kd`; reads no label.

    Returns:
        Method with components ``task``, ``inter``, ``intra``. A class whose probabilities are constant over the rows
        contributes a correlation of 0 and no gradient.

    Source: arXiv 2205.10536; CIFAR-100 T 4, ImageNet T 1; segmentation beta = gamma = 1, T 1, no T^2.

    Map: relation correlation along rows, along classes

    Example:
        >>> import torch, fractionate as fr
        >>> z = torch.randn(4, 10, dtype=torch.float64)
        >>> rows = fr.methods.dist().components(fr.Logits(z, z, torch.tensor([0, 1, 2, 3])))
        >>> [bool(rows[name].abs().max() < 1e-3) for name in ("inter", "intra")]
        [True, True]
    """
    check_positive("dist", temperature=temperature)
    check_not_negative("dist", beta=beta, gamma=gamma)
    weights: Weights = {"inter": (beta, None), "intra": (gamma, None)}
    return distillation("dist", Correlations(temperature, scale, gather), weights, row_wise=False, **common)


@with_common(warmup=20)
def dist_gdkd(
    *,
    k: int = 5,
    w0: float = 1.0,
    w1: float = 1.0,
    w2: float = 8.0,
    beta: float = 2.0,
    gamma: float = 2.0,
    temperature: float = 4.0,
    kl: KL = "forward",
    gather: bool = False,
    **common: Unpack[Common],
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

    Map: partition by_top(k=5); direction forward; groups between = 1 between, top = 1 within[0], other = 8
    within[1]; relation correlation along rows, along classes

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.dist_gdkd(k=3).components(lg))
        ['task', 'inter', 'intra', 'between', 'top', 'other']
    """
    check_count("dist_gdkd", "k", k, 1)
    check_not_negative("dist_gdkd", w0=w0, w1=w1, w2=w2)
    check_not_negative("dist_gdkd", beta=beta, gamma=gamma)
    parts: Readings = {"between": (None, w0, "target"), "top": (0, w1, "nontarget"), "other": (1, w2, "nontarget")}
    inner = split_method("dist_gdkd", partial(by_top, k=k), parts, temperature=temperature, kl=kl, **common)
    divergences = dict(inner.parts)
    return replace(
        inner,
        parts={
            "task": divergences.pop("task"),
            "inter": Part(constant(beta), "task"),
            "intra": Part(constant(gamma), "task"),
            **divergences,
        },
        terms=Both(Correlations(temperature, True, gather), as_terms(inner.terms)),
        streams=(),
        row_wise=False,
    )


@dataclass(frozen=True, eq=False)
class Correlations:
    """DIST's terms: 1 - the correlation along rows and along classes, times T^2 if ``scale``."""

    temperature: float | Tensor
    scale: bool
    gather: bool

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """``inter`` per row, and ``intra``, one number for all rows."""
        square = self.temperature * self.temperature if self.scale else 1.0
        inter = 1 - row_correlation(lg.student, lg.teacher, self.temperature)
        columns = column_correlation(lg.student, lg.teacher, self.temperature, lg.weight, gather=self.gather)
        return {"inter": square * inter, "intra": (square * (1 - columns.mean())).expand(lg.rows)}

    def at(self, temperature: float | Tensor) -> Terms:
        """The same at another temperature."""
        return replace(self, temperature=temperature)

    def on(self, change: RowMap) -> Terms:
        """The correlations of changed rows."""
        return OnRows(self, change)

    def masked(self, mask: Mask) -> Terms:
        """Refused."""
        raise ValueError(NO_LABEL)


@dataclass(frozen=True, eq=False)
class Both:
    """Two sets of terms of the same rows."""

    first: Terms
    second: Terms

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """The components of both."""
        return {**self.first(lg, progress), **self.second(lg, progress)}

    def at(self, temperature: float | Tensor) -> Terms:
        """Both at this temperature."""
        return Both(self.first.at(temperature), self.second.at(temperature))

    def on(self, change: RowMap) -> Terms:
        """Both on changed rows."""
        return OnRows(self, change)

    def masked(self, mask: Mask) -> Terms:
        """Both masked."""
        return Both(self.first.masked(mask), self.second.masked(mask))
