"""Other groups of classes: drawn at random at every step, or the shortest list that holds most of the mass."""

from __future__ import annotations

from functools import partial
from typing import Unpack

from .._choices import choose
from ..kernels import KL, KLS, Direction
from ..losses import by_mass, by_target_random, kl_inside, random_classes, split_kl
from ..rows import Logits, Progress
from .arguments import (
    Common,
    check_count,
    check_not_negative,
    check_numbers,
    check_positive,
    reconstruction,
    with_common,
)
from .method import Method, Weights, distillation
from .split import Mass, Readings, split_method
from .terms import Components


@with_common(warmup=20)
def skd(
    *,
    eta: float = 0.5,
    kd_weight: float = 8.0,
    seed: int = 0,
    temperature: float = 4.0,
    kl: KL = "forward",
    **common: Unpack[Common],
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

    Map: partition random_classes(eta=0.5); direction forward; groups kd = 8 within[0]

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> a, b = (fr.methods.skd().components(lg, fr.Progress(step=n))["kd"] for n in (1, 2))
        >>> bool((a == b).all())
        False
    """
    _check("skd", eta, seed, temperature, kl)
    check_not_negative("skd", kd_weight=kd_weight)
    terms = partial(_drawn_kd, eta=eta, seed=seed, temperature=temperature, kl=kl)
    return distillation("skd", terms, {"kd": (kd_weight, None)}, row_wise=False, **common)


@with_common(warmup=20)
def sgdkd(
    *,
    eta: float = 0.75,
    w0: float = 1.0,
    w1: float = 8.0,
    seed: int = 0,
    temperature: float = 4.0,
    kl: KL = "forward",
    **common: Unpack[Common],
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

    Map: partition by_target_random(eta=0.75); direction forward; groups between = 1 between, random = 8 within[1]

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.sgdkd(seed=1).components(lg, fr.Progress(step=5)))
        ['task', 'between', 'random']
    """
    _check("sgdkd", eta, seed, temperature, kl)
    check_not_negative("sgdkd", w0=w0, w1=w1)
    terms = partial(_drawn_group, eta=eta, seed=seed, temperature=temperature, kl=kl)
    weights: Weights = {"between": (w0, "target"), "random": (w1, "nontarget")}
    return distillation("sgdkd", terms, weights, needs_labels=True, row_wise=False, **common)


def _check(where: str, eta: float, seed: int, temperature: float, kl: str) -> None:
    check_positive(where, temperature=temperature)
    check_numbers(where, eta=eta)
    if not 0 <= eta <= 1:
        raise ValueError(f"{where}: eta is a probability in 0..1, got {eta!r}")
    check_count(where, "seed", seed, 0)
    if seed >= 2**63:
        raise ValueError(f"{where}: seed must be below 2**63, got {seed!r}")
    choose("kl direction", kl, KLS)


@reconstruction
@with_common()
def grouped(
    *,
    theta: float = 0.9,
    w_between: float = 1.0,
    w_primary: float = 1.0,
    w_secondary: float = 0.0,
    temperature: float = 4.0,
    direction: Direction | str = "forward",
    **common: Unpack[Common],
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
        direction, ce_weight, label_smoothing, hard: as in :func:`gdkd`.

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
    parts: Readings = {"between": (None, w_between, None), "primary": (Mass(0), w_primary, None)}
    if w_secondary:
        parts = {**parts, "secondary": (Mass(1), w_secondary, None)}
    partition = partial(by_mass, theta=theta, temperature=temperature)
    return split_method("grouped", partition, parts, temperature=temperature, direction=direction, fixed=True, **common)


def _drawn_kd(lg: Logits, progress: Progress, eta: float, seed: int, temperature: float, kl: KL) -> Components:
    subset = random_classes(lg, eta, seed, progress)
    return {"kd": kl_inside(lg.student, lg.teacher, subset, temperature, kl)}


def _drawn_group(lg: Logits, progress: Progress, eta: float, seed: int, temperature: float, kl: KL) -> Components:
    split = split_kl(lg.student, lg.teacher, by_target_random(lg, eta, seed, progress), temperature, kl)
    return {"between": split.between, "random": split.within[:, 1]}
