"""Cross-entropies with a changed teacher: NKD, OFA, TTM and WTTM."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..kernels import Partition, widen
from ..losses import adaptive_cross_entropy, by_target, inside_cross_entropy, power_mass, split_kl, whole
from ..rows import Logits, Progress
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_not_negative, check_positive
from .method import Method, Part, Task, Terms
from .presets import preset
from .terms import Mask

Hard = Literal["error", "argmax"]


@preset
def nkd(
    *,
    gamma: float = 1.5,
    temperature: float = 1.0,
    ce_weight: float = 1.0,
    warmup: float = 1,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Normalised KD: the label weighted by the teacher's confidence, the other classes renormalised.

    L = ce_weight CE + W(e) mean[ -a_1 log sigma_1 - gamma T^2 sum over c != y of hat p_c log hat q_c ]

    a_1 and sigma_1 are the probabilities of the label at T = 1 in teacher and student; hat p and hat q are those of
    the other classes at T, renormalised. The second term is NCKD plus the entropy of hat p, so it is not 0 where the
    student equals the teacher.

    Args:
        gamma: weight of ``nontarget``.
        temperature: T of ``nontarget``.
        ce_weight, warmup, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``target``, ``nontarget``.

    Raises:
        ValueError: fewer than 3 classes, soft labels, an argument out of range.

    Source: arXiv 2303.13005.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([0]))
        >>> {name: round(float(x), 4) for name, x in fr.methods.nkd().components(lg).items() if name != "task"}
        {'target': 0.3662, 'nontarget': 0.6931}
    """
    check_positive("nkd", temperature=temperature)
    check_not_negative("nkd", gamma=gamma)
    check_common("nkd", ce_weight, warmup, label_smoothing, hard)

    def masked(mask: Mask, temperature: float | Tensor) -> Terms:
        def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
            label = lg.labels[:, None]
            log_q = widen(lg.student).log_softmax(1).gather(1, label)[:, 0]
            a = widen(lg.teacher).softmax(1).gather(1, label)[:, 0]
            kept = _kept(mask.partition(lg, progress), lg)
            return {
                "target": -a * log_q,
                "nontarget": inside_cross_entropy(lg.student, lg.teacher, kept, temperature),
            }

        return terms

    def build(mask: Mask) -> Method:
        return Method(
            name="nkd",
            parts={
                "task": Part(constant(ce_weight), "task"),
                "target": Part(warmup_to(1.0, warmup), "target"),
                "nontarget": Part(warmup_to(gamma, warmup), "nontarget"),
            },
            terms=masked(mask, temperature),
            task=Task(label_smoothing),
            needs_labels=True,
            hard=hard,
            decouple=lambda mask, form: build(mask),
            tempered=lambda value: masked(mask, value),
        )

    return build(Mask())


def _kept(partition: Partition, lg: Logits) -> Tensor:
    """``[n, c]`` the non-targets that count."""
    if partition.size == 2:
        return ~by_target(lg).members(lg.rows, lg.student.device)
    return Partition(partition.groups[1:], lg.classes).members(lg.rows, lg.student.device)


@preset
def ofa(
    *,
    gamma: float = 1.0,
    temperature: float = 1.0,
    weight: float = 1.0,
    ce_weight: float = 1.0,
    warmup: float = 1,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """The loss of one-for-all distillation: cross-entropy with a target whose label part is raised to a power.

    L = ce_weight CE + weight W(e) mean[ -sum_c r_c log p^S_c ], r_c = (p^T_c + 1[c = y])^gamma - 1[c = y]

    Args:
        gamma: exponent; 1 is the cross-entropy with the teacher's probabilities.
        temperature: T of both probabilities; there is no T^2.
        weight: weight of ``ofa``.
        ce_weight, warmup, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``ofa``. The branches at intermediate layers of the paper are not offered.

    Raises:
        ValueError: soft labels (the target is not defined for mixed ones), an argument out of range.

    Source: arXiv 2310.19444.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]))
        >>> fr.methods.ofa().components(lg)["ofa"]
        tensor([0.6931])
    """
    check_positive("ofa", gamma=gamma, temperature=temperature)
    check_not_negative("ofa", weight=weight)
    check_common("ofa", ce_weight, warmup, label_smoothing, hard)

    def at(temperature: float | Tensor) -> Terms:
        def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
            return {"ofa": adaptive_cross_entropy(lg.student, lg.teacher, lg.labels, gamma, temperature)}

        return terms

    return Method(
        name="ofa",
        parts={"task": Part(constant(ce_weight), "task"), "ofa": Part(warmup_to(weight, warmup))},
        terms=at(temperature),
        tempered=at,
        task=Task(label_smoothing),
        needs_labels=True,
        hard=hard,
    )


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
