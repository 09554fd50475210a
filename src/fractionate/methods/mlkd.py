"""MLKD: several temperatures, two views, and correlations among classes and among the rows of the batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Unpack

import torch
from torch import Tensor

from .._choices import choose
from .._typing import Float
from ..kernels import widen
from ..losses import batch_relation, class_relation
from ..rows import Logits, Progress, weighted_mean
from ..schedules import constant
from .arguments import Common, check_not_negative, check_positive, with_common
from .inner import Decoupled, Inner, InnerWeights, KdRows, Mask
from .method import Method, Weights, distillation, sum_of
from .terms import NO_TEMPERATURE, Components, RowMap, Terms, Then, unchanged

Form = Literal["masked", "published-code", "one_view"]
FORMS: tuple[Form, ...] = ("masked", "published-code", "one_view")
Second = Literal["strong", "weak", "none"]
FURTHER = (3.0, 5.0, 2.0, 6.0)  # temperatures besides T0
# which logits the second KL of each temperature reads
SECOND: dict[str, tuple[Second, ...]] = {
    "masked": ("strong",) * 5,
    "published-code": ("strong", "strong", "strong", "weak", "weak"),
    "one_view": ("none",) * 5,
}


@with_common(ce_weight=0.1)
def mlkd(
    *,
    temperature: float = 4.0,
    form: Form = "masked",
    alpha: float | None = None,
    beta: float | None = None,
    kd_weight: float = 0.9,
    **common: Unpack[Common],
) -> Method:
    """Multi-level logit distillation: KD at five temperatures on two views, plus class and batch correlation.

    L = ce_weight (CE_weak + CE_strong) + kd_weight sum over T in {T0, 3, 5, 2, 6} of [ M KD_T(weak) + KD_T(strong)
    + CC_T(weak) + BC_T(weak) ]
    CC_T = |P' P - Q' Q|_F^2 / C, BC_T = |P P' - Q Q'|_F^2 / n, P and Q the softmax at T of teacher and student

    M keeps the rows whose teacher confidence is at or below the batch median; BC looks at the same rows, CC at the
    classes at or below the median summed confidence.

    Args:
        temperature: T0.
        form: ``"masked"`` as described; ``"published-code"``: the masks act as the fraction they keep, and the strong
            terms for T = 2 and 6 read the weak logits; ``"one_view"``: masked, without the strong view.
        alpha, beta: with one of them (the other is then 1) the inner loss is DKD, alpha TCKD + beta NCKD, as in
            DeepKD's code; without, it is KD. The warm-up then acts on these two parts only.
        ce_weight: weight of the cross-entropy of each view.
        kd_weight: weight of everything else.
        warmup, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``kd`` (or ``target`` and ``nontarget``), ``class_correlation``,
        ``batch_correlation``. Under :func:`deepkd` the correlations join the task, and every temperature reads the
        strong logits, as in DeepKD's code; with ``kd_form="batch_means"`` the masks act as fractions there.

    Raises:
        ValueError: no second view, soft labels with alpha or beta, an argument out of range.

    Source: multi-level logit distillation (CVPR 2023) as in sunshangquan/logit-standardization-KD; one view as in
    ZaberKo/GDKD; alpha and beta as in haiduo/DeepKD.

    Map: partition whole; direction forward; rows the less sure half; relation correlation of classes, of rows;
    logits two views, five temperatures

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.randn(4, 10), torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))
        >>> list(fr.methods.mlkd(form="one_view").components(lg))
        ['task', 'kd', 'class_correlation', 'batch_correlation']
    """
    choose("mlkd form", form, FORMS)
    check_positive("mlkd", temperature=temperature)
    check_not_negative("mlkd", kd_weight=kd_weight)
    inner = InnerWeights(alpha, beta)
    inner.check("mlkd")
    relations = constant(kd_weight) if inner.dkd else kd_weight
    views = 1 if form == "one_view" else 2

    def build(loss: Inner, fractions: bool, second: tuple[Second, ...], twin: Method | None) -> Method:
        decoupled = isinstance(loss, Decoupled)
        weights: Weights = {name: (kd_weight * w, role) for name, (w, role) in inner.weights(decoupled).items()}
        return distillation(
            "mlkd",
            Levels((temperature, *FURTHER), second, loss, fractions),
            {**weights, "class_correlation": (relations, "task"), "batch_correlation": (relations, "task")},
            task_views=views,
            needs_labels=decoupled,
            row_wise=False,
            twin=twin,
            **common,
        )

    twin = build(Decoupled(constant=inner.dkd), False, SECOND["one_view" if views == 1 else "masked"], None)
    return build(Decoupled(constant=True) if inner.dkd else KdRows(), form == "published-code", SECOND[form], twin)


@dataclass(frozen=True, eq=False)
class Levels:
    """MLKD's terms.

    Args:
        temperatures: T0 and the further ones.
        second: which logits the second KL of each temperature reads.
        inner: the loss on one view at one temperature.
        fractions: whether the masks act as the fraction that they keep.
        change: of the rows in the KL only: masks and correlations read raw logits.
    """

    temperatures: tuple[float, ...]
    second: tuple[Second, ...]
    inner: Inner
    fractions: bool
    change: RowMap = unchanged

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """The KL of all temperatures and views, and the two correlations."""
        keep = _low_half(_confidence(lg).amax(1), lg.weight)
        kl = self._kl(self.change(lg), progress, weighted_mean(keep, lg.weight) if self.fractions else keep)
        return {**kl, **self._relations(lg, keep)}

    def at(self, temperature: float | Tensor) -> Terms:
        """Refused: there are five."""
        raise ValueError(NO_TEMPERATURE)

    def on(self, change: RowMap) -> Terms:
        """The same with a transform of the logits in the KL."""
        return replace(self, change=Then(change, self.change))

    def masked(self, mask: Mask) -> Terms:
        """The same with masked non-targets."""
        return replace(self, inner=self.inner.masked(mask), fractions=mask.form == "batch_means")

    def _kl(self, lg: Logits, progress: Progress, share: Tensor) -> Components:
        read = {"weak", *self.second}
        views = {name: v for name, v in (("weak", lg), ("strong", lg.strong)) if v is not None and name in read}
        loss = {name: self.inner(view, progress) for name, view in views.items()}  # ranks every view once
        total: Components = {}
        for temperature, name in zip(self.temperatures, self.second, strict=True):
            rows = {n: share * x for n, x in loss["weak"](lg.student, temperature).items()}
            if name in views:
                rows = {n: rows[n] + x for n, x in loss[name](views[name].student, temperature).items()}
            total = {n: total[n] + x if n in total else x for n, x in rows.items()}
        return total

    def _relations(self, lg: Logits, keep: Float[Tensor, " n"]) -> Components:
        confidence, weight = _confidence(lg), _relative(lg.weight)
        classes = _low_half((confidence if weight is None else weight[:, None] * confidence).sum(0), None)
        rows = keep if weight is None else keep * weight
        z = lg.student, lg.teacher
        if self.fractions:
            by_class = classes.mean() * sum_of([class_relation(*z, t, weight=weight) for t in self.temperatures])
            fraction = weighted_mean(keep, weight)
            by_row = fraction * sum_of([batch_relation(*z, t, weight=weight) for t in self.temperatures])
        else:
            by_class = sum_of([class_relation(*z, t, weight=weight, classes=classes) for t in self.temperatures])
            by_row = keep * sum_of([batch_relation(*z, t, weight=rows) for t in self.temperatures])
        return {"class_correlation": by_class.expand(lg.rows), "batch_correlation": by_row}


def _confidence(lg: Logits) -> Float[Tensor, "n c"]:
    """The teacher's probabilities at T = 1."""
    return widen(lg.rank_by.detach()).softmax(1)


def _relative(weight: Float[Tensor, " n"] | None) -> Float[Tensor, " n"] | None:
    """Weights with mean 1 over the rows that are there, so that their scale does not matter."""
    if weight is None:
        return None
    total = weight.sum()
    return weight * (weight > 0).sum() / torch.where(total == 0, torch.ones_like(total), total)


def _low_half(x: Float[Tensor, " m"], weight: Float[Tensor, " m"] | None) -> Float[Tensor, " m"]:
    """1 where x is at or below its median over the entries of positive weight, else 0."""
    if not len(x):
        return x
    ordered, count = x.sort().values, torch.full((1,), len(x), device=x.device)
    if weight is not None:
        ordered = x.masked_fill(weight == 0, torch.inf).sort().values
        count = (weight > 0).sum(0, keepdim=True).clamp(min=1)
    middle = ordered.gather(0, torch.cat([(count - 1) // 2, count // 2])).mean()
    return (x <= middle).to(x.dtype)
