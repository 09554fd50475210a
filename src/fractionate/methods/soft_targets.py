"""Cross-entropies with a changed teacher: NKD, OFA, TTM and WTTM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Unpack

from torch import Tensor

from ..kernels import Partition, widen
from ..losses import adaptive_cross_entropy, by_target, inside_cross_entropy, power_mass, split_kl, whole
from ..rows import Logits, Progress
from .arguments import Common, check_not_negative, check_positive, with_common
from .inner import Mask
from .method import Method, Weights, distillation
from .terms import NO_LABEL, Components, OnRows, RowMap, Terms


@with_common()
def nkd(
    *,
    gamma: float = 1.5,
    temperature: float = 1.0,
    **common: Unpack[Common],
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

    Map: partition by_target; direction cross-entropy; rows the teacher's confidence in the label

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([0]))
        >>> {name: round(float(x), 4) for name, x in fr.methods.nkd().components(lg).items() if name != "task"}
        {'target': 0.3662, 'nontarget': 0.6931}
    """
    check_positive("nkd", temperature=temperature)
    check_not_negative("nkd", gamma=gamma)
    weights: Weights = {"target": (1.0, "target"), "nontarget": (gamma, "nontarget")}
    return distillation("nkd", NormalisedTerms(temperature), weights, needs_labels=True, **common)


def _kept(partition: Partition, lg: Logits) -> Tensor:
    """``[n, c]`` the non-targets that count."""
    if partition.size == 2:
        return ~by_target(lg).members(lg.rows, lg.student.device)
    return Partition(partition.groups[1:], lg.classes).members(lg.rows, lg.student.device)


@with_common()
def ofa(
    *,
    gamma: float = 1.0,
    temperature: float = 1.0,
    weight: float = 1.0,
    **common: Unpack[Common],
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

    Map: partition whole; direction cross-entropy, the label raised

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]))
        >>> fr.methods.ofa().components(lg)["ofa"]
        tensor([0.6931])
    """
    check_positive("ofa", gamma=gamma, temperature=temperature)
    check_not_negative("ofa", weight=weight)
    return distillation("ofa", StressedTerms(gamma, temperature), {"ofa": (weight, None)}, needs_labels=True, **common)


@with_common()
def ttm(
    *,
    l: float = 0.1,
    weight: float = 45.0,
    **common: Unpack[Common],
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

    Map: partition whole; direction forward; logits the student's at temperature 1

    Example:
        >>> import torch, fractionate as fr
        >>> z = torch.tensor([[1.0, 2.0, 4.0]])
        >>> fr.methods.ttm(l=0.5).components(fr.Logits(0.5 * z, z, torch.tensor([0])))["ttm"]
        tensor([0.])
    """
    check_positive("ttm", l=l)
    check_not_negative("ttm", weight=weight)
    return distillation("ttm", partial(_powered, power=l), {"ttm": (weight, None)}, **common)


@with_common()
def wttm(
    *,
    l: float = 0.2,
    weight: float = 4.0,
    **common: Unpack[Common],
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

    Map: partition whole; direction forward; rows mass of the power; logits the student's at temperature 1

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.tensor([[0.0, 1.0, 2.0]]), torch.zeros(1, 3), torch.tensor([0]))
        >>> plain, weighted = (m(l=0.5).components(lg) for m in (fr.methods.ttm, fr.methods.wttm))
        >>> bool(torch.isclose(weighted["wttm"], 3**0.5 * plain["ttm"]))
        True
    """
    check_positive("wttm", l=l)
    check_not_negative("wttm", weight=weight)
    return distillation("wttm", partial(_weighted, power=l), {"wttm": (weight, None)}, **common)


def _powered(lg: Logits, progress: Progress, power: float) -> Components:
    return {"ttm": _transformed_kl(lg, power)}


def _weighted(lg: Logits, progress: Progress, power: float) -> Components:
    return {"wttm": power_mass(lg.teacher, power) * _transformed_kl(lg, power)}


def _transformed_kl(lg: Logits, power: float) -> Tensor:
    return split_kl(widen(lg.student), power * widen(lg.teacher), whole(lg)).within[:, 0]


@dataclass(frozen=True, eq=False)
class NormalisedTerms:
    """NKD's terms at a temperature, over the non-targets that a mask keeps."""

    temperature: float | Tensor
    mask: Mask = Mask()

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """The label's cross-entropy at T = 1, and the one among the other classes at T."""
        label = lg.labels[:, None]
        log_q = widen(lg.student).log_softmax(1).gather(1, label)[:, 0]
        a = widen(lg.teacher).softmax(1).gather(1, label)[:, 0]
        kept = _kept(self.mask.partition(lg, progress, self.temperature), lg)
        inside = inside_cross_entropy(lg.student, lg.teacher, kept, self.temperature)
        return {"target": -a * log_q, "nontarget": inside}

    def at(self, temperature: float | Tensor) -> Terms:
        """The same at another temperature."""
        return replace(self, temperature=temperature)

    def on(self, change: RowMap) -> Terms:
        """The terms of changed rows."""
        return OnRows(self, change)

    def masked(self, mask: Mask) -> Terms:
        """The same under a mask."""
        return replace(self, mask=mask)


@dataclass(frozen=True, eq=False)
class StressedTerms:
    """OFA's terms: the exponent, and the temperature of both probabilities."""

    gamma: float
    temperature: float | Tensor

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """The adaptive cross-entropy, ``[n]``."""
        return {"ofa": adaptive_cross_entropy(lg.student, lg.teacher, lg.labels, self.gamma, self.temperature)}

    def at(self, temperature: float | Tensor) -> Terms:
        """The same at another temperature."""
        return replace(self, temperature=temperature)

    def on(self, change: RowMap) -> Terms:
        """The terms of changed rows."""
        return OnRows(self, change)

    def masked(self, mask: Mask) -> Terms:
        """Refused."""
        raise ValueError(NO_LABEL)
