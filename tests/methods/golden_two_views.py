"""Rows of the golden methods that look at two views of every image."""

from __future__ import annotations

from torch import Tensor

import fractionate as fr
from fractionate import Progress
from tests.methods.golden_parts import Hyper, Inputs, Row, standardized, streamed, two_views, weighted

STREAMS = {"loss_ce": "task", "loss_tckd": "target", "loss_nckd": "nontarget"}


def _sld_full(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    """As published, the swapped student is not detached."""
    method = fr.methods.sld(
        temperatures=h["temperatures"],
        start_epoch=h["start_epoch"],
        ce_weight=h["ce_weight"],
        kd_weight=h["kd_weight"],
        detach=False,
    )
    names = {"loss_ce": ("task",), "loss_kd": ("kd", "self_kd")}
    return weighted(method, names, two_views(x), Progress(epoch=h["epoch"]))


def _mlkd_full(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.mlkd(
        temperature=h["temperature"], form="published-code", ce_weight=h["ce_weight"], kd_weight=h["kd_weight"]
    )
    names = {
        "loss_ce": ("task",),
        "loss_kd": ("kd",),
        "loss_cc": ("class_correlation",),
        "loss_bc": ("batch_correlation",),
    }
    return weighted(standardized(method, h), names, two_views(x), Progress())


def _mlkd_deepkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    base = fr.methods.mlkd(
        temperature=h["temperature"],
        alpha=h["alpha"],
        beta=h["beta"],
        ce_weight=h["ce_weight"],
        kd_weight=h["kd_weight"],
        warmup=h["warmup"],
    )
    method = fr.methods.deepkd(base, rule="published-code")
    return streamed(method, STREAMS, two_views(x), Progress(epoch=h["epoch"]))


def _crld_arguments(h: Hyper) -> dict[str, float]:
    return {
        "wv_weight": h["wv_weight"],
        "cv_weight": h["cv_weight"],
        "temperature": h["temperature"],
        "tau_weak": h["tau_w"],
        "tau_strong": h["tau_s"],
        "ce_weight": h["ce_weight"],
    }


def _crld(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.crld(**_crld_arguments(h))
    names = {"loss_ce": ("task",), "loss_kd": ("within_view", "cross_view")}
    return weighted(method, names, two_views(x), Progress())


def _crld_deepkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    base = fr.methods.crld(alpha=h["alpha"], beta=h["beta"], warmup=h["warmup"], **_crld_arguments(h))
    method = fr.methods.deepkd(base, rule="published-code", keep=h["topk"])
    return streamed(method, STREAMS, two_views(x), Progress(epoch=h["epoch"]))


TWO_VIEWS: dict[str, Row] = {
    "SLD-full": _sld_full,
    "MLKD-full": _mlkd_full,
    "MLKD-DeepKD": _mlkd_deepkd,
    "CRLD": _crld,
    "CRLD-DeepKD": _crld_deepkd,
}
