"""Two views of every image: CRLD, and SLD with its swap of the teacher's best class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Unpack

from torch import Tensor

from .._choices import choose
from .._typing import Float
from ..kernels import widen
from ..losses import kl_rows, swap_target
from ..rows import Logits, Progress, weighted_mean
from ..schedules import fitted
from .arguments import Common, check_count, check_not_negative, check_positive, preset, with_common
from .inner import Decoupled, Inner, InnerWeights, KdRows, Mask
from .method import Method, Weights, distillation
from .terms import NO_TEMPERATURE, Components, EveryView, OnRows, RowMap, Terms, mapped


@with_common()
def crld(
    *,
    wv_weight: float = 2.0,
    cv_weight: float = 0.5,
    temperature: float = 4.0,
    tau_weak: float = 0.9,
    tau_strong: float = 0.2,
    alpha: float | None = None,
    beta: float | None = None,
    **common: Unpack[Common],
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

    Map: partition whole; direction forward; rows the sure ones; logits within and across two views

    Example:
        >>> import torch, fractionate as fr
        >>> views = [fr.Logits(torch.randn(2, 5), torch.randn(2, 5), torch.tensor([0, 1])) for _ in range(2)]
        >>> lg = fr.Logits(views[0].student, views[0].teacher, views[0].target, strong=views[1])
        >>> list(fr.methods.crld().components(lg))
        ['task', 'within_view', 'cross_view']
    """
    check_positive("crld", temperature=temperature)
    check_not_negative("crld", wv_weight=wv_weight, cv_weight=cv_weight, tau_weak=tau_weak, tau_strong=tau_strong)
    inner = InnerWeights(alpha, beta)
    inner.check("crld")

    def build(loss: Inner, twin: Method | None) -> Method:
        outer, decoupled = {"within": wv_weight, "cross": cv_weight}, isinstance(loss, Decoupled)
        weights: Weights = {
            _name(o, i): (a * b, role) for i, (b, role) in inner.weights(decoupled).items() for o, a in outer.items()
        }
        terms = CrossView(temperature, (tau_weak, tau_strong), loss)
        return distillation("crld", terms, weights, task_views=2, needs_labels=decoupled, twin=twin, **common)

    return build(Decoupled(constant=True) if inner.dkd else KdRows(), build(Decoupled(constant=inner.dkd), None))


@dataclass(frozen=True, eq=False)
class CrossView:
    """CRLD's terms: the inner loss of the four pairs of views, masked by the teacher's confidence."""

    temperature: float
    thresholds: tuple[float, float]
    inner: Inner
    fractions: bool = False

    def at(self, temperature: float | Tensor) -> Terms:
        """Refused."""
        raise ValueError(NO_TEMPERATURE)

    def on(self, change: RowMap) -> Terms:
        """The terms of changed rows."""
        return OnRows(self, change)

    def masked(self, mask: Mask) -> Terms:
        """The same with masked non-targets."""
        return replace(self, inner=self.inner.masked(mask), fractions=mask.form == "batch_means")

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """Rows of the terms within a view and across the views."""
        assert lg.strong is not None  # check_rows refused rows without it
        weak, strong = lg, lg.strong
        masks = [self._mask(view, t, lg.weight) for view, t in zip((weak, strong), self.thresholds, strict=True)]
        # Either teacher ranks its classes once and serves both students.
        by_weak, by_strong = (self.inner(replace(view, weight=lg.weight), progress) for view in (weak, strong))
        pairs = {"within": (weak, strong), "cross": (strong, weak)}
        rows: Components = {}
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


@preset
def swap(method: Method) -> Method:
    """Swapped teacher: where the teacher's best class is not the label, the two logits are exchanged.

    z^T_y <-> z^T_argmax in the distillation terms of any method

    The swapped teacher also ranks the classes, so that the label comes first in every partition.

    Args:
        method: any method; with two views, the teacher is swapped on both, with regions on all of them.

    Returns:
        Method with the components, weights and streams of ``method``; it needs hard labels.

    Source: arXiv 2504.20108 (the transform alone; the published loss is sld).

    Map: logits the teacher's swapped

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([[3.0, 0.0, 1.0]]), torch.tensor([2]))
        >>> fr.methods.swap(fr.methods.kd()).components(lg)["kd"]
        tensor([0.])
    """
    return mapped(
        method, EveryView(_swapped), lambda inner: replace(inner, name=f"{inner.name}+swap", needs_labels=True)
    )


