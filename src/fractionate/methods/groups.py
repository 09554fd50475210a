"""Other groups of classes: drawn at random at every step, or the shortest list that holds most of the mass."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from .._choices import choose
from ..kernels import KL, KLS
from ..losses import by_mass, by_target_random, kl_inside, random_classes, split_kl
from ..rows import Logits, Progress
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_count, check_not_negative, check_numbers, check_positive
from .method import Method, Part, Task
from .presets import preset, reconstruction

Hard = Literal["error", "argmax"]


@preset
def skd(
    *,
    eta: float = 0.5,
    kd_weight: float = 8.0,
    seed: int = 0,
    temperature: float = 4.0,
    warmup: float = 20,
    kl: KL = "forward",
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Stochastic KD: KL restricted to a random subset of the classes.

    L = ce_weight CE + W(e) kd_weight T^2 mean KL(q^{A,T} || q^{A,S}), every class in A with probability eta

    A is drawn for every row from a generator of its own, started from (seed, epoch, step): give
    ``Progress(step=...)`` so that every step draws another subset. A subset of fewer than two classes contributes
    0.

    Args:
        eta: probability with which a class joins the subset.
        kd_weight: weight of the ``kd`` component.
        seed: of the subsets.
        temperature, warmup, kl, ce_weight, label_smoothing, hard: as in :func:`gdkd`.

    Returns:
        Method with components ``task`` and ``kd``; a row's subset depends on its place in the batch.

    Source: ZaberKo/GDKD (code beside arXiv 2512.04625).

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> a, b = (fr.methods.skd().components(lg, fr.Progress(step=n))["kd"] for n in (1, 2))
        >>> bool((a == b).all())
        False
    """
    _check("skd", eta, seed, temperature, kl)
    check_not_negative("skd", kd_weight=kd_weight)
    check_common("skd", ce_weight, warmup, label_smoothing, hard)

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        subset = random_classes(lg, eta, seed, progress)
        return {"kd": kl_inside(lg.student, lg.teacher, subset, temperature, kl)}

    return Method(
        name="skd",
        parts={"task": Part(constant(ce_weight), "task"), "kd": Part(warmup_to(kd_weight, warmup))},
        terms=terms,
        task=Task(label_smoothing),
        hard=hard,
        row_wise=False,
    )


@preset
def sgdkd(
    *,
    eta: float = 0.75,
    w0: float = 1.0,
    w1: float = 8.0,
    seed: int = 0,
    temperature: float = 4.0,
    warmup: float = 20,
    kl: KL = "forward",
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Stochastic GDKD: {label}, {random non-targets}, {rest}; the KL inside the rest is dropped.

    L = ce_weight CE + W(e) T^2 mean[ w0 between(3-way) + w1 within[A] ], every non-target in A with probability eta

    A is drawn as in :func:`skd`; at least one non-target stays in the rest.

    Args:
        eta: probability with which a non-target joins the random group.
        w0, w1: weights of ``between`` and ``random``.
        seed: of the groups.
        temperature, warmup, kl, ce_weight, label_smoothing, hard: as in :func:`gdkd`.

    Returns:
        Method with components ``task``, ``between``, ``random``; a row's group depends on its place in the batch.

    Raises:
        ValueError: soft labels, an argument out of range.

    Source: ZaberKo/GDKD (code beside arXiv 2512.04625); ImageNet there: eta .8, weights .5, T 1.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.sgdkd(seed=1).components(lg, fr.Progress(step=5)))
        ['task', 'between', 'random']
    """
    _check("sgdkd", eta, seed, temperature, kl)
    check_not_negative("sgdkd", w0=w0, w1=w1)
    check_common("sgdkd", ce_weight, warmup, label_smoothing, hard)

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        part = by_target_random(lg, eta, seed, progress)
        split = split_kl(lg.student, lg.teacher, part, temperature, kl)
        return {"between": split.between, "random": split.within[:, 1]}

    return Method(
        name="sgdkd",
        parts={
            "task": Part(constant(ce_weight), "task"),
            "between": Part(warmup_to(w0, warmup), "target"),
            "random": Part(warmup_to(w1, warmup), "nontarget"),
        },
        terms=terms,
        task=Task(label_smoothing),
        needs_labels=True,
        hard=hard,
        row_wise=False,
    )


def _check(where: str, eta: float, seed: int, temperature: float, kl: str) -> None:
    check_positive(where, temperature=temperature)
    check_numbers(where, eta=eta)
    if not 0 <= eta <= 1:
        raise ValueError(f"{where}: eta is a probability in 0..1, got {eta!r}")
    check_count(where, "seed", seed, 0)
    choose("kl direction", kl, KLS)


@reconstruction
@preset
def grouped(
    *,
    theta: float = 0.9,
    w_between: float = 1.0,
    w_primary: float = 1.0,
    w_secondary: float = 0.0,
    temperature: float = 4.0,
    warmup: float = 1,
    ce_weight: float = 1.0,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Grouped KD: the shortest list of classes that holds most of the teacher's mass, against the rest.

    L = ce_weight CE + W(e) T^2 mean[ w_between between + w_primary b_P within[P] + w_secondary b_rest within[rest] ]

    P = shortest prefix of the teacher's ranking with a mass b_P >= theta (at T); at least one class stays outside. The
    paper drops the third term (w_secondary = 0); with all three weights 1 the sum is KD for every theta.

    Args:
        theta: mass of the primary group, in (0, 1].
        w_between, w_primary: weights of ``between`` and ``primary``.
        w_secondary: weight of ``secondary``; 0 leaves the component out.
        temperature: T.
        warmup: epochs over which the distillation weights grow linearly; 1 = none.
        ce_weight, label_smoothing, hard: as in :func:`gdkd`.

    Returns:
        Method with components ``task``, ``between``, ``primary`` (and ``secondary``); reads no label.

    Raises:
        ValueError: theta outside (0, 1], an argument out of range.

    Source: arXiv 2304.04462; theta, T and the unit weights are a reconstruction.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.grouped(theta=0.8).components(lg))
        ['task', 'between', 'primary']
    """
    check_positive("grouped", theta=theta, temperature=temperature)
    if theta > 1:
        raise ValueError(f"grouped: theta is a probability mass in (0, 1], got {theta!r}")
    check_not_negative("grouped", w_between=w_between, w_primary=w_primary, w_secondary=w_secondary)
    check_common("grouped", ce_weight, warmup, label_smoothing, hard)
    weights = {"between": w_between, "primary": w_primary}
    if w_secondary:
        weights["secondary"] = w_secondary

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        split = split_kl(lg.student, lg.teacher, by_mass(lg, theta, temperature), temperature)
        shared = split.mass * split.within
        return {"between": split.between, "primary": shared[:, 0], "secondary": shared[:, 1]}

    return Method(
        name="grouped",
        parts={
            "task": Part(constant(ce_weight), "task"),
            **{name: Part(warmup_to(weight, warmup)) for name, weight in weights.items()},
        },
        terms=terms,
        task=Task(label_smoothing),
        hard=hard,
    )
