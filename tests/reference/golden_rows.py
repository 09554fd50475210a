"""How each golden method name is computed with the twins: a table from name to a function of the
case.

A row takes the case's hyper-parameters and inputs and returns ``total``, every term, and any
further output by its golden name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from . import deepkd, dgkd, dist, dkd, gdkd, lskd, mlkd, nkd, rld
from .basics import cross_entropy, kd, warmup
from .golden_two_views import TWO_VIEWS, Hyper, Inputs, Row


def _logits(h: Hyper, x: Inputs) -> tuple[Tensor, Tensor]:
    """Student and teacher, standardised where the case asks for it."""
    pair = x["student"], x["teacher"]
    return tuple(map(lskd.standardize, pair)) if h.get("logit_stand") else pair


def _kd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    s, t = _logits(h, x)
    return {"total": kd(s, t, h["temperature"]).mean()}


def _tckd_nckd(terms: Mapping[str, Tensor], alpha: float, beta: float) -> dict[str, Tensor]:
    tckd, nckd = terms["target"].mean(), terms["nontarget"].mean()
    return {"tckd": tckd, "nckd": nckd, "total": alpha * tckd + beta * nckd}


def _dkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    s, t = _logits(h, x)
    terms = dkd.dkd(s, t, x["target"], temperature=h["temperature"])
    return _tckd_nckd(terms, h["alpha"], h["beta"])


def _dkd_mod(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    options = {"temperature": h["temperature"], "direction": h["kl_type"]}
    if h["strategy"] == "top1":
        terms = dkd.dkd_top1(x["student"], x["teacher"], **options)
    else:
        terms = dkd.dkd(x["student"], x["teacher"], x["target"], **options)
    return _tckd_nckd(terms, h["alpha"], h["beta"])


def _high_top_other(terms: Mapping[str, Tensor], h: Hyper) -> dict[str, Tensor]:
    high, top, other = (terms[name].mean() for name in ("between", "top", "other"))
    total = h["w0"] * high + h["w1"] * top + h["w2"] * other
    return {"high": high, "top": top, "other": other, "total": total}


def _gdkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    terms = gdkd.gdkd(
        x["student"],
        x["teacher"],
        k=h["k"],
        temperature=h["temperature"],
        direction=h["kl_type"],
        largest=h["strategy"] == "best",
    )
    return _high_top_other(terms, h)


def _gdkd3(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    terms = gdkd.gdkd3(x["student"], x["teacher"], k=h["k"], temperature=h["temperature"])
    return _high_top_other(terms, h)


def _gdkd_autow(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    terms = gdkd.gdkd_autow(x["student"], x["teacher"], mode=h["mode"], k=h["k"], temperature=h["temperature"])
    top = {"v1": "m1", "v2": "w1", "v3": "m1"}[h["mode"]]
    other = {"v1": "m2", "v2": "m2", "v3": "w2"}[h["mode"]]
    return _high_top_other(terms, {"w0": 1.0, "w1": h[top], "w2": h[other]})


def _ls_gdkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    terms = gdkd.ls_gdkd(x["student"], x["teacher"], mode=h["norm_mode"], k=h["k"], temperature=h["temperature"])
    return _high_top_other(terms, h)


def _deepkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    """Weights and warm-up are inside the terms."""
    s, t = _logits(h, x)
    options = {"temperature": h["temperature"], "keep": h["topk"]}
    if h["DKD"]:
        w = warmup(h["epoch"], h["warmup"])
        terms = deepkd.components(s, t, x["target"], **options)
        alpha, beta = w * h["alpha"], w * h["beta"]
    else:
        terms = deepkd.kd_mode(s, t, x["target"], form="batch_means", **options)
        alpha = beta = 1.0
    tckd, nckd = alpha * terms["target"].mean(), beta * terms["nontarget"].mean()
    return {"tckd": tckd, "nckd": nckd, "total": tckd + nckd}


def _deepkd_trainer(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    terms = _deepkd(h, x)
    task = h["ce_weight"] * cross_entropy(x["student"], x["target"]).mean()
    return {
        "loss_task": task,
        "loss_tckd": terms["tckd"],
        "loss_nckd": terms["nckd"],
        "total": task + terms["total"],
    }


def _dgkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    """Published scale: M = mean over n C entries with batch-mean losses = mean(G) / (n^2 C)."""
    s, t = x["student"], x["teacher"]
    n, c = s.shape
    terms = dgkd.dgkd(s, t, x["target"], temperature=h["temperature"])
    result = _tckd_nckd(terms, h["alpha"], h["beta"])
    mse = terms["coupling"].mean() / (n**2 * c)
    if h["version"] == "2026-04":
        name, value = "normalised_coupling", dgkd.normalized(mse)
    else:
        name, value = "coupling_mse", mse
    return {**result, name: value, "total": result["total"] - h["epsilon"] * value}


def _nkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    terms = nkd.nkd(x["student"], x["teacher"], x["target"], temperature=h["temperature"])
    target, nontarget = terms["target"].mean(), terms["nontarget"].mean()
    return {"target": target, "nontarget": nontarget, "total": target + h["gamma"] * nontarget}


def _ttm(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    return {"total": nkd.ttm(x["student"], x["teacher"], power=h["l"]).mean()}


def _wttm(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    return {"total": nkd.wttm(x["student"], x["teacher"], power=h["l"]).mean()}


def _ofa(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    rows = nkd.ofa(x["student"], x["teacher"], x["target"], gamma=h["eps"], temperature=h["temperature"])
    return {"total": rows.mean()}


def _dist(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    terms = dist.dist(x["student"], x["teacher"], temperature=h["temperature"])
    inter, intra = terms["inter"].mean(), terms["intra"]
    return {"inter": inter, "intra": intra, "total": h["beta"] * inter + h["gamma"] * intra}


def _rld(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    s, t = _logits(h, x)
    terms = rld.rld(
        s,
        t,
        x["target"],
        temperature=h["temperature"],
        alpha_temperature=h["alpha_temperature"],
    )
    scd, mcd = terms["scd"].mean(), terms["mcd"].mean()
    return {"scd": scd, "mcd": mcd, "total": h["alpha"] * scd + h["beta"] * mcd}


def _ctkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    parameter = torch.tensor([h["parameter"]], dtype=torch.float64, requires_grad=True)
    temperature = lskd.ctkd_temperature(parameter, start=h["t_start"], end=h["t_end"])
    if h["inner"] == "kd":
        total = kd(x["student"], x["teacher"], temperature).mean()
    else:
        terms = dkd.dkd(x["student"], x["teacher"], x["target"], temperature=temperature)
        total = h["alpha"] * terms["target"].mean() + h["beta"] * terms["nontarget"].mean()
    grad = lskd.ctkd_parameter_gradient(total, parameter, h["gradient_weight"])
    return {"total": total, "temperature": temperature, "grad_parameter": grad}


def _sld_single(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    rows = rld.sld(
        x["student"],
        x["teacher"],
        x["target"],
        temperatures=[h["temperature"]],
        with_student=h["epoch"] > h["start_epoch"],
        detach=h["student_target_detached"],
    )
    return {"total": rows.mean(), "swapped_teacher": rld.swap(x["teacher"], x["target"])}


def _mlkd_part(part: Callable[[Tensor, Tensor, float], Tensor]) -> Row:
    def row(h: Hyper, x: Inputs) -> dict[str, Tensor]:
        parts = {f"T{t:g}": part(x["student"], x["teacher"], t) for t in h["temperatures"]}
        return {**parts, "total": sum(parts.values())}

    return row


ROWS: dict[str, Row] = {
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
    "KD-DeepKD": _deepkd_trainer,
    "DKD-DeepKD": _deepkd_trainer,
    "DGKD": _dgkd,
    "NKD": _nkd,
    "TTM": _ttm,
    "WTTM": _wttm,
    "OFA": _ofa,
    "DIST": _dist,
    "RLD": _rld,
    "CTKD": _ctkd,
    "SLD-single": _sld_single,
    "MLKD-kd": _mlkd_part(lambda s, t, T: kd(s, t, T).mean()),
    "MLKD-cc": _mlkd_part(mlkd.class_correlation),
    "MLKD-bc": _mlkd_part(mlkd.batch_correlation),
}
