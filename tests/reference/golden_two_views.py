"""The rows of the golden methods that look at two views of every image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from . import deepkd, lskd, mlkd, rld
from .basics import kd, warmup

Hyper = Mapping[str, Any]
Inputs = Mapping[str, Tensor]
Row = Callable[[Hyper, Inputs], dict[str, Tensor]]


def _views(h: Hyper, x: Inputs) -> mlkd.Views:
    names = ("student_weak", "student_strong", "teacher_weak", "teacher_strong")
    raw = [x[name] for name in names]
    return mlkd.Views(*(map(lskd.standardize, raw) if h.get("logit_stand") else raw))


def _sld_full(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    v = _views(h, x)
    terms = rld.sld_two_views(
        [(v.student_weak, v.teacher_weak), (v.student_strong, v.teacher_strong)],
        x["target"],
        with_student=h["epoch"] > h["start_epoch"],
        detach=False,
    )
    ce, kd_ = h["ce_weight"] * terms["task"].mean(), h["kd_weight"] * terms["kd"].mean()
    return {"loss_ce": ce, "loss_kd": kd_, "total": ce + kd_}


def _mlkd_full(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    raw = _views({}, x)
    terms = mlkd.mlkd_published(_views(h, x), h["temperatures"], raw)
    ce = h["ce_weight"] * mlkd.both_views_cross_entropy(raw, x["target"]).mean()
    weighted = {f"loss_{name}": h["kd_weight"] * value for name, value in terms.items()}
    return {"loss_ce": ce, **weighted, "total": ce + sum(weighted.values())}


def _mlkd_deepkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    """Correlation terms join the task; strong terms read strong logits at all five temperatures."""
    v, y, w = _views(h, x), x["target"], warmup(h["epoch"], h["warmup"])
    rows = mlkd.unsure_rows(v.teacher_weak).double().mean()
    classes = mlkd.unsure_classes(v.teacher_weak).double().mean()
    tckd = nckd = cc = bc = v.student_weak.sum() * 0
    for t in h["temperatures"]:
        weak = deepkd.components(v.student_weak, v.teacher_weak, y, temperature=t)
        strong = deepkd.components(v.student_strong, v.teacher_strong, y, temperature=t)
        tckd = tckd + w * h["alpha"] * (rows * weak["target"] + strong["target"]).mean()
        nckd = nckd + w * h["beta"] * (rows * weak["nontarget"] + strong["nontarget"]).mean()
        cc = cc + classes * mlkd.class_correlation(v.student_weak, v.teacher_weak, t)
        bc = bc + rows * mlkd.batch_correlation(v.student_weak, v.teacher_weak, t)
    ce = h["ce_weight"] * mlkd.both_views_cross_entropy(v, y).mean() + h["kd_weight"] * (cc + bc)
    tckd, nckd = h["kd_weight"] * tckd, h["kd_weight"] * nckd
    return {"loss_ce": ce, "loss_tckd": tckd, "loss_nckd": nckd, "total": ce + tckd + nckd}


def _crld_sum(h: Hyper, v: mlkd.Views, inner: mlkd.Inner, *, published: bool) -> Tensor:
    terms = mlkd.crld(v, inner=inner, tau_weak=h["tau_w"], tau_strong=h["tau_s"], published=published)
    within, across = terms["within_view"].mean(), terms["cross_view"].mean()
    return h["wv_weight"] * within + h["cv_weight"] * across


def _crld(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    v = _views(h, x)
    ce = h["ce_weight"] * mlkd.both_views_cross_entropy(v, x["target"]).mean()
    total = _crld_sum(h, v, lambda s, t: kd(s, t, h["temperature"]), published=False)
    return {"loss_ce": ce, "loss_kd": total, "total": ce + total}


def _crld_deepkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    v, w = _views(h, x), warmup(h["epoch"], h["warmup"])

    def inner(name: str, weight: float) -> mlkd.Inner:
        def rows(s: Tensor, t: Tensor) -> Tensor:
            terms = deepkd.components(s, t, x["target"], temperature=h["temperature"], keep=h["topk"])
            return w * weight * terms[name]

        return rows

    ce = h["ce_weight"] * mlkd.both_views_cross_entropy(v, x["target"]).mean()
    tckd = _crld_sum(h, v, inner("target", h["alpha"]), published=True)
    nckd = _crld_sum(h, v, inner("nontarget", h["beta"]), published=True)
    return {"loss_ce": ce, "loss_tckd": tckd, "loss_nckd": nckd, "total": ce + tckd + nckd}


TWO_VIEWS: dict[str, Row] = {
    "SLD-full": _sld_full,
    "MLKD-full": _mlkd_full,
    "MLKD-DeepKD": _mlkd_deepkd,
    "CRLD": _crld,
    "CRLD-DeepKD": _crld_deepkd,
}
