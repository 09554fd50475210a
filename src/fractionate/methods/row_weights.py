"""Weights of rows: any rule that says how much a row's distillation counts, EA-KD's entropies, WSLD's ratios."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from .._choices import choose
from .._typing import Float
from ..kernels import Direction, widen
from ..losses import by_target
from ..rows import Logits, Progress
from .arguments import Common, check_not_negative, check_numbers, check_positive, preset, with_common
from .method import Method, distillation
from .split import Readings, split_method
from .terms import Components, Terms, around

Rule = Callable[[Logits], Tensor]
Upper = Literal["log_classes", "published-code"]
UPPERS: tuple[Upper, ...] = ("log_classes", "published-code")
LEAST = 1e-7  # added to the teacher's cross-entropy, as published
PUBLISHED_BOUND = 100.0  # the code's constant, for every data set but ImageNet


@preset
def weighted_rows(method: Method, rule: Rule, *, needs_labels: bool = False, row_wise: bool = True) -> Method:
    """Every row's distillation times a weight that a rule computes from its logits.

    L = task + mean_i sum_c weight_c w_i x_ci, w = rule(rows), without gradient; the mean divides by rows, not by the
    sum of w

    Args:
        method: any method with one view. Its task, and components of role task (correlations), are not weighed.
        rule: function of the rows, ``[n]``; give a module-level function if the method is to be pickled.
        needs_labels: whether the rule reads the labels.
        row_wise: whether the rule looks at each row alone.

    Returns:
        Method with the components, weights, roles and streams of ``method``.

    Raises:
        ValueError: a method with two views, or a rule that does not give one finite number per row.

    Source: this package; the rules of EA-KD (ICCV 2025) and WSLD (ICLR 2021) are of this form.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> twice = fr.methods.weighted_rows(fr.methods.kd(), lambda lg: torch.full((lg.rows,), 2.0))
        >>> bool(torch.equal(twice.components(lg)["kd"], 2 * fr.methods.kd().components(lg)["kd"]))
        True
    """
    return _weighted(method, rule, "weighted_rows", needs_labels, row_wise)


@preset
def ea(method: Method, *, entropy_temperature: float = 3.0, upper: Upper = "log_classes") -> Method:
    """Entropy-adaptive KD: rows count by how undecided the teacher is, and up to twice that where the student is too.

    w = H(p^T) (1 + H(p^S) / H_ub) / 2 at tau, without gradient; L = task + mean_i w_i x_i

    The weights are not normalised: 0 <= w <= log C, so they are a larger ``kd_weight`` too (about 4 for 100 classes).

    Args:
        method: any method with one view.
        entropy_temperature: tau of both entropies (2 for ImageNet in the source).
        upper: H_ub, ``"log_classes"`` (log C, as described) or ``"published-code"`` (100, which halves w).

    Returns:
        Method with the components, weights, roles and streams of ``method``.

    Raises:
        ValueError: a method with two views, an argument out of range.

    Source: EA-KD (ICCV 2025) and cpsu00/EA-KD.

    Map: rows entropy of both networks

    Note:
        The published results came with larger weights as well as with other ones: compare with ``method`` at its weight
        times the mean of w. Around ``lskd`` the entropies are those of raw logits, inside it of standardised ones; the
        published code does one for KD and the other for DKD. Where the teacher is one-hot the weight is 0, so a sure
        teacher teaches nothing, right or wrong.

    Example:
        >>> import torch, fractionate as fr
        >>> flat = torch.zeros(1, 4)
        >>> rows = fr.Logits(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), flat, torch.tensor([0]))
        >>> bool(fr.methods.ea(fr.methods.kd()).components(rows)["kd"] > fr.methods.kd().components(rows)["kd"])
        True
    """
    check_positive("ea", entropy_temperature=entropy_temperature)
    choose("ea upper", upper, UPPERS)
    return _weighted(method, EntropyRule(entropy_temperature, upper), "ea", False, True)


@with_common()
def wsld(*, alpha: float = 2.5, temperature: float = 2.0, **common: Unpack[Common]) -> Method:
    """Weighted soft labels: rows count by how much worse than the teacher the student still is on the label.

    L = ce_weight CE + alpha W(e) T^2 mean[ w_i ( -sum_c p^T_c log p^S_c ) ], w = 1 - exp( -CE(z^S, y) / CE(z^T, y) )

    w is taken at temperature 1, without gradient. The soft cross-entropy is KD plus the teacher's entropy, so it is not
    0 at the teacher; its gradient is KD's.

    Args:
        alpha: weight of ``kd`` (2.25 with T = 4 in the CIFAR-100 port).
        temperature: T.
        ce_weight, warmup, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``kd``; w is inside ``kd``.

    Raises:
        ValueError: soft labels, an argument out of range.

    Source: Rethinking soft labels (ICLR 2021) and bellymonster/Weighted-Soft-Label-Distillation.

    Map: partition whole; direction forward, as cross-entropy; rows 1 - exp(-CE_S / CE_T)

    Note:
        A row on which the teacher is sure and right keeps its full weight, one on which the student is better than the
        teacher loses it. The mean divides by all rows, so the weights also make the term smaller as training goes on.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]))
        >>> fr.methods.wsld(temperature=1.0).components(lg)["kd"]  # (1 - 1/e) log 2
        tensor([0.4382])
    """
    check_positive("wsld", temperature=temperature)
    check_not_negative("wsld", alpha=alpha)
    terms = partial(_soft_labels, temperature=temperature)
    return distillation("wsld", terms, {"kd": (alpha, None)}, needs_labels=True, **common)


@with_common()
def atkd(
    *,
    easy_weight: float = 0.2,
    temperature: float = 1.0,
    direction: Direction | str = "forward",
    **common: Unpack[Common],
) -> Method:
    """Adaptive teaching: rows on which the teacher is sure of the label teach NCKD alone, the others both terms.

    L = ce_weight CE + W(e) T^2 ( l mean_easy NCKD + (1 - l) mean_hard[ TCKD + NCKD ] )

    A row is easy if the teacher's 1 - p_y (at temperature 1) lies below the lower median of the batch, else hard; each
    mean is over its own rows, so about half of all rows share the weight l.

    Args:
        easy_weight: l, in 0..1.
        temperature: T.
        direction: of both terms, as in :func:`kd`; ``"reverse"`` is the source's "reverse".
        ce_weight, warmup, label_smoothing, hard: as in :func:`dkd`; the source has no cross-entropy.

    Returns:
        Method with components ``task``, ``target``, ``nontarget``; the weights of the rows are inside.

    Raises:
        ValueError: fewer than 3 classes, soft labels, an argument out of range.

    Source: arXiv 2402.11890 (ACL 2024) and WHU-ZQH/ATKD, for language models.

    Map: rows easy or hard by the teacher's median doubt

    Note:
        The median is that of the rows which a process sees at once: micro-batches and several processes each have their
        own. Where no row lies below it (one row, or ties at the lowest) the easy part is 0; the published code raises.

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> rows = fr.methods.atkd().components(lg)
        >>> int((rows["target"] == 0).sum())  # 4 rows: one is easy
        1
    """
    check_numbers("atkd", easy_weight=easy_weight)
    if not 0 <= easy_weight <= 1:
        raise ValueError(f"atkd: easy_weight must lie in 0..1, got {easy_weight!r}")
    parts: Readings = {"target": (None, 1.0, "target"), "nontarget": (1, 1.0, "nontarget")}
    inner = split_method(
        "atkd", by_target, parts, temperature=temperature, direction=direction, needs_labels=True, **common
    )
    return around(inner, partial(_by_doubt, easy_weight=easy_weight), row_wise=False)


def _by_doubt(inner: Terms, lg: Logits, progress: Progress, easy_weight: float) -> Components:
    with torch.no_grad():
        teacher = widen(lg.teacher)
        label = torch.nn.functional.one_hot(lg.labels, lg.classes).bool()
        doubt = teacher.masked_fill(label, -torch.inf).logsumexp(1) - teacher.logsumexp(1)  # log(1 - p_y)
        weight = torch.ones_like(doubt) if lg.weight is None else lg.weight.to(doubt.dtype)
        easy = doubt < _lower_median(doubt, weight > 0)
        each = [_share(easy, weight) * easy_weight, _share(~easy, weight) * (1 - easy_weight)]
    rows = inner(lg, progress)
    return {"target": each[1] * rows["target"], "nontarget": (each[0] + each[1]) * rows["nontarget"]}


def _lower_median(x: Tensor, there: Tensor) -> Tensor:
    """``[]`` the lower median of the entries that are there; nan if none is."""
    if not len(x):
        return x.sum()
    ordered = x.masked_fill(~there, torch.inf).sort().values
    place = ((there.sum() - 1) // 2).clamp(min=0)
    return ordered.gather(0, place[None])[0]  # an index would be read by the host


def _share(chosen: Tensor, weight: Tensor) -> Tensor:
    """``[n]`` weights that make the mean over all rows the mean over the chosen ones; 0 for the others."""
    inside = (chosen * weight).sum()
    return chosen * weight.sum() / torch.where(inside == 0, torch.ones_like(inside), inside)


def _soft_labels(lg: Logits, progress: Progress, temperature: float) -> Components:
    student, teacher = (widen(z) for z in (lg.student, lg.teacher))
    own, other = (F.cross_entropy(z, lg.labels, reduction="none") for z in (student.detach(), teacher))
    weight = -torch.expm1(-own / (other + LEAST))
    soft = F.cross_entropy(student / temperature, (teacher / temperature).softmax(1), reduction="none")
    return {"kd": temperature**2 * weight * soft}


@dataclass(frozen=True)
class EntropyRule:
    """EA-KD's weight of every row."""

    temperature: float
    upper: Upper

    def __call__(self, lg: Logits) -> Float[Tensor, " n"]:
        """``[n]``, between 0 and the logarithm of the number of classes."""
        teacher, student = (_entropy(z, self.temperature) for z in (lg.teacher, lg.student.detach()))
        bound = math.log(lg.classes) if self.upper == "log_classes" else PUBLISHED_BOUND
        return teacher * (1 + student / bound) / 2


def _entropy(z: Tensor, temperature: float) -> Tensor:
    logs = (widen(z) / temperature).log_softmax(1)
    return -(logs.exp() * logs).sum(1)


def _weighted(method: Method, rule: Rule, where: str, needs_labels: bool, row_wise: bool) -> Method:
    if method.views != 1:
        raise ValueError(f"{where}: {method.name} has two views, whose rows would each need a weight of their own")
    kept = tuple(name for name, part in method.parts.items() if part.role == "task")
    return around(
        method,
        partial(_times, rule=rule, kept=kept),
        name=f"{method.name}+{where}",
        needs_labels=method.needs_labels or needs_labels,
        row_wise=method.row_wise and row_wise,
        twin=None if method.twin is None else _weighted(method.twin, rule, where, needs_labels, row_wise),
    )


def _times(inner: Terms, lg: Logits, progress: Progress, rule: Rule, kept: tuple[str, ...]) -> Components:
    with torch.no_grad():
        weight = rule(lg)
    if weight.shape != (lg.rows,):
        raise ValueError(f"weighted_rows: the rule must give one number per row, [{lg.rows}], got {list(weight.shape)}")
    return {name: x if name in kept else weight.to(x.dtype) * x for name, x in inner(lg, progress).items()}
