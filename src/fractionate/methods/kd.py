"""KD with its decoupled twin, a temperature learned against the student (CTKD), and logit matching."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from .._choices import choose
from .._typing import Float
from ..kernels import Direction, as_direction
from ..losses import logit_distance, whole
from ..rows import Logits, Progress
from ..schedules import fitted
from .arguments import Common, Hard, check_count, check_not_negative, check_positive, preset, with_common
from .inner import Decoupled, InnerTerms, Mask
from .method import Method, Weights, distillation
from .split import Readings, split_method
from .terms import Components, OnRows, RowMap, Terms, as_terms


@with_common(ce_weight=0.1)
def kd(
    *,
    temperature: float = 4.0,
    kd_weight: float = 0.9,
    nontarget: float = 0.0,
    direction: Direction | str = "forward",
    **common: Unpack[Common],
) -> Method:
    """Knowledge distillation: cross-entropy plus KL to the softened teacher.

    L = ce_weight CE + kd_weight W(e) T^2 mean KL(p^T || p^S)

    Args:
        temperature: T.
        ce_weight: weight of the cross-entropy.
        kd_weight: weight of the ``kd`` component.
        nontarget: added to 1 - a, KD's own weight of the part inside the non-targets, in which a is the teacher's
            probability of the label; above 0 the labels are read, and the components are ``target`` and ``nontarget``.
        direction: ``"forward"`` KL(p^T || p^S), ``"reverse"``, ``fr.jsd(beta)``, ``fr.skew(lam)``,
            ``fr.skew_reverse(lam)``, also as text, ``"jsd(beta=0.5)"``; T^2 stays in front.
        warmup: epochs over which the distillation weight grows linearly; 1 = none.
        label_smoothing: in the cross-entropy only.
        hard: as in every method; KD's terms read no label, so soft labels are fine.

    Returns:
        Method with components ``task`` and ``kd``.

    Source: arXiv 1503.02531; defaults of the CIFAR-100 baselines (ImageNet: T 1, weights .5 and .5).

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.zeros(2, 5), torch.zeros(2, 5), torch.tensor([0, 4]))
        >>> {name: x.tolist() for name, x in fr.methods.kd().components(lg).items() if name == "kd"}
        {'kd': [0.0, 0.0]}
    """
    check_positive("kd", temperature=temperature)
    check_not_negative("kd", kd_weight=kd_weight, nontarget=nontarget)
    parts = InnerTerms(Decoupled(direction=as_direction(direction), added=nontarget), temperature)
    weights: Weights = {"target": (kd_weight, "target"), "nontarget": (kd_weight, "nontarget")}
    twin = distillation("kd", parts, weights, needs_labels=True, **common)
    if nontarget:
        return replace(twin, twin=twin)
    readings: Readings = {"kd": (0, kd_weight, None)}
    return split_method("kd", whole, readings, temperature=temperature, direction=direction, twin=twin, **common)


Ramp = Literal["cosine", "linear"]
_KD = kd()


@preset
def ctkd(
    method: Method = _KD,
    *,
    t_start: float = 1.0,
    t_end: float = 20.0,
    ramp_epochs: int = 10,
    schedule: Ramp = "cosine",
    ce_weight: float | None = None,
    warmup: float | None = None,
    label_smoothing: float | None = None,
    hard: Hard | None = None,
) -> Method:
    """Curriculum temperature: one temperature for all rows, trained to make the student's task harder.

    T = t_start + t_end sigmoid(theta); the gradient of theta is multiplied by lambda(e), from 0 to -1 over
    ``ramp_epochs`` epochs, so that the student's optimizer climbs in theta

    theta starts at 1 (T = 15.6). It is the parameter of ``method.module``, an ``nn.Module`` with a state dict; add it
    to the optimizer. ``method.module().item()`` is the current T.

    Args:
        method: a method whose temperature can be a tensor: kd, dkd, nkd, ofa, dist, also standardised.
        t_start, t_end: T lies in (t_start, t_start + t_end).
        ramp_epochs: length of the ramp of lambda; a shorter run cuts it to its share of 240 epochs.
        schedule: ``"cosine"``, (cos(pi min(e, E) / E) + 1) / 2 - 1; or ``"linear"``, -min(e, E - 1) / E, which as
            published stops one step before -1.
        ce_weight, warmup, label_smoothing, hard: those of ``method`` unless given.

    Returns:
        Method with the components, weights and streams of ``method``.

    Raises:
        ValueError: a method whose temperature cannot be learned, an argument out of range.

    Source: arXiv 2211.16231 and zhengli97/CTKD (the global form). The published optimizer decays theta like a weight.

    Map: logits at a learned temperature

    Example:
        >>> import fractionate as fr
        >>> m = fr.methods.ctkd(fr.methods.dkd())
        >>> round(m.module().item(), 3)
        15.621
    """
    check_positive("ctkd", t_start=t_start, t_end=t_end)
    check_count("ctkd", "ramp_epochs", ramp_epochs, 1)
    choose("ctkd schedule", schedule, ("cosine", "linear"))
    settings = {"ce_weight": ce_weight, "warmup": warmup, "label_smoothing": label_smoothing, "hard": hard}
    given = {name: value for name, value in settings.items() if value is not None}
    if given:
        method = method.with_args(**given)
    temperature = Temperature(t_start, t_end)

    def learned(inner: Method) -> Method:
        terms = as_terms(inner.terms)
        try:
            terms.at(temperature())
        except ValueError as error:
            raise ValueError(
                f"ctkd: {inner.name} has no temperature that can be learned ({error}); use it over kd, dkd, gdkd, nkd, "
                f"ofa or dist, also standardised, and put other wrappers around it: sdd(ctkd(kd()))"
            ) from None
        return replace(
            inner,
            name=f"{inner.name}+ctkd",
            terms=Learned(terms, temperature, ramp_epochs, schedule),
            module=temperature,
            twin=None if inner.twin is None else learned(inner.twin),
        )

    return learned(method)


class Temperature(nn.Module):
    """T = start + end sigmoid(theta), with a gradient that can be scaled or reversed.

    Args:
        start: lower limit of T.
        end: T stays below start + end.
    """

    def __init__(self, start: float, end: float) -> None:
        super().__init__()
        self.start, self.end = start, end
        self.theta = nn.Parameter(torch.ones(()))

    def forward(self, factor: float = 1.0) -> Float[Tensor, ""]:
        """T, through which theta receives ``factor`` times its gradient."""
        value = self.start + self.end * self.theta.sigmoid()
        fixed = value.detach()
        return fixed + factor * (value - fixed)


def reversal(epoch: int, ramp_epochs: int, schedule: Ramp = "cosine") -> float:
    """Factor lambda on the gradient of theta in an epoch (from 1).

    Example:
        >>> [round(reversal(e, 10), 3) for e in (1, 5, 10, 200)]
        [-0.024, -0.5, -1.0, -1.0]
    """
    if schedule == "linear":
        return -min(epoch, ramp_epochs - 1) / ramp_epochs
    return (math.cos(math.pi * min(epoch, ramp_epochs) / ramp_epochs) + 1) / 2 - 1


@with_common()
def logit_mse(
    *,
    weight: float = 1.0,
    center: bool = False,
    **common: Unpack[Common],
) -> Method:
    """Mean squared error of the logits: what KD becomes for a large temperature, if the rows are centred.

    L = ce_weight CE + weight W(e) mean (1 / C) |z^S - z^T|^2

    Args:
        weight: weight of ``mse``.
        center: subtract the mean of every row first, so that a shift of the logits costs nothing.
        ce_weight, warmup, label_smoothing, hard: as in :func:`kd`; reads no label.

    Returns:
        Method with components ``task``, ``mse``.

    Source: logit matching, "Do deep nets really need to be deep?" (arXiv 1312.6184).

    Map: direction squared distance

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]), torch.tensor([0]))
        >>> [float(fr.methods.logit_mse(center=c).components(lg)["mse"]) for c in (False, True)]
        [5.0, 1.0]
    """
    check_not_negative("logit_mse", weight=weight)
    return distillation("logit_mse", partial(_squared, center=center), {"mse": (weight, None)}, **common)


@dataclass(frozen=True, eq=False)
class Learned:
    """Terms at a temperature that is learned against them."""

    inner: Terms
    temperature: Temperature
    ramp_epochs: int
    schedule: Ramp

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """The inner terms at the current temperature."""
        factor = reversal(progress.epoch, int(fitted(self.ramp_epochs, progress)), self.schedule)
        return self.inner.at(self.temperature(factor))(lg, progress)

    def at(self, temperature: float | Tensor) -> Terms:
        """Refused."""
        raise ValueError("its temperature is learned already")

    def on(self, change: RowMap) -> Terms:
        """Outside, unless some of the inner terms must read the rows as they are."""
        inner = self.inner.on(change)
        return OnRows(self, change) if isinstance(inner, OnRows) else replace(self, inner=inner)

    def masked(self, mask: Mask) -> Terms:
        """The inner terms masked."""
        return replace(self, inner=self.inner.masked(mask))


def _squared(lg: Logits, progress: Progress, center: bool) -> Components:
    return {"mse": logit_distance(lg.student, lg.teacher, center=center)}
