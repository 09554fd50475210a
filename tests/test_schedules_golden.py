"""Every golden schedule through the public API: learning rates, warm-up, CTKD's gradient weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

import fractionate as fr
from fractionate.config.optimizers import LearningRate
from fractionate.methods.kd import reversal
from fractionate.train.optimizer import scheduler
from tests import golden

Curve = Callable[[Mapping[str, Any], list[int]], list[float]]


def _learning_rates(rate: LearningRate, lr: float, epochs: list[int]) -> list[float]:
    """What torch's scheduler leaves in the optimizer during each epoch."""
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    clock, values = scheduler(opt, rate, len(epochs), steps=1), []
    for _ in epochs:
        values.append(opt.param_groups[0]["lr"])
        opt.step()
        clock.step()
    return values


def _step(h: Mapping[str, Any], epochs: list[int]) -> list[float]:
    rate = LearningRate("step", milestones=tuple(h["lr_decay_stages"]), decay=h["lr_decay_rate"])
    return _learning_rates(rate, h["lr"], epochs)


def _cosine_warmup(h: Mapping[str, Any], epochs: list[int]) -> list[float]:
    rate = LearningRate(
        "cosine",
        minimum=h["min_lr"] / h["lr"],
        warmup_epochs=h["warmup_epochs"],
        warmup_start=h["warmup_factor"],
    )
    return _learning_rates(rate, h["lr"], epochs)


def _warmup(h: Mapping[str, Any], epochs: list[int]) -> list[float]:
    weight = fr.schedules.warmup(1.0, epochs=h["warmup_epochs"])
    return [weight(fr.Progress(epoch=e)) for e in epochs]


def _reversal(ramp: str) -> Curve:
    def curve(h: Mapping[str, Any], epochs: list[int]) -> list[float]:
        assert (h["decay_max"], h["decay_min"]) == (0.0, -1.0)
        return [reversal(e, h["decay_loops"], ramp) for e in epochs]

    return curve


CURVES: dict[str, Curve] = {
    "ctkd-cosine": _reversal("cosine"),
    "ctkd-linear": _reversal("linear"),
    "step": _step,
    "cosine-warmup": _cosine_warmup,
    "distillation-warmup": _warmup,
}
RECORDS = golden.schedules()


@pytest.mark.parametrize("record", [r for r in RECORDS if r["method"] in CURVES], ids=lambda r: r["id"])
def test_the_package_follows_the_published_schedule(record: dict[str, Any]) -> None:
    assert record["epochs"][0] in (0, 1)
    values = CURVES[record["method"]](record["hyper"], record["epochs"])
    golden.assert_close(
        torch.tensor(values, dtype=torch.float64),
        torch.tensor(record["values"], dtype=torch.float64),
        record["id"],
    )


def test_every_golden_schedule_has_a_curve() -> None:
    assert sorted({r["method"] for r in RECORDS} - set(CURVES)) == ["ctkd-trajectory"]


def test_the_learned_temperature_follows_the_published_trajectory() -> None:
    """One SGD step per epoch on fixed logits; the values are those before the step."""
    (record,) = (r for r in RECORDS if r["method"] == "ctkd-trajectory")
    h = record["hyper"]
    student, teacher = (torch.tensor(h[name], dtype=torch.float64) for name in ("student", "teacher"))
    lg = fr.Logits(student, teacher, torch.zeros(len(student), dtype=torch.int64))
    inner = fr.methods.kd(kd_weight=1.0, ce_weight=0.0)
    method = fr.methods.ctkd(inner, t_start=h["t_start"], t_end=h["t_end"], ramp_epochs=h["decay_loops"])
    module = method.module.double()
    assert float(module.theta.detach()) == h["initial_parameter"]
    opt = torch.optim.SGD(module.parameters(), lr=h["lr"], momentum=h["momentum"], weight_decay=h["weight_decay"])
    found: dict[str, list[torch.Tensor]] = {"parameter": [], "temperature": [], "loss": []}
    for epoch in record["epochs"]:
        opt.zero_grad()
        loss = method.loss(lg, fr.Progress(epoch=epoch))
        for name, value in (("parameter", module.theta), ("temperature", module()), ("loss", loss)):
            found[name].append(value.detach().clone())
        loss.backward()
        opt.step()
    for name, values in found.items():
        saved = torch.tensor(record[name], dtype=torch.float64)
        golden.assert_close(torch.stack(values), saved, f"{record['id']} {name}")