@with_common()
def sld(
    *,
    temperatures: Sequence[float] = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
    start_epoch: int = 150,
    detach: bool = True,
    views: Literal[1, 2] = 2,
    kd_weight: float = 1.0,
    **common: Unpack[Common],
) -> Method:
    """Swapped logit distillation: KD to the swapped teacher and, late in training, to the swapped student itself.

    L = sum over both views of ce_weight CE + kd_weight W(e) sum over T of [ KD_T(z^S, swap(z^T)) + 1(e > start_epoch)
    KD_T(z^S, swap(z^S)) ]

    Args:
        temperatures: the temperatures T that are summed over.
        start_epoch: the student's own term begins after this epoch; a run that would end before is cut to its share
            of 240 epochs, as a warm-up is.
        detach: take the swapped student as a fixed target; ``False`` lets gradients through it, as published.
        views: 2 (weak and strong, as published) or 1.
        ce_weight: weight of the cross-entropy of each view.
        kd_weight: weight of ``kd`` and ``self_kd``.
        warmup, label_smoothing, hard: as in :func:`dkd`.

    Returns:
        Method with components ``task``, ``kd`` (swapped teacher), ``self_kd`` (swapped student).

    Raises:
        ValueError: soft labels, no second view, an argument out of range.

    Source: arXiv 2504.20108; weights .1 and .9 on CIFAR-100, .5 and .5 on ImageNet.

    Map: partition whole; direction forward; logits swapped, two views, six temperatures

    Example:
        >>> import torch, fractionate as fr
        >>> lg = fr.Logits(torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([[3.0, 0.0, 1.0]]), torch.tensor([2]))
        >>> m = fr.methods.sld(views=1)
        >>> [float(m.components(lg)[name]) for name in ("kd", "self_kd")]
        [0.0, 0.0]
    """
    _check(temperatures, start_epoch, views, kd_weight)
    terms = partial(_swapped_kd, temperatures=tuple(temperatures), start_epoch=start_epoch, detach=detach, views=views)
    weights: Weights = {"kd": (kd_weight, None), "self_kd": (kd_weight, None)}
    return distillation("sld", terms, weights, task_views=views, needs_labels=True, **common)


def _swapped(lg: Logits) -> Logits:
    """The same rows with every teacher swapped, and ranked by it."""
    labels = lg.labels
    return replace(
        lg,
        teacher=swap_target(lg.teacher, labels),
        ranking=swap_target(lg.rank_by, labels),
        teachers=tuple(swap_target(t, labels) for t in lg.teachers),
    )


def _sum(rows: list[Tensor]) -> Tensor:
    return sum(rows[1:], rows[0])


def _check(temperatures: Sequence[float], start_epoch: int, views: int, kd_weight: float) -> None:
    if not temperatures:
        raise ValueError("sld: name at least one temperature")
    for value in temperatures:
        check_positive("sld", temperatures=value)
    check_count("sld", "start_epoch", start_epoch, 0)
    choose("sld option 'views'", str(views), ("1", "2"))
    check_not_negative("sld", kd_weight=kd_weight)


def _swapped_kd(
    lg: Logits, progress: Progress, temperatures: tuple[float, ...], start_epoch: int, detach: bool, views: int
) -> Components:
    late = progress.epoch >= fitted(start_epoch + 1, progress)
    kd, own = _of_view(lg, temperatures, late, detach)
    if views == 2 and lg.strong is not None:
        strong = _of_view(lg.strong, temperatures, late, detach)
        kd, own = kd + strong[0], own + strong[1]
    return {"kd": kd, "self_kd": own}


def _of_view(lg: Logits, temperatures: tuple[float, ...], late: bool, detach: bool) -> tuple[Tensor, Tensor]:
    aim = swap_target(lg.teacher, lg.labels)
    kd = _sum([kl_rows(lg.student, aim, t) for t in temperatures])
    if not late:
        return kd, 0 * kd
    own = swap_target(lg.student, lg.labels)
    own = own.detach() if detach else own
    return kd, _sum([kl_rows(lg.student, own, t) for t in temperatures])
