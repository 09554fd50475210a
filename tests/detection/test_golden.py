"""Every golden case of regions and box sides twice: by the formulas, and through the public interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import fractionate as fr
from tests import golden
from tests.reference import detection

CASES = golden.cases("losses", folder="detection")
NONFINITE = golden.cases("losses", folder="detection", check="official-nonfinite")
ENDS = 4 + torch.finfo(torch.float32).eps  # sides by which the published code divides
Hyper = dict[str, Any]
Inputs = dict[str, Tensor]
NAMES = {
    "dkd": {"target": "tckd", "nontarget": "nckd"},
    "gdkd": {"between": "high", "top": "top", "other": "other"},
    "gdkd3": {"between": "high", "other": "other"},
}


def method(kind: str, h: Hyper) -> fr.Method:
    """The method of a case with its settings, without a cross-entropy."""
    given = {"temperature": h["temperature"], "ce_weight": 0.0}
    if kind == "kd":
        return fr.methods.kd(kd_weight=1.0, **given)
    if kind == "dkd":
        return fr.methods.dkd(alpha=h["alpha"], beta=h["beta"], **given)
    if kind == "dist":
        return fr.methods.dist(beta=h["beta"], gamma=h.get("gamma", 0.0), **given)
    weights = {name: h[name] for name in ("k", "w0", "w1", "w2")}
    return (fr.methods.gdkd3 if kind == "gdkd3" else fr.methods.gdkd)(**weights, **given)


def terms(kind: str, h: Hyper, lg: fr.Logits, factor: float = 1.0) -> dict[str, Tensor]:
    """Means of the components by their golden names, and their weighted sum; all times a factor."""
    m = method(kind, h)
    found = {k: fr.rows.weighted_mean(x, lg.weight) for k, x in m.components(lg).items() if k != "task"}
    total = sum(m.parts[k].weight(fr.Progress.end()) * x for k, x in found.items())
    named = {NAMES.get(kind, {}).get(k): x for k, x in found.items()}
    return {name: factor * x for name, x in {**named, "total": total}.items() if name}


def regions(h: Hyper, x: Inputs) -> fr.Logits:
    return fr.rows.rois(
        x["student"], x["teacher"], x["target"], foreground_only=h["keep"] == "foreground", background=h["background"]
    )


def both(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    """GDKDS: a method for each side, each averaged over its own regions; a side without any is 0."""
    lg = fr.rows.rois(x["student"], x["teacher"], x["target"])
    by = lg.target if h["bg_src"] == "target" else lg.teacher.argmax(1)
    objects = {"k": 2, "w0": h["w0"], "w1": 0.0, "w2": h["w1"], "temperature": h["temperature"]}
    rest: Hyper = {"alpha": h["w2"], "beta": h["w3"], "temperature": h["temperature"]}
    kind = "dkd" if h["bg_distill_type"] == "dkd" else "gdkd"
    rest |= {"k": 1, "w0": h["w2"], "w1": 0.0, "w2": h["w3"]}
    found = {
        "foreground": terms("gdkd3", objects, lg[by != h["background"]])["total"],
        "background": terms(kind, rest, lg[by == h["background"]])["total"],
    }
    return {**found, "total": found["foreground"] + found["background"]}


def side_rows(kind: str, h: Hyper, x: Inputs) -> dict[str, Tensor]:
    """Cases whose inputs are sides already: as four of one anchor each, which changes nothing about a row."""
    labels = x["target"].view(-1, 4).double() if "target" in x else None
    anchors = [x[role].reshape(len(x[role]) // 4, -1) for role in ("student", "teacher")]
    lg = replace(fr.rows.sides(*anchors, labels), weight=x.get("weight"))
    once = h["loss_weight"] / (lg.classes if kind == "ld" else 1)
    kind = {"ld": "kd", "distmod": "dist"}.get(kind, kind)
    times = {"mean over rows": 1.0, "sum of rows": float(lg.rows)}.get(h.get("reduction", "mean over rows"))
    if times is None:
        times = float(x["weight"].sum()) / (h["avg_factor"] + h["avg_eps"])
    elif "reduction" not in h:
        times = 1 / (h["avg_factor"] + h["avg_eps"])
    if kind == "dist" and "gamma" not in h:  # rows alone: the method without its columns
        each = once * h["beta"] * method("dist", h).components(lg)["inter"]
        return {"total": times * fr.rows.weighted_mean(each, lg.weight), "rows": each}
    m = method(kind, h)
    values = {k: v for k, v in m.components(lg).items() if k != "task"}
    each = sum(once * m.parts[k].weight(fr.Progress.end()) * v for k, v in values.items())
    return {**terms(kind, h, lg, once * times), "rows": each}


def flat(maps: Tensor) -> Tensor:
    """``[n, c, y, x]`` as a head gives it -> ``[n y x, c]``."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def head(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    """A whole head: sides of positive anchors weighed by the student's score, and their class logits."""
    scores, others = flat(x["cls_score"]), flat(x["teacher_cls_score"])
    classes = scores.shape[1]
    lg = fr.rows.anchors(scores, others, x["labels"], background=classes)
    again = h["cls_kd"]
    named = again["loss_weight"] * terms("kd", {"temperature": again["temperature"]}, lg)["total"]
    keep = (x["labels"] >= 0) & (x["labels"] < classes)
    at = x["anchors"].reshape(-1, 4)[keep]
    centre, box = (at[:, :2] + at[:, 2:]) / 2, x["bbox_targets"][keep]
    far = torch.cat([centre - box[:, :2], box[:, 2:] - centre], 1) / h["stride"]
    weight = scores[keep].detach().sigmoid().amax(1) if len(box) else scores[keep].detach().sum(1)
    boxes = [flat(x[name])[keep] for name in ("bbox_pred", "teacher_bbox_pred")]
    mean = h["avg_mode"] == "mean"
    rows = fr.rows.sides(*boxes, far, weight=None if mean else weight)
    factor = h["loss_weight"] * (1 / 4 if mean else float(weight.sum().clamp(max=1)) * 4 / ENDS)
    found = terms(h["kind"], h, rows, factor)
    return {
        "total": found["total"], "cls_kd": named, "weight_sum": weight.sum(),
        "target_corners": far.clamp(0, h["reg_max"] - 0.1).flatten(), "positive": keep.nonzero()[:, 0],
        "row_weight": weight,
    }  # fmt: skip


