"""Every golden schedule through the public API: learning rates, warm-up, CTKD's gradient weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

import fractionate as fr
from fractionate.train import LearningRate
from fractionate.train.schedule import scheduler
from tests import golden

Curve = Callable[[Mapping[str, Any], list[int]], list[float]]


def _learning_rates(rate: LearningRate, lr: float, epochs: list[int]) -> list[float]:
    """What torch's scheduler leaves in the optimizer during each epoch."""
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    clock, values = scheduler(opt, rate, len(epochs)), []
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


CURVES: dict[str, Curve] = {
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
    assert sorted({r["method"] for r in RECORDS} - set(CURVES)) == []
