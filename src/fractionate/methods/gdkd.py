"""GDKD: the teacher's best classes against the rest, with constant weights or the teacher's masses."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .._choices import choose
from ..kernels import KL, KLS
from ..losses import by_top, by_top1_top, split_kl
from ..rows import Logits, Progress
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_count, check_not_negative, check_positive
from .method import Method, Part, Task
from .presets import preset
from .terms import SplitTerms

Hard = Literal["error", "argmax"]


@preset
def gdkd(
    *,
    k: int = 5,
    w0: float = 1.0,
    w1: float = 1.0,
    w2: float = 8.0,
    temperature: float = 4.0,
    warmup: float = 20,
    kl: KL = "forward",
    largest: bool = True,
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Generalised DKD: {teacher's top k}, {rest}, each part with its own weight; reads no label.

    L = ce_weight CE + W(e) T^2 mean[ w0 between + w1 within[top] + w2 within[rest] ]

    Args:
        k: size of the top group, 1..c-1.
        w0, w1, w2: weights of ``between``, ``top`` and ``other``.
        temperature: T.
        warmup: W, epochs over which the distillation weights grow linearly; 1 = none.
        kl: direction inside the groups: ``"forward"`` (teacher first), ``"reverse"``, ``"both"``.
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
    check_count("gdkd", "k", k, 1)
    _check("gdkd", w0, w1, w2, temperature, kl)
    check_common("gdkd", ce_weight, warmup, label_smoothing, hard)

    return Method(
        name="gdkd",
        parts=gdkd_parts(w0, w1, w2, warmup, ce_weight),
        terms=SplitTerms(
            lambda lg, progress: by_top(lg, k, largest=largest),
            {"between": None, "top": 0, "other": 1},
            temperature,
            kl,
        ),
        task=Task(label_smoothing),
        hard=hard,
    )


@preset
def gdkd3(
    *,
    k: int = 4,
    w0: float = 1.0,
    w1: float = 1.0,
    w2: float = 8.0,
    temperature: float = 4.0,
    warmup: float = 20,
    kl: KL = "forward",
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """GDKD with three groups: {teacher's best}, {ranks 2..k}, {rest}; made for transformer teachers.

    L = ce_weight CE + W(e) T^2 mean[ w0 between(3-way) + w1 within[ranks 2..k] + w2 within[rest] ]

    Args:
        k: last rank of the middle group, 2..c-1; k = 2 makes the middle term exactly 0.
        w0, w1, w2: weights of ``between``, ``top`` (the middle group) and ``other``.
        temperature, warmup, kl, ce_weight, label_smoothing, hard: as in :func:`gdkd`.

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
    _check("gdkd3", w0, w1, w2, temperature, kl)
    check_common("gdkd3", ce_weight, warmup, label_smoothing, hard)

    return Method(
        name="gdkd3",
        parts=gdkd_parts(w0, w1, w2, warmup, ce_weight),
        terms=SplitTerms(
            lambda lg, progress: by_top1_top(lg, k), {"between": None, "top": 1, "other": 2}, temperature, kl
        ),
        task=Task(label_smoothing),
        hard=hard,
    )


def gdkd_parts(w0: float, w1: float, w2: float, warmup: float, ce_weight: float) -> dict[str, Part]:
    """Parts of every GDKD form; ``between`` plays the role of the target part."""
    return {
        "task": Part(constant(ce_weight), "task"),
        "between": Part(warmup_to(w0, warmup), "target"),
        "top": Part(warmup_to(w1, warmup), "nontarget"),
        "other": Part(warmup_to(w2, warmup), "nontarget"),
    }


def _check(where: str, w0: float, w1: float, w2: float, temperature: float, kl: str) -> None:
    check_positive(where, temperature=temperature)
    check_not_negative(where, w0=w0, w1=w1, w2=w2)
    choose("kl direction", kl, KLS)


Version = Literal["v1", "v2", "v3"]
VERSIONS: tuple[Version, ...] = ("v1", "v2", "v3")


@preset
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
    warmup: float = 20,
    kl: KL = "forward",
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
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
        temperature, warmup, kl, ce_weight, label_smoothing, hard: as in :func:`gdkd`.

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
    check_positive("gdkd_auto_weight", temperature=temperature)
    check_not_negative("gdkd_auto_weight", w0=w0, m1=m1, m2=m2, w1=w1, w2=w2)
    choose("kl direction", kl, KLS)
    check_common("gdkd_auto_weight", ce_weight, warmup, label_smoothing, hard)
    top_mass, rest_mass = version in ("v1", "v3"), version in ("v1", "v2")

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        split = split_kl(lg.student, lg.teacher, by_top(lg, k), temperature, kl)
        shared = split.mass * split.within
        return {
            "between": split.between,
            "top": (shared if top_mass else split.within)[:, 0],
            "other": (shared if rest_mass else split.within)[:, 1],
        }

    return Method(
        name="gdkd_auto_weight",
        parts=gdkd_parts(w0, m1 if top_mass else w1, m2 if rest_mass else w2, warmup, ce_weight),
        terms=terms,
        task=Task(label_smoothing),
        hard=hard,
    )
