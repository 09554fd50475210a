"""GDKD with weights that follow the teacher's masses, or with standardised logits."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .._choices import choose
from ..losses import Split, by_top, split_kl
from ..losses.group_zscore import zscored
from ..losses.split import KL, KLS
from ..losses.transforms import standardize
from ..rows import Logits, Progress
from .checks import check_common, check_count, check_not_negative, check_positive, preset
from .gdkd import gdkd_parts
from .method import Method, Task

Hard = Literal["error", "argmax"]
Version = Literal["v1", "v2", "v3"]
VERSIONS: tuple[Version, ...] = ("v1", "v2", "v3")
Mode = Literal["global", "both", "other"]
MODES: tuple[Mode, ...] = ("global", "both", "other")


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


@preset
def ls_gdkd(
    *,
    mode: Mode = "global",
    k: int = 5,
    w0: float = 1.0,
    w1: float = 1.0,
    w2: float = 8.0,
    kd_weight: float = 1.0,
    temperature: float = 4.0,
    warmup: float = 20,
    kl: KL = "forward",
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """GDKD on standardised logits: of whole rows, of both groups, or of the rest alone.

    L = ce_weight CE + W(e) kd_weight T^2 mean[ w0 between + w1 within[top] + w2 within[rest] ]

    on z-scores (z - mean) / (std + 1e-7) of student and teacher. The groups come from the raw teacher.

    Args:
        mode: ``"global"`` standardises whole rows (std with c - 1); ``"both"`` keeps raw logits in ``between`` and
            standardises each group with its own mean and population std; ``"other"`` standardises the rest only.
        k: size of the top group, 1..c-1.
        w0, w1, w2: weights of ``between``, ``top`` and ``other``.
        kd_weight: multiplies all three.
        temperature, warmup, kl, ce_weight, label_smoothing, hard: as in :func:`gdkd`.

    Returns:
        Method with components ``task``, ``between``, ``top``, ``other``. A group whose std is near 0 in one of the
        networks, such as the top group at k = 1, contributes 0; a constant student row has no gradient.

    Raises:
        ValueError: k outside 1..c-1, an unknown mode, an argument out of range.

    Source: ZaberKo/GDKD (LS_GDKD), after the standardisation of arXiv 2403.01427.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> fr.methods.ls_gdkd(mode="both", k=1).components(lg)["top"].tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    choose("ls_gdkd mode", mode, MODES)
    check_count("ls_gdkd", "k", k, 1)
    check_positive("ls_gdkd", temperature=temperature)
    check_not_negative("ls_gdkd", kd_weight=kd_weight)
    check_not_negative("ls_gdkd", w0=w0, w1=w1, w2=w2)
    choose("kl direction", kl, KLS)
    check_common("ls_gdkd", ce_weight, warmup, label_smoothing, hard)

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        scored = _standardised_split(lg, mode, k, temperature, kl)
        between = scored.between
        if mode != "global":
            between = split_kl(lg.student, lg.teacher, by_top(lg, k), temperature).between
        return {"between": between, "top": scored.within[:, 0], "other": scored.within[:, 1]}

    return Method(
        name="ls_gdkd",
        parts=gdkd_parts(kd_weight * w0, kd_weight * w1, kd_weight * w2, warmup, ce_weight),
        terms=terms,
        task=Task(label_smoothing),
        hard=hard,
    )


def _standardised_split(lg: Logits, mode: Mode, k: int, temperature: float, kl: KL) -> Split:
    """The split of logits that are standardised in the groups that the mode names."""
    part = by_top(lg, k)
    if mode == "global":
        return split_kl(standardize(lg.student), standardize(lg.teacher), part, temperature, kl)
    top = part.members(lg.rows, lg.teacher.device)
    student, teacher = zscored(lg.student, lg.teacher, ~top)
    if mode == "both":
        student, teacher = zscored(student, teacher, top)
    return split_kl(student, teacher, part, temperature, kl)
