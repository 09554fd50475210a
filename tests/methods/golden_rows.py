"""How each golden method name is written with the public API: a table from name to a function.

A row takes the case's hyper-parameters and inputs, makes the `Method` call, and returns ``total``,
every term, and any further output by its golden name. The golden totals hold no cross-entropy
unless a term says so, hence ``ce_weight=0`` in most rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Method, Progress

Hyper = Mapping[str, Any]
Inputs = Mapping[str, Tensor]
Row = Callable[[Hyper, Inputs], dict[str, Tensor]]
Names = Mapping[str, str]  # golden term -> component


def one_view(x: Inputs) -> Logits:
    return Logits(x["student"], x["teacher"], x["target"])


def unweighted(method: Method, names: Names, lg: Logits, at: Progress) -> dict[str, Tensor]:
    """Terms are plain means of components; the total carries weights and warm-up."""
    rows = method.components(lg, at)
    terms = {golden: rows[component].mean() for golden, component in names.items()}
    return {**terms, "total": method.loss(lg, at)}


def weighted(method: Method, names: Names, lg: Logits, at: Progress) -> dict[str, Tensor]:
    """Terms carry weights and warm-up: those of the streams, kept apart."""
    losses = method.stream_losses(lg, at, merge=False)
    terms = {golden: losses[stream] for golden, stream in names.items()}
    return {**terms, "total": method.loss(lg, at)}


TCKD_NCKD = {"tckd": "target", "nckd": "nontarget"}
HIGH_TOP_OTHER = {"high": "between", "top": "top", "other": "other"}
STREAMS = {"loss_task": "task", "loss_tckd": "target", "loss_nckd": "nontarget"}


def _kd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.kd(temperature=h["temperature"], ce_weight=0.0, kd_weight=1.0)
    return unweighted(method, {}, one_view(x), Progress())


def _dkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.dkd(alpha=h["alpha"], beta=h["beta"], temperature=h["temperature"], warmup=1, ce_weight=0.0)
    return unweighted(method, TCKD_NCKD, one_view(x), Progress())


def _dkd_mod(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    form = {"top1": fr.methods.dkd_top1, "target": fr.methods.dkd}[h["strategy"]]
    method = form(
        alpha=h["alpha"],
        beta=h["beta"],
        temperature=h["temperature"],
        kl=h["kl_type"],
        warmup=1,
        ce_weight=0.0,
    )
    return unweighted(method, TCKD_NCKD, one_view(x), Progress())


def _gdkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.gdkd(
        k=h["k"],
        w0=h["w0"],
        w1=h["w1"],
        w2=h["w2"],
        temperature=h["temperature"],
        kl=h["kl_type"],
        largest=h["strategy"] == "best",
        warmup=1,
        ce_weight=0.0,
    )
    return unweighted(method, HIGH_TOP_OTHER, one_view(x), Progress())


def _gdkd3(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.gdkd3(
        k=h["k"],
        w0=h["w0"],
        w1=h["w1"],
        w2=h["w2"],
        temperature=h["temperature"],
        warmup=1,
        ce_weight=0.0,
    )
    return unweighted(method, HIGH_TOP_OTHER, one_view(x), Progress())


def _deepkd_base(h: Hyper, ce_weight: float) -> Method:
    """What the published plug-in is put over: DKD, or KD, whose weight it ignores."""
    if not h["DKD"]:
        return fr.methods.kd(temperature=h["temperature"], ce_weight=ce_weight, kd_weight=1.0)
    base = fr.methods.dkd(
        alpha=h["alpha"],
        beta=h["beta"],
        temperature=h["temperature"],
        warmup=h["warmup"],
        ce_weight=ce_weight,
    )
    if h.get("logit_stand"):
        return fr.methods.lskd(base, temperature=None, weight=1.0)
    return base


def _deepkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.deepkd(_deepkd_base(h, 0.0), rule="published-code", keep=h["topk"])
    return weighted(method, TCKD_NCKD, one_view(x), Progress(epoch=h["epoch"]))


def _deepkd_trainer(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    base = _deepkd_base(h, h["ce_weight"])
    method = fr.methods.deepkd(base, rule="published-code", keep=h["topk"])
    return weighted(method, STREAMS, one_view(x), Progress(epoch=h["epoch"]))


def _kd_deepkd_trainer(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    """As published, kd_weight has no effect: the package says so when it was set."""
    base = _deepkd_base(h, h["ce_weight"]).with_args(kd_weight=h["kd_weight"])
    with pytest.warns(UserWarning, match="kd_weight set to 1"):
        method = fr.methods.deepkd(base, rule="published-code", keep=h["topk"])
    return weighted(method, STREAMS, one_view(x), Progress(epoch=h["epoch"]))


ROWS: dict[str, Row] = {
    "KD": _kd,
    "DKD": _dkd,
    "DKDMod": _dkd_mod,
    "GDKD": _gdkd,
    "GDKD3": _gdkd3,
    "DeepKD": _deepkd,
    "KD-DeepKD": _kd_deepkd_trainer,
    "DKD-DeepKD": _deepkd_trainer,
}
