"""Every golden case of segmentation twice: by the formulas, and through the public interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate.config import LearningRate
from fractionate.data import Batch
from fractionate.tasks.counts import Counts
from fractionate.train.optimizer import scheduler
from tests import golden
from tests.reference import dense

CASES = golden.cases("losses", folder="dense")
Hyper = dict[str, Any]
Inputs = dict[str, Tensor]


def rows(h: Hyper, x: Inputs) -> fr.Logits:
    """The pixels that count, as the published code takes them."""
    correct, ignore = h.get("keep") == "teacher-correct", h.get("ignore_index")
    bare = ignore is None and not correct
    lg = fr.rows.pixels(
        x["student"],
        x["teacher"] if not bare or not h.get("resize_logits") else enlarged(x["teacher"], x["target"]),
        None if bare else x["target"],
        ignore_index=-1 if ignore is None else ignore,
        resize=bool(h.get("resize_logits")) and not bare,
        labels="published",
    )
    return lg[lg.teacher.argmax(1) == lg.target] if correct else lg


def enlarged(maps: Tensor, target: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(maps, target.shape[1:], mode="bilinear", align_corners=True)


def terms(method: fr.Method, lg: fr.Logits, names: dict[str, str]) -> dict[str, Tensor]:
    """The mean of every component by its golden name, and the distilled part of the loss."""
    means = {name: fr.rows.weighted_mean(x, lg.weight) for name, x in method.components(lg).items() if name != "task"}
    weights = {name: part.weight(fr.Progress.end()) for name, part in method.parts.items()}
    total = sum(weights[name] * x for name, x in means.items())
    return {**{golden_name: means[name] for golden_name, name in names.items()}, "total": total}


def _kd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    return terms(fr.methods.kd(temperature=h["temperature"], kd_weight=1.0, ce_weight=0.0), rows(h, x), {})


def _dkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.dkd(alpha=h["alpha"], beta=h["beta"], temperature=h["temperature"], ce_weight=0.0)
    if "ignore_index" not in h:  # beside a term of all pixels, whose labels are all there
        h = {**h, "ignore_index": -1}
    return terms(method, rows(h, x), {"tckd": "target", "nckd": "nontarget"})


def _gdkd(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    weights = {name: h[name] for name in ("k", "w0", "w1", "w2")}
    method = fr.methods.gdkd(temperature=h["temperature"], ce_weight=0.0, **weights)
    return terms(method, rows(h, x), {"high": "between", "top": "top", "other": "other"})


def _dist(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    method = fr.methods.dist(beta=h["beta"], gamma=h["gamma"], temperature=h["temperature"], scale=False, ce_weight=0.0)
    found = terms(method, rows(h, x), {"inter": "inter", "intra": "intra"})
    if not h.get("per_image_intra"):
        return found
    columns = intra(h, x)
    return {**found, "intra": columns, "total": h["beta"] * found["inter"] + h["gamma"] * columns}


def intra(h: Hyper, x: Inputs) -> Tensor:
    method = fr.methods.dist(temperature=h["temperature"], scale=False, ce_weight=0.0)
    h = {**h, "ignore_index": None, "keep": None}
    parts = [{k: v[i : i + 1] for k, v in x.items()} for i in range(len(x["student"]))] if h["per_image_intra"] else [x]
    return torch.stack([method.components(rows(h, part))["intra"].mean() for part in parts]).mean()


def _with_intra(base: Callable[[Hyper, Inputs], dict[str, Tensor]]) -> Callable[[Hyper, Inputs], dict[str, Tensor]]:
    return lambda h, x: {"total": base(h, x)["total"] + h["intra_weight"] * intra(h, x)}


def _ce(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    student = x["student"]
    lg = fr.rows.pixels(student, student.detach(), x["target"], ignore_index=h["ignore_index"], resize=True)
    return {"total": fr.methods.kd(ce_weight=1.0, kd_weight=0.0).loss(lg)}


def _objective(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    aux = {"student": x["student_aux"], "teacher": x["teacher_aux"], "target": x["target"]}
    both = [(1.0, x), (h["aux_weight"], aux)]
    task = sum(w * _ce(h, of)["total"] for w, of in both)
    pixels = {"temperature": 1.0, "ignore_index": None}
    distill = sum(w * _kd(pixels, {k: of[k] for k in ("student", "teacher")})["total"] for w, of in both)
    return {"task": task, "distill": distill, "total": task + h["kd_weight"] * distill}


ROWS = {
    "SegKD": _kd,
    "CIRKD-KD": _kd,
    "SegDKD": _dkd,
    "SegGDKD": _gdkd,
    "SegDIST": _dist,
    "DIST-seg": _dist,
    "SegKD+intra": _with_intra(_kd),
    "SegDKD+intra": _with_intra(_dkd),
    "SegGDKD+intra": _with_intra(_gdkd),
    "SegCE": _ce,
    "SegObjective": _objective,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_formulas_reproduce_the_published_loss_of_pixels(case: golden.Case) -> None:
    inputs = case.inputs()
    golden.assert_matches(case, dense.ROWS[case.method](case.hyper, inputs), inputs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_package_reproduces_the_published_loss_of_pixels(case: golden.Case) -> None:
    inputs = case.inputs()
    golden.assert_matches(case, ROWS[case.method](case.hyper, inputs), inputs)


def test_every_golden_case_of_pixels_is_computed_twice() -> None:
    assert {case.method for case in CASES} == set(ROWS) == set(dense.ROWS)
    assert len(CASES) == 145


@pytest.mark.parametrize("case", golden.cases("losses", folder="dense", check="official-error"), ids=lambda c: c.id)
def test_where_the_published_code_raises_the_loss_is_nothing_with_a_graph(case: golden.Case) -> None:
    inputs = case.inputs()
    total = ROWS[case.method](case.hyper, inputs)["total"]
    (grad,) = torch.autograd.grad(total, inputs["student"])
    assert float(total.detach()) == 0
    assert not bool(grad.any())


@pytest.mark.parametrize("case", golden.cases("metrics", folder="dense"), ids=lambda case: case.id)
def test_the_published_metrics_are_reproduced(case: golden.Case) -> None:
    x, expected = case.inputs(), {name: case.array(key) for name, key in case.outputs.items()}
    counts = Counts(ignore=case.hyper["ignore_index"])
    for i in range(len(x["target"])):  # image by image
        y = x["target"][i : i + 1]
        counts.add(x["logits"][i : i + 1], Batch(torch.zeros(1, 3, *y.shape[1:]), y.long(), torch.tensor([i])))
    found = counts.result()
    pairs = zip(expected["intersection"].tolist(), expected["union"].tolist(), strict=True)
    ious = {str(c): 100 * i / u for c, (i, u) in enumerate(pairs) if u}
    assert found.ious == pytest.approx(ious, rel=1e-12)
    assert set(found.absent) == {str(c) for c in range(case.hyper["num_classes"])} - set(ious)
    assert found.miou == pytest.approx(100 * float(expected["miou_present"]), rel=1e-9)
    assert found.miou_published == pytest.approx(100 * float(expected["miou_published"]), rel=1e-9)
    assert found.pixel_accuracy == pytest.approx(100 * float(expected["pixel_accuracy"]), rel=1e-9)


@pytest.mark.parametrize("record", golden.table("dense/schedules.json")["cases"], ids=lambda record: record["id"])
def test_the_published_poly_schedule_is_reproduced(record: dict[str, Any]) -> None:
    h = record["hyper"]
    rate = LearningRate("poly", minimum=h["floor"] / h["lr"], power=h["power"], per="step")
    for i, value in zip(record["iterations"], record["values"], strict=True):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=h["lr"])
        scheduler(optimizer, rate, epochs=1, steps=h["iterations"], done=i)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(value, rel=1e-9)
