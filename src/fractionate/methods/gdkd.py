"""GDKD: the teacher's best classes against the rest, with constant weights or the teacher's masses."""

from __future__ import annotations

from functools import partial
from typing import Literal, Unpack

from .._choices import choose
from ..kernels import KL, Direction
from ..losses import by_knee, by_top, by_top1_top
from .arguments import Common, check_count, check_not_negative, with_common
from .method import Method
from .split import Mass, Readings, split_method


@with_common(warmup=20)
def gdkd(
    *,
    k: int | Literal["auto"] = 5,
    w0: float = 1.0,
    w1: float = 1.0,
    w2: float = 8.0,
    temperature: float = 4.0,
    kl: KL = "forward",
    largest: bool = True,
    direction: Direction | str = "forward",
    **common: Unpack[Common],
) -> Method:
    """Generalised DKD: {teacher's top k}, {rest}, each part with its own weight; reads no label.

    L = ce_weight CE + W(e) T^2 mean[ w0 between + w1 within[top] + w2 within[rest] ]

    Args:
        k: size of the top group, 1..c-1; ``"auto"`` takes every row's classes above the knee of the teacher's logits
            (``fr.losses.knee_k``; this package's, not tested on accuracy yet).
        w0, w1, w2: weights of ``between``, ``top`` and ``other``.
        temperature: T.
        warmup: W, epochs over which the distillation weights grow linearly; 1 = none.
        kl: direction inside the groups: ``"forward"`` (teacher first), ``"reverse"``, ``"both"``.
        direction: of all terms, as in :func:`kd`; against a mixture ``top`` and ``other`` hold their masses.
        largest: ``False`` groups the k smallest logits ("worst" in the published code).
        ce_weight, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``between``, ``top``, ``other``.

    Raises:
        ValueError: k outside 1..c-1, an argument out of range.

    Source: arXiv 2512.04625; w1 and w2 are tuned per pair there.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.gdkd(k=3).components(lg))
        ['task', 'between', 'top', 'other']
    """
    if k == "auto" and not largest:
        raise ValueError("gdkd: k='auto' is the knee above the largest logits; with largest=False give a number")
    if k != "auto":
        check_count("gdkd", "k", k, 1)
    check_not_negative("gdkd", w0=w0, w1=w1, w2=w2)
    parts: Readings = {"between": (None, w0, "target"), "top": (0, w1, "nontarget"), "other": (1, w2, "nontarget")}
    return split_method(
        "gdkd",
        by_knee if k == "auto" else partial(by_top, k=k, largest=largest),
        parts,
        temperature=temperature,
        direction=direction,
        kl=kl,
        **common,
    )


@with_common(warmup=20)
def gdkd3(
    *,
    k: int = 4,
    w0: float = 1.0,
    w1: float = 1.0,
    w2: float = 8.0,
    temperature: float = 4.0,
    kl: KL = "forward",
    direction: Direction | str = "forward",
    **common: Unpack[Common],
) -> Method:
    """GDKD with three groups: {teacher's best}, {ranks 2..k}, {rest}; made for transformer teachers.

    L = ce_weight CE + W(e) T^2 mean[ w0 between(3-way) + w1 within[ranks 2..k] + w2 within[rest] ]

    Args:
        k: last rank of the middle group, 2..c-1; k = 2 makes the middle term exactly 0.
        w0, w1, w2: weights of ``between``, ``top`` (the middle group) and ``other``.
        temperature, warmup, kl, direction, ce_weight, label_smoothing, hard: as in :func:`gdkd`.

    Returns:
        Method with components ``task``, ``between``, ``top``, ``other``.

    Source: arXiv 2512.04625 and its code; the transformer recipe there uses k 5, weights 1, T 1.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> fr.methods.gdkd3(k=2).components(lg)["top"].tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    check_count("gdkd3", "k", k, 2)
    check_not_negative("gdkd3", w0=w0, w1=w1, w2=w2)
    parts: Readings = {"between": (None, w0, "target"), "top": (1, w1, "nontarget"), "other": (2, w2, "nontarget")}
    return split_method(
        "gdkd3", partial(by_top1_top, k=k), parts, temperature=temperature, direction=direction, kl=kl, **common
    )


Version = Literal["v1", "v2", "v3"]
VERSIONS: tuple[Version, ...] = ("v1", "v2", "v3")


@with_common(warmup=20)
def gdkd_auto_weight(
    *,
    version: Version = "v1",
    k: int = 5,
    w0: float = 1.0,
    m1: float = 6.0,
    m2: float = 14.0,
    w1: float = 1.0,
    w2: float = 8.0,
    temperature: float = 4.0,
    kl: KL = "forward",
    direction: Direction | str = "forward",
    **common: Unpack[Common],
) -> Method:
    """GDKD whose weights follow the teacher: the mass of a group, per row, times a constant.

    L = ce_weight CE + W(e) T^2 mean[ w0 between + c1 within[top] + c2 within[rest] ]
    v1: c1 = m1 b_top, c2 = m2 b_rest;   v2: c1 = w1, c2 = m2 b_rest;   v3: c1 = m1 b_top, c2 = w2

    with b the teacher's mass of the group at T. Version ``"v1"`` with m1 = m2 = 1 is exactly KD.

    Args:
        version: which groups carry their mass: ``"v1"`` both, ``"v2"`` the rest, ``"v3"`` the top.
        k: size of the top group, 1..c-1.
        w0: weight of ``between``.
        m1, m2: factors of the masses of top and rest, where the version uses them. Tuned per pair in the source; the
            defaults are those of ResNet32x4 to ResNet8x4.
        w1, w2: constant weights of top and rest, where the version uses them.
        temperature, warmup, kl, direction, ce_weight, label_smoothing, hard: as in :func:`gdkd`.

    Returns:
        Method with components ``task``, ``between``, ``top``, ``other``; the masses are inside the components.

    Raises:
        ValueError: k outside 1..c-1, an unknown version, an argument out of range.

    Source: ZaberKo/GDKD (code beside arXiv 2512.04625).

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.gdkd_auto_weight(version="v2", k=3).components(lg))
        ['task', 'between', 'top', 'other']
    """
    choose("gdkd_auto_weight version", version, VERSIONS)
    check_count("gdkd_auto_weight", "k", k, 1)
    check_not_negative("gdkd_auto_weight", w0=w0, m1=m1, m2=m2, w1=w1, w2=w2)
    top, other = version in ("v1", "v3"), version in ("v1", "v2")  # which groups carry their mass
    parts: Readings = {
        "between": (None, w0, "target"),
        "top": (Mass(0) if top else 0, m1 if top else w1, "nontarget"),
        "other": (Mass(1) if other else 1, m2 if other else w2, "nontarget"),
    }
    return split_method(
        "gdkd_auto_weight", partial(by_top, k=k), parts, temperature=temperature, direction=direction, kl=kl, **common
    )
