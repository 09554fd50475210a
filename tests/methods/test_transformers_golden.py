"""Every golden case of transformer students twice: by the formulas, and through the public interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate.config import LearningRate
from fractionate.train.optimizer import scheduler
from tests import golden
from tests.reference import transformers

CASES = golden.cases("losses", folder="transformers")
REFUSED = golden.cases("losses", folder="transformers", check="official-error")
SCHEDULES = golden.table("transformers/schedules.json")["cases"]
TERMS = {"task": "ce", "target": "tckd", "nontarget": "nckd", "between": "high"}  # others have the same name
Hyper = dict[str, Any]
Inputs = dict[str, Tensor]


def rows(x: Inputs) -> fr.Logits:
    """The class head's rows, with those of the distillation head where a case has one."""
    head = x.get("student_dist")
    token = None if head is None else fr.Logits(head, x["teacher"], x["target"])
    return fr.Logits(x["student"], x["teacher"], x["target"], token=token)


def total(method: fr.Method, lg: fr.Logits, names: dict[str, str], at: fr.Progress) -> dict[str, Tensor]:
    means = {names.get(name, name): values.mean() for name, values in method.components(lg, at).items()}
    return {**means, "total": method.loss(lg, at)}


def ratio(weight: float, h: Hyper) -> fr.schedules.Schedule:
    """vit-gdkd's warm-up, which counts epochs from 0 and may wait: a ramp."""
    skip, warmup = h["skip_epochs"], h.get("warmup_epochs", 0)
    return fr.schedules.ramp(0.0, weight, epochs=warmup + 1, after=skip)


def warmed(method: fr.Method, h: Hyper) -> fr.Method:
    weights = {name: ratio(part.weight(fr.Progress.end()), h) for name, part in method.parts.items()}
    parts = {name: replace(p, weight=weights[name]) for name, p in method.parts.items() if name != "task"}
    return replace(method, parts={"task": method.parts["task"], **parts})


def _vit(make: Callable[..., fr.Method], weights: dict[str, str], *settings: str) -> Callable[[Hyper, Inputs], Any]:
    """A distiller of vit-gdkd: ``weights`` are arguments of the method by their golden names."""

    def row(h: Hyper, x: Inputs) -> dict[str, Tensor]:
        given = {name: h[golden_name] for name, golden_name in weights.items()}
        method = make(
            **given,
            **{name: h[name] for name in settings},
            temperature=h["temperature"],
            warmup=1,
            ce_weight=h["ce"],
            label_smoothing=h["label_smoothing"],
        )
        return total(warmed(method, h), rows(x), TERMS, fr.Progress(epoch=h["epoch0"] + 1, epochs=300))

    return row


GROUPS = {name: name for name in ("w0", "w1", "w2")}


