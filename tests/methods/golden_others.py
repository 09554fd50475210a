"""Rows of the golden methods outside the KD and DKD families."""

from __future__ import annotations

import pytest
from torch import Tensor

import fractionate as fr
from fractionate import Progress
from fractionate.losses.relations import batch_relation, class_relation
from fractionate.losses.transforms import swap_target
from tests.methods.golden_parts import TCKD_NCKD, Hyper, Inputs, Row, one_view, standardized, unweighted


def _dgkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    """The published M is mean(G) / (n^2 C): epsilon, or the floor of the normalised form, is converted."""
    n, c = x["student"].shape
    scale = n**2 * c
    common = {"alpha": h["alpha"], "beta": h["beta"], "temperature": h["temperature"], "warmup": 1, "ce_weight": 0.0}
    if h["version"] == "2025-06":
        method = fr.methods.dgkd(epsilon=h["epsilon"] / scale, **common)
        terms = unweighted(method, {**TCKD_NCKD, "coupling_mse": "coupling"}, one_view(x), Progress())
        return {**terms, "coupling_mse": terms["coupling_mse"] / scale}
    with pytest.warns(UserWarning, match="normalize='batch'"):
        method = fr.methods.dgkd(epsilon=h["epsilon"], normalize="batch", floor=1e-8 * scale, **common)
    return unweighted(method, {**TCKD_NCKD, "normalised_coupling": "coupling"}, one_view(x), Progress())


def _nkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.nkd(gamma=h["gamma"], temperature=h["temperature"], ce_weight=0.0)
    return unweighted(method, {"target": "target", "nontarget": "nontarget"}, one_view(x), Progress())


def _ttm(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    return unweighted(fr.methods.ttm(l=h["l"], weight=1.0, ce_weight=0.0), {}, one_view(x), Progress())


def _wttm(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    return unweighted(fr.methods.wttm(l=h["l"], weight=1.0, ce_weight=0.0), {}, one_view(x), Progress())


def _ofa(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.ofa(gamma=h["eps"], temperature=h["temperature"], ce_weight=0.0)
    return unweighted(method, {}, one_view(x), Progress())


def _dist(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.dist(beta=h["beta"], gamma=h["gamma"], temperature=h["temperature"], ce_weight=0.0)
    return unweighted(method, {"inter": "inter", "intra": "intra"}, one_view(x), Progress())


def _rld(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.rld(
        alpha=h["alpha"],
        beta=h["beta"],
        temperature=h["temperature"],
        alpha_temperature=h["alpha_temperature"],
        warmup=1,
        ce_weight=0.0,
    )
    return unweighted(standardized(method, h), {"scd": "target", "mcd": "nontarget"}, one_view(x), Progress())


# lambda(e) of the cosine ramp: the epoch and the length that give the golden factor.
REVERSAL = {-0.5: (5, 10), -1.0: (10, 10), -0.25: (4, 12)}


def _ctkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    inner = {
        "kd": fr.methods.kd(kd_weight=1.0, ce_weight=0.0),
        "dkd": fr.methods.dkd(alpha=h.get("alpha", 1.0), beta=h.get("beta", 1.0), warmup=1, ce_weight=0.0),
    }[h["inner"]]
    epoch, ramp_epochs = REVERSAL[h["gradient_weight"]]
    method = fr.methods.ctkd(inner, t_start=h["t_start"], t_end=h["t_end"], ramp_epochs=ramp_epochs)
    module = method.module.double()
    module.theta.data.fill_(h["parameter"])
    total = method.loss(one_view(x), Progress(epoch=epoch))
    total.backward(retain_graph=True)
    return {"total": total, "temperature": module().reshape(1), "grad_parameter": module.theta.grad.reshape(1)}


def _sld_single(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.sld(
        temperatures=[h["temperature"]],
        start_epoch=h["start_epoch"],
        detach=h["student_target_detached"],
        views=1,
        ce_weight=0.0,
    )
    terms = unweighted(method, {}, one_view(x), Progress(epoch=h["epoch"]))
    return {**terms, "swapped_teacher": swap_target(x["teacher"], x["target"])}


def _mlkd_kd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    """MLKD's KL part on one view: KD summed over the temperatures."""
    base = fr.methods.kd(kd_weight=1.0, ce_weight=0.0)
    parts = {f"T{t:g}": base.with_args(temperature=t).loss(one_view(x)) for t in h["temperatures"]}
    return {**parts, "total": sum(parts.values())}


def _mlkd_cc(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    parts = {f"T{t:g}": class_relation(x["student"], x["teacher"], t) for t in h["temperatures"]}
    return {**parts, "total": sum(parts.values())}


def _mlkd_bc(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    parts = {f"T{t:g}": batch_relation(x["student"], x["teacher"], t).mean() for t in h["temperatures"]}
    return {**parts, "total": sum(parts.values())}


OTHERS: dict[str, Row] = {
    "DGKD": _dgkd,
    "NKD": _nkd,
    "TTM": _ttm,
    "WTTM": _wttm,
    "OFA": _ofa,
    "DIST": _dist,
    "RLD": _rld,
    "CTKD": _ctkd,
    "SLD-single": _sld_single,
    "MLKD-kd": _mlkd_kd,
    "MLKD-cc": _mlkd_cc,
    "MLKD-bc": _mlkd_bc,
}
