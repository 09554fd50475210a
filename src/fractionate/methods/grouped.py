"""Grouped KD: the classes that hold the teacher's mass against the rest."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..losses import split_kl
from ..losses.sizes import by_mass
from ..rows import Logits, Progress
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_not_negative, check_positive, preset
from .method import Method, Part, Task
from .reconstruction import reconstruction

Hard = Literal["error", "argmax"]


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