def _deit(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    if h["distillation_type"] == "none":
        method = fr.methods.kd(kd_weight=0.0, ce_weight=1.0, label_smoothing=h["label_smoothing"])
        found = total(method, rows(x), {"task": "base"}, fr.Progress.end())
        return {name: found[name] for name in ("base", "total")}
    form = h["distillation_type"]
    method = fr.methods.deit(
        form=form,
        temperature=h["tau"],
        weight=h["alpha"],
        ce_weight=1 - h["alpha"],
        reduction="deit" if form == "soft" else "rows",
        label_smoothing=h["label_smoothing"],
    )
    return total(method, rows(x), {"task": "base", form: "distillation", "kd": "distillation"}, fr.Progress.end())


def _timm_token(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    task, distill = (h["effective"][name] for name in ("task", "distill"))
    form = h["distill_type"]
    method = fr.methods.deit(form=form, temperature=h["temperature"], weight=distill, ce_weight=task)
    return total(method, rows(x), {"hard": "distillation", "kd": "distillation"}, fr.Progress.end())


def _timm_logit(h: Hyper, x: Inputs) -> dict[str, Tensor]:
    task, distill = (h["effective"][name] for name in ("task", "distill"))
    method = fr.methods.kd(temperature=h["temperature"], kd_weight=distill, ce_weight=task)
    return total(method, rows(x), {}, fr.Progress.end())


ROWS: dict[str, Callable[[Hyper, Inputs], dict[str, Tensor]]] = {
    "ViT-KD": _vit(fr.methods.kd, {"kd_weight": "kd"}),
    "ViT-DKD": _vit(fr.methods.dkd, {"alpha": "alpha", "beta": "beta"}),
    "ViT-GDKD": _vit(fr.methods.gdkd, GROUPS, "k"),
    "ViT-GDKD3": _vit(fr.methods.gdkd3, GROUPS, "k"),
    "ViT-DIST": _vit(fr.methods.dist, {"beta": "beta", "gamma": "gamma"}),
    "DeiT-token": _deit,
    "timm-logit": _timm_logit,
    "timm-token": _timm_token,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_formulas_reproduce_the_published_loss_of_transformers(case: golden.Case) -> None:
    inputs = case.inputs()
    golden.assert_matches(case, transformers.ROWS[case.method](case.hyper, inputs), inputs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_package_reproduces_the_published_loss_of_transformers(case: golden.Case) -> None:
    inputs = case.inputs()
    golden.assert_matches(case, ROWS[case.method](case.hyper, inputs), inputs)


def test_every_golden_case_of_transformers_is_computed_twice() -> None:
    assert {case.method for case in CASES} == set(ROWS) == set(transformers.ROWS)
    assert (len(CASES), len(REFUSED), len(SCHEDULES)) == (148, 2, 6)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_where_the_published_code_fails_over_mixed_labels_a_sentence_says_so(case: golden.Case) -> None:
    h = case.hyper
    method = fr.methods.dkd(alpha=h["alpha"], beta=h["beta"], temperature=h["temperature"])
    with pytest.raises(ValueError, match="hard="):
        method.loss(rows(case.inputs()))


def _learning_rates(record: dict[str, Any]) -> list[float]:
    h = record["hyper"]
    rate = LearningRate(
        "cosine",
        minimum=h["min_lr"] / h["lr"],
        warmup_epochs=h["warmup_epochs"],
        warmup_start=h["start_factor"],
        cosine_end="after",
    )
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=h["lr"])
    clock, found = scheduler(optimizer, rate, h["epochs"], steps=1), []
    for _ in record["epochs"]:
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        clock.step()
    return found


def _ratios(record: dict[str, Any]) -> list[float]:
    weight = ratio(1.0, record["hyper"])
    return [weight(fr.Progress(epoch=e + 1, epochs=300)) for e in record["epochs0"]]


def _by_iterations(record: dict[str, Any]) -> list[float]:
    weight = fr.schedules.ramp(0.0, 1.0, steps=record["hyper"]["warmup_iterations"] + 1)
    return [weight(fr.Progress(step=i)) for i in record["iterations"]]


CURVES = {
    "linear-warmup-cosine": _learning_rates,
    "zero-based-warmup": _ratios,
    "iteration-warmup": _by_iterations,
}
TWINS: dict[str, Callable[[dict[str, Any]], list[float]]] = {
    "linear-warmup-cosine": lambda r: [transformers.linear_then_cosine(e, **r["hyper"]) for e in r["epochs"]],
    "zero-based-warmup": lambda r: [transformers.ratio(e, **r["hyper"]) for e in r["epochs0"]],
    "iteration-warmup": lambda r: [min(i / r["hyper"]["warmup_iterations"], 1.0) for i in r["iterations"]],
}


@pytest.mark.parametrize("curves", [CURVES, TWINS], ids=["package", "formulas"])
@pytest.mark.parametrize("record", SCHEDULES, ids=lambda record: record["id"])
def test_the_published_schedules_of_transformers_are_reproduced(record: dict[str, Any], curves: Any) -> None:
    found = torch.tensor(curves[record["method"]](record), dtype=torch.float64)
    golden.assert_close(found, torch.tensor(record["values"], dtype=torch.float64), record["id"])
