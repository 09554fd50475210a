"""CTKD: a temperature that is learned against the student."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from .._choices import choose
from .._typing import Float
from ..rows import Logits, Progress
from .checks import check_count, check_positive, preset
from .kd import kd
from .mapped import on_twin
from .method import Method

Hard = Literal["error", "argmax"]
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
        ramp_epochs: length of the ramp of lambda.
        schedule: ``"cosine"``, (cos(pi min(e, E) / E) + 1) / 2 - 1; or ``"linear"``, -min(e, E - 1) / E, which as
            published stops one step before -1.
        ce_weight, warmup, label_smoothing, hard: those of ``method`` unless given.

    Returns:
        Method with the components, weights and streams of ``method``.

    Raises:
        ValueError: a method whose temperature cannot be learned, an argument out of range.

    Source: arXiv 2211.16231 and zhengli97/CTKD (the global form). The published optimizer decays theta like a weight.

    Example:
        >>> import fractionate as fr
        >>> m = fr.methods.ctkd(fr.methods.dkd())
        >>> round(m.module().item(), 3)
        15.621
    """
    check_positive("ctkd", t_start=t_start, t_end=t_end)
    check_count("ctkd", "ramp_epochs", ramp_epochs, 1)
    choose("ctkd schedule", schedule, ("cosine", "linear"))
    common = {"ce_weight": ce_weight, "warmup": warmup, "label_smoothing": label_smoothing, "hard": hard}
    given = {name: value for name, value in common.items() if value is not None}
    if given:
        method = method.with_args(**given)
    temperature = Temperature(t_start, t_end)

    def learned(inner: Method) -> Method:
        at = inner.tempered
        if at is None:
            raise ValueError(
                f"ctkd: {inner.name} has no temperature that can be learned; use it over kd, dkd, nkd, ofa or dist, "
                f"also standardised, and put other wrappers around it: sdd(ctkd(kd()))"
            )

        def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
            factor = reversal(progress.epoch, ramp_epochs, schedule)
            return at(temperature(factor))(lg, progress)

        return replace(
            inner,
            name=f"{inner.name}+ctkd",
            terms=terms,
            tempered=None,
            module=temperature,
            decouple=on_twin(inner, learned),
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
