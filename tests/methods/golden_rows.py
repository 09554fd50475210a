"""How each golden method name is written with the public API: a table from name to a function.

A row takes the case's hyper-parameters and inputs, makes the `Method` call, and returns ``total``, every term, and any
further output by its golden name. The golden totals hold no cross-entropy unless a term says so, hence
``ce_weight=0`` in most rows.
"""

from __future__ import annotations

import pytest
from torch import Tensor

import fractionate as fr
from fractionate import Method, Progress
from tests.methods.golden_others import OTHERS
from tests.methods.golden_parts import (
    HIGH_TOP_OTHER,
    TCKD_NCKD,
    Hyper,
    Inputs,
    Row,
    one_view,
    standardized,
    streamed,
    unweighted,
)
from tests.methods.golden_two_views import TWO_VIEWS

STREAMS = {"loss_task": "task", "loss_tckd": "target", "loss_nckd": "nontarget"}


def _kd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.kd(temperature=h["temperature"], ce_weight=0.0, kd_weight=1.0)
    return unweighted(standardized(method, h), {}, one_view(x), Progress())


def _dkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.dkd(alpha=h["alpha"], beta=h["beta"], temperature=h["temperature"], warmup=1, ce_weight=0.0)
    return unweighted(standardized(method, h), TCKD_NCKD, one_view(x), Progress())


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


def _gdkd_autow(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    """The golden terms of this method hold ``high`` only."""
    method = fr.methods.gdkd_auto_weight(
        version=h["mode"],
        k=h["k"],
        m1=h["m1"],
        m2=h["m2"],
        w1=h["w1"],
        w2=h["w2"],
        temperature=h["temperature"],
        warmup=1,
        ce_weight=0.0,
    )
    return unweighted(method, HIGH_TOP_OTHER, one_view(x), Progress())


def _ls_gdkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    assert h["strategy"] == "best"
    method = fr.methods.ls_gdkd(
        mode=h["norm_mode"],
        k=h["k"],
        w0=h["w0"],
        w1=h["w1"],
        w2=h["w2"],
        temperature=h["temperature"],
        kl=h["kl_type"],
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
    return standardized(base, h)


def _deepkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.deepkd(_deepkd_base(h, 0.0), rule="published-code", keep=h["topk"])
    return streamed(method, TCKD_NCKD, one_view(x), Progress(epoch=h["epoch"]))


def _deepkd_trainer(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    base = _deepkd_base(h, h["ce_weight"])
    method = fr.methods.deepkd(base, rule="published-code", keep=h["topk"])
    return streamed(method, STREAMS, one_view(x), Progress(epoch=h["epoch"]))


def _kd_deepkd_trainer(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    """As published, kd_weight has no effect: the package says so when it was set."""
    base = _deepkd_base(h, h["ce_weight"]).with_args(kd_weight=h["kd_weight"])
    with pytest.warns(UserWarning, match="kd_weight set to 1"):
        method = fr.methods.deepkd(base, rule="published-code", keep=h["topk"])
    return streamed(method, STREAMS, one_view(x), Progress(epoch=h["epoch"]))


ROWS: dict[str, Row] = {
    **OTHERS,
    **TWO_VIEWS,
    "KD": _kd,
    "LSKD": _kd,
    "DKD": _dkd,
    "LSDKD": _dkd,
    "DKDMod": _dkd_mod,
    "GDKD": _gdkd,
    "GDKD3": _gdkd3,
    "GDKDAutoW": _gdkd_autow,
    "LS_GDKD": _ls_gdkd,
    "DeepKD": _deepkd,
    "KD-DeepKD": _kd_deepkd_trainer,
    "DKD-DeepKD": _deepkd_trainer,
}
