"""TTM and WTTM: the teacher's probabilities raised to a power, the student at temperature 1."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..losses import split_kl, whole
from ..losses.soft import power_mass
from ..losses.split import widen
from ..rows import Logits, Progress
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_not_negative, check_positive, preset
from .method import Method, Part, Task, Terms

Hard = Literal["error", "argmax"]


@preset
def ttm(
    *,
    l: float = 0.1,
    weight: float = 45.0,
    ce_weight: float = 1.0,
    warmup: float = 1,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Transformed teacher matching: KD without a temperature in the student.

    L = ce_weight CE + weight W(e) mean KL( softmax(l z^T) || softmax(z^S) )

    Args:
        l: power of the teacher's probabilities, 1 / T; 1 is KD at T = 1.
        weight: weight of ``ttm``; there is no T^2.
        ce_weight, warmup, label_smoothing, hard: as in :func:`kd`; reads no label.

    Returns:
        Method with components ``task``, ``ttm``.

    Source: arXiv 2402.11148; l .1 and weight 45 for VGG13 to VGG8.

    Example:
        >>> import torch, fractionate as fr
        >>> z = torch.tensor([[1.0, 2.0, 4.0]])
        >>> fr.methods.ttm(l=0.5).components(fr.Logits(0.5 * z, z, torch.tensor([0])))["ttm"]
        tensor([0.])
    """

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        return {"ttm": _transformed_kl(lg, l)}

    return _build("ttm", l, weight, terms, ce_weight, warmup, label_smoothing, hard)


@preset
def wttm(
    *,
    l: float = 0.2,
    weight: float = 4.0,
    ce_weight: float = 1.0,
    warmup: float = 1,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Weighted TTM: rows count by how much mass the power leaves, the more the flatter the teacher is.

    L = ce_weight CE + weight W(e) mean[ U KL( softmax(l z^T) || softmax(z^S) ) ], U = sum_c softmax(z^T)_c^l

    Args:
        l: power of the teacher's probabilities, 1 / T; 1 is KD at T = 1, with U = 1.
        weight: weight of ``wttm``; there is no T^2.
        ce_weight, warmup, label_smoothing, hard: as in :func:`kd`; reads no label.

    Returns:
        Method with components ``task``, ``wttm``.

    Source: arXiv 2402.11148; l .2 and weight 4, published together with CRD.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.tensor([[0.0, 1.0, 2.0]]), torch.zeros(1, 3), torch.tensor([0]))
        >>> plain, weighted = (m(l=0.5).components(lg) for m in (fr.methods.ttm, fr.methods.wttm))
        >>> bool(torch.isclose(weighted["wttm"], 3**0.5 * plain["ttm"]))
        True
    """

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        return {"wttm": power_mass(lg.teacher, l) * _transformed_kl(lg, l)}

    return _build("wttm", l, weight, terms, ce_weight, warmup, label_smoothing, hard)


def _transformed_kl(lg: Logits, power: float) -> Tensor:
    return split_kl(widen(lg.student), power * widen(lg.teacher), whole(lg)).within[:, 0]


def _build(
    name: str,
    l: float,
    weight: float,
    terms: Terms,
    ce_weight: float,
    warmup: float,
    label_smoothing: float,
    hard: Hard,
) -> Method:
    check_positive(name, l=l)
    check_not_negative(name, weight=weight)
    check_common(name, ce_weight, warmup, label_smoothing, hard)
    return Method(
        name=name,
        parts={"task": Part(constant(ce_weight), "task"), name: Part(warmup_to(weight, warmup))},
        terms=terms,
        task=Task(label_smoothing),
        hard=hard,
    )
