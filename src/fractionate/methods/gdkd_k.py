"""GDKD with a size of the top group that the teacher decides: per row, or per class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from ..kernels import KL, Direction, Partition
from ..losses import auto_k, by_top_sizes, class_auto_k
from ..rows import Logits
from .arguments import Common, check_count, check_not_negative, check_numbers, with_common
from .method import Method
from .split import Readings, split_method


@with_common(warmup=20)
def gdkd_auto_k(
    *,
    ratio: float = 2.0,
    cap: int = 100,
    w0: float = 1.0,
    w1: float = 4.0,
    w2: float = 8.0,
    temperature: float = 4.0,
    kl: KL = "forward",
    direction: Direction | str = "forward",
    **common: Unpack[Common],
) -> Method:
    """GDKD with k per row: the classes above the first jump of the teacher's sorted probabilities.

    L = ce_weight CE + W(e) T^2 mean[ w0 between + w1 within[top] + w2 within[rest] ]

    with p^T (at T) sorted upwards, r_j = p_(j) / mean(p_(1..j)), j* the first j from 0 with r_j >= ratio, and
    k = min(c - j*, cap), or 1 if there is no such j.

    Args:
        ratio: height of the jump, above 1 (which keeps k below c).
        cap: largest k.
        w0, w1, w2: weights of ``between``, ``top`` and ``other``.
        temperature, warmup, kl, direction, ce_weight, label_smoothing, hard: as in :func:`gdkd`.

    Returns:
        Method with components ``task``, ``between``, ``top``, ``other``.

    Raises:
        ValueError: ratio not above 1, an argument out of range.

    Source: ZaberKo/GDKD (code beside arXiv 2512.04625); works for any number of classes here.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.gdkd_auto_k().components(lg))
        ['task', 'between', 'top', 'other']
    """
    _check("gdkd_auto_k", ratio, cap, w0, w1, w2)
    partition = partial(by_jump, temperature=temperature, ratio=ratio, cap=cap)
    parts: Readings = {"between": (None, w0, "target"), "top": (0, w1, "nontarget"), "other": (1, w2, "nontarget")}
    return split_method(
        "gdkd_auto_k", partition, parts, temperature=temperature, direction=direction, kl=kl, fixed=True, **common
    )


@with_common(warmup=20)
def gdkd_class_k(
    *,
    counts: Sequence[int] | Tensor | None = None,
    ratio: float = 2.0,
    cap: int = 100,
    w0: float = 1.0,
    w1: float = 4.0,
    w2: float = 8.0,
    temperature: float = 4.0,
    kl: KL = "forward",
    direction: Direction | str = "forward",
    **common: Unpack[Common],
) -> Method:
    """GDKD with one k per label, from the teacher's mean distribution over the images of that label.

    L = ce_weight CE + W(e) T^2 mean[ w0 between + w1 within[top k_y] + w2 within[rest] ]

    Args:
        counts: k of every label, c integers in 1..c-1. ``fractionate.losses.class_auto_k(teacher, target)``
            computes them from the logits of the training set (plain images, fixed order). ``None`` computes them
            from the rows of each batch instead, which makes the value of a row depend on its batch.
        ratio, cap: of the jump, as in :func:`gdkd_auto_k`; read only without ``counts``.
        w0, w1, w2: weights of ``between``, ``top`` and ``other``.
        temperature, warmup, kl, direction, ce_weight, label_smoothing, hard: as in :func:`gdkd`.

    Returns:
        Method with components ``task``, ``between``, ``top``, ``other``; row-wise if ``counts`` are given.

    Raises:
        ValueError: counts outside 1..c-1 or not c of them, soft labels, an argument out of range.

    Source: ZaberKo/GDKD (code beside arXiv 2512.04625).

    Example:
        >>> import torch, fractionate as fr
        >>> teacher, y = torch.randn(50, 10), torch.arange(50) % 10
        >>> counts = fr.losses.class_auto_k(teacher, y).tolist()
        >>> m = fr.methods.gdkd_class_k(counts=counts)
        >>> m.components(fr.Logits(torch.randn(50, 10), teacher, y))["between"].shape
        torch.Size([50])
    """
    _check("gdkd_class_k", ratio, cap, w0, w1, w2)
    given = None if counts is None else _checked_counts(counts)
    widest = 0 if given is None else int(given.max())
    partition = partial(by_class, counts=given, widest=widest, temperature=temperature, ratio=ratio, cap=cap)
    parts: Readings = {"between": (None, w0, "target"), "top": (0, w1, "nontarget"), "other": (1, w2, "nontarget")}
    return split_method(
        "gdkd_class_k",
        partition,
        parts,
        temperature=temperature,
        direction=direction,
        kl=kl,
        needs_labels=True,
        row_wise=given is not None,
        fixed=True,
        **common,
    )


def _checked_counts(counts: Sequence[int] | Tensor) -> Tensor:
    """``[c]`` int64 on the CPU; moved to the rows' device when used."""
    table = torch.as_tensor(counts).detach().cpu()
    if table.ndim != 1 or table.is_floating_point() or table.dtype == torch.bool or not len(table):
        raise ValueError(
            f"gdkd_class_k: counts must be one integer per label, got {table.dtype} of shape {list(table.shape)}; "
            f"losses.class_auto_k(teacher, target) computes them"
        )
    low, high = (int(v) for v in table.aminmax())
    if low < 1 or high > len(table) - 1:
        raise ValueError(
            f"gdkd_class_k: counts must lie in 1..{len(table) - 1} for {len(table)} labels, got {low}..{high}"
        )
    return table.long()


def _need_classes(given: int, classes: int) -> None:
    if given != classes:
        raise ValueError(f"gdkd_class_k: counts hold {given} labels, the logits have {classes} classes")


def _check(where: str, ratio: float, cap: int, w0: float, w1: float, w2: float) -> None:
    check_numbers(where, ratio=ratio)
    check_not_negative(where, w0=w0, w1=w1, w2=w2)
    if ratio <= 1:
        raise ValueError(f"{where}: ratio must be above 1 (at 1 every class would be a jump), got {ratio!r}")
    check_count(where, "cap", cap, 1)


def by_jump(lg: Logits, temperature: float, ratio: float, cap: int) -> Partition:
    """{classes above the first jump of the teacher's sorted probabilities}, {rest}."""
    sizes = auto_k(lg.teacher, temperature, ratio=ratio, cap=cap)
    return by_top_sizes(lg, sizes, min(cap, lg.classes - 1))


def by_class(lg: Logits, counts: Tensor | None, widest: int, temperature: float, ratio: float, cap: int) -> Partition:
    """{as many of the teacher's best as the label's class has}, {rest}."""
    if counts is None:
        table = class_auto_k(lg.teacher, lg.labels, temperature, ratio=ratio, cap=cap, weight=lg.weight)
        return by_top_sizes(lg, table[lg.labels], min(cap, lg.classes - 1))
    _need_classes(len(counts), lg.classes)
    return by_top_sizes(lg, counts.to(lg.teacher.device)[lg.labels], widest)
