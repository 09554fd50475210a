"""CRLD: confident rows only, within each view and across the two views."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from .._typing import Float
from ..losses.split import widen
from ..rows import Logits, Progress, weighted_mean
from ..schedules import constant
from ..schedules import warmup as warmup_to
from .checks import check_common, check_not_negative, check_positive, preset
from .inner import Decoupled, Inner, InnerWeights, KdForm, kd_rows
from .mask import Mask
from .method import Method, Part, Task

Hard = Literal["error", "argmax"]


@preset
def crld(
    *,
    wv_weight: float = 2.0,
    cv_weight: float = 0.5,
    temperature: float = 4.0,
    tau_weak: float = 0.9,
    tau_strong: float = 0.2,
    alpha: float | None = None,
    beta: float | None = None,
    ce_weight: float = 1.0,
    warmup: float = 1,
    label_smoothing: float = 0.0,
    hard: Hard = "error",
) -> Method:
    """Cross-view regularised distillation: KD where the teacher is confident, within and across two views.

    L = ce_weight (CE_w + CE_s) + W(e) mean[ wv_weight 1(conf_w >= tau_weak) (KD(S_w, T_w) + KD(S_s, T_s))
    + cv_weight 1(conf_s >= tau_strong) (KD(S_s, T_w) + KD(S_w, T_s)) ]

    conf is the teacher's largest probability at T = 1 on its own view; masked rows count as 0.

    Args:
        wv_weight, cv_weight: weights of the terms within a view and across the views.
        temperature: T.
        tau_weak, tau_strong: thresholds of the teacher's confidence on the weak and on the strong view.
        alpha, beta: with one of them (the other is then 1) the inner loss is DKD, alpha TCKD + beta NCKD, as in
            DeepKD's code; without, it is KD.
        ce_weight: weight of the cross-entropy of each view.
        warmup, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``within_view``, ``cross_view``; with alpha or beta, and under
        :func:`deepkd`, each of the two in its parts: ``within_target``, ``within_nontarget``, ... Under deepkd with
        ``kd_form="batch_means"`` the thresholds act as the fraction of confident rows, as in DeepKD's code.

    Raises:
        ValueError: no second view, soft labels with alpha or beta, an argument out of range.

    Source: arXiv 2412.16493, the masks as in haiduo/DeepKD (ImageNet: T 1, ce_weight 2).

    Example:
        >>> import torch, fractionate as fr
        >>> views = [fr.Logits(torch.randn(2, 5), torch.randn(2, 5), torch.tensor([0, 1])) for _ in range(2)]
        >>> lg = fr.Logits(views[0].student, views[0].teacher, views[0].target, strong=views[1])
        >>> list(fr.methods.crld().components(lg))
        ['task', 'within_view', 'cross_view']
    """
    check_positive("crld", temperature=temperature)
    check_not_negative("crld", wv_weight=wv_weight, cv_weight=cv_weight, tau_weak=tau_weak, tau_strong=tau_strong)
    check_common("crld", ce_weight, warmup, label_smoothing, hard)
    inner = InnerWeights(alpha, beta)
    inner.check("crld")

    def build(loss: Inner, fractions: bool) -> Method:
        outer = {"within": wv_weight, "cross": cv_weight}
        weights = inner.weights(decoupled=isinstance(loss, Decoupled))
        named = {_name(o, i): (a * b, role) for i, (b, role) in weights.items() for o, a in outer.items()}
        return Method(
            name="crld",
            parts={
                "task": Part(constant(ce_weight), "task"),
                **{name: Part(warmup_to(w, warmup), role) for name, (w, role) in named.items()},
            },
            terms=_CrossView(temperature, (tau_weak, tau_strong), loss, fractions),
            task=Task(label_smoothing, 2),
            needs_labels=isinstance(loss, Decoupled),
            hard=hard,
            views=2,
            row_wise=not fractions,
        )

    def decouple(mask: Mask, form: KdForm) -> Method:
        return build(Decoupled(mask, form, constant=inner.dkd), form == "batch_means")

    return replace(build(Decoupled(Mask(), constant=True) if inner.dkd else kd_rows, False), decouple=decouple)


@dataclass(frozen=True)
class _CrossView:
    """CRLD's terms: the inner loss of the four pairs of views, masked by the teacher's confidence."""

    temperature: float
    thresholds: tuple[float, float]
    inner: Inner
    fractions: bool

    def __call__(self, lg: Logits, progress: Progress) -> dict[str, Tensor]:
        """Rows of the terms within a view and across the views."""
        assert lg.strong is not None  # check_rows refused rows without it
        weak, strong = lg, lg.strong
        masks = [self._mask(view, t, lg.weight) for view, t in zip((weak, strong), self.thresholds, strict=True)]
        # Either teacher ranks its classes once and serves both students.
        by_weak, by_strong = (self.inner(replace(view, weight=lg.weight), progress) for view in (weak, strong))
        pairs = {"within": (weak, strong), "cross": (strong, weak)}
        rows: dict[str, Tensor] = {}
        for (outer, (first, second)), mask in zip(pairs.items(), masks, strict=True):
            a, b = (of(s.student, self.temperature) for of, s in ((by_weak, first), (by_strong, second)))
            rows |= {_name(outer, name): mask * (a[name] + b[name]) for name in a}
        return rows

    def _mask(self, view: Logits, threshold: float, weight: Tensor | None) -> Float[Tensor, ...]:
        """1 for confident rows; or the fraction of them."""
        best = widen(view.rank_by.detach()).softmax(1).amax(1)
        sure = (best >= threshold).to(best.dtype)
        return weighted_mean(sure, weight) if self.fractions else sure


def _name(outer: str, inner: str) -> str:
    return f"{outer}_view" if inner == "kd" else f"{outer}_{inner}"