def _sides(kind: str) -> Callable[[Hyper, Inputs], dict[str, Tensor]]:
    return lambda h, x: side_rows(kind, h, x)


ROWS: dict[str, Callable[[Hyper, Inputs], dict[str, Tensor]]] = {
    "RoIDKD": lambda h, x: terms("dkd", h, regions(h, x)),
    "RoIGDKD": lambda h, x: terms("gdkd", h, regions(h, x)),
    "RoIGDKD3": lambda h, x: terms("gdkd3", h, regions(h, x)),
    "RoIGDKDS": both,
    "BoxKD": _sides("kd"),
    "BoxKD-LD": _sides("ld"),
    "BoxDKD": _sides("dkd"),
    "BoxGDKD": _sides("gdkd"),
    "BoxDISTMod": _sides("distmod"),
    "BoxDIST": _sides("dist"),
    "BoxHead": head,
}


def prepared(case: golden.Case) -> Inputs:
    """The inputs, of which those that a gradient is wanted of are leaves."""
    inputs = case.inputs()
    for name in ("cls_score", "bbox_pred"):
        if name in inputs:
            inputs[name].requires_grad_()
    return inputs


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_formulas_reproduce_the_published_loss_of_detectors(case: golden.Case) -> None:
    inputs = prepared(case)
    golden.assert_matches(case, detection.ROWS[case.method](case.hyper, inputs), inputs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_package_reproduces_the_published_loss_of_detectors(case: golden.Case) -> None:
    inputs = prepared(case)
    golden.assert_matches(case, ROWS[case.method](case.hyper, inputs), inputs)


def test_every_golden_case_of_detectors_is_computed_twice() -> None:
    assert {case.method for case in CASES} == set(ROWS) == set(detection.ROWS)
    assert (len(CASES), len(NONFINITE)) == (120, 12)


@pytest.mark.parametrize("case", NONFINITE, ids=lambda case: case.id)
def test_where_the_published_loss_is_no_number_the_empty_side_is_nothing_with_a_graph(case: golden.Case) -> None:
    inputs = case.inputs()
    total = both(case.hyper, inputs)["total"]
    (grad,) = torch.autograd.grad(total, inputs["student"])
    twin = detection.both(case.hyper, inputs)["total"]
    assert float(total.detach()) == pytest.approx(float(twin.detach()), rel=1e-9)
    assert bool(grad.isfinite().all())


def test_sides_and_anchors_say_what_does_not_fit() -> None:
    x = torch.zeros(3, 4 * 5)
    with pytest.raises(ValueError, match=r"4 x bins.*got \[3, 21\]"):
        fr.rows.sides(torch.zeros(3, 21), torch.zeros(3, 21))
    with pytest.raises(ValueError, match="same anchors"):
        fr.rows.sides(x, torch.zeros(3, 4 * 6))
    with pytest.raises(ValueError, match=r"target must be \[3, 4\]"):
        fr.rows.sides(x, x, torch.zeros(3))
    with pytest.raises(ValueError, match=r"weight must be \[3\]"):
        fr.rows.sides(x, x, weight=torch.ones(4))
    with pytest.raises(ValueError, match=r"integers \[3\]"):
        fr.rows.anchors(x, x, torch.zeros(3))
    with pytest.raises(ValueError, match="same anchors"):
        fr.rows.anchors(x, x[:, :5], torch.zeros(3).long())
