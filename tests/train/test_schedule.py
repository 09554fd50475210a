"""Learning rates: those of the published code, and the same ones after a resume."""

from typing import Any

import pytest
import torch

from fractionate.config.optimizers import LearningRate
from fractionate.train.optimizer import factor, scheduler
from tests import golden

CASES = {c["id"]: c for c in golden.table("schedules.json")["cases"] if c["method"] in ("cosine-warmup", "step")}


def published(hyper: dict[str, Any]) -> LearningRate:
    if "lr_decay_stages" in hyper:
        return LearningRate("step", tuple(hyper["lr_decay_stages"]), hyper["lr_decay_rate"])
    return LearningRate(
        "cosine",
        minimum=hyper["min_lr"] / hyper["lr"],
        warmup_epochs=hyper["warmup_epochs"],
        warmup_start=hyper["warmup_factor"],
    )


def used(rate: LearningRate, lr: float, epochs: int, done: int = 0) -> list[float]:
    """The rate that an optimizer has in every epoch from ``done`` on."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    steps = scheduler(optimizer, rate, epochs, steps=1, done=done)
    found = []
    for _ in range(done, epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        steps.step()
    return found


def test_there_are_published_schedules_to_compare_with() -> None:
    assert len(CASES) == 4


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_published_learning_rates_are_reproduced(case: dict[str, Any]) -> None:
    rate, epochs = published(case["hyper"]), case["epochs"][-1]
    assert used(rate, case["hyper"]["lr"], epochs) == pytest.approx(case["values"], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("rate", [LearningRate("cosine", warmup_epochs=3), LearningRate("step", (2, 4))])
def test_going_on_after_some_epochs_gives_the_rates_of_the_whole_run(rate: LearningRate) -> None:
    whole = used(rate, 0.1, 8)
    assert [used(rate, 0.1, 8, done) for done in range(1, 8)] == [whole[done:] for done in range(1, 8)]


def test_a_constant_rate_stays() -> None:
    assert used(LearningRate(), 0.3, 4) == [0.3] * 4


def test_a_run_as_short_as_its_warm_up_has_a_rate() -> None:
    rate = LearningRate("cosine", warmup_epochs=2)
    assert [factor(rate, epoch, 2) for epoch in (1, 2)] == pytest.approx([0.1, 0.55])


@pytest.mark.parametrize("epochs", [1, 2, 7, 30])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("per", ["epoch", "step"])
def test_a_cosine_is_that_of_torch_and_no_epoch_stands_still(epochs: int, steps: int, per: str) -> None:
    ours, torchs = (torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3) for _ in range(2))
    a = scheduler(ours, LearningRate("cosine", per=per), epochs, steps)  # type: ignore[arg-type]
    b = torch.optim.lr_scheduler.CosineAnnealingLR(torchs, epochs * (steps if per == "step" else 1))
    for step in range(1, epochs * steps + 1):
        assert ours.param_groups[0]["lr"] == pytest.approx(torchs.param_groups[0]["lr"], rel=1e-9)
        assert ours.param_groups[0]["lr"] > 0
        for clock in (ours, a, torchs):
            clock.step()
        if per == "step" or step % steps == 0:
            b.step()


def test_one_epoch_has_the_whole_rate() -> None:
    assert used(LearningRate("cosine"), 0.1, 1) == [0.1]


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("per", ["epoch", "step"])
def test_a_warm_up_begins_at_its_start_and_ends_at_the_whole_rate(schedule: str, per: str) -> None:
    rate = LearningRate(schedule, warmup_epochs=2, warmup_start=0.2, per=per)  # type: ignore[arg-type]
    assert used(rate, 1.0, 6)[:3] == pytest.approx([0.2, 0.6, 1.0])


@pytest.mark.parametrize("minimum", [0.0, 0.01])
def test_a_rate_per_step_meets_that_of_every_epoch(minimum: float) -> None:
    """At its first step; at its last one where a minimum is named."""
    rate = LearningRate("cosine", minimum=minimum, warmup_epochs=1, per="step")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    steps, found = scheduler(optimizer, rate, epochs=4, steps=5), []
    for _ in range(20):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        steps.step()
    met = found[4::5] if minimum else found[::5]
    assert met == pytest.approx([0.5 * factor(rate, epoch, 4) for epoch in (1, 2, 3, 4)])
    assert found[:5] == sorted(found[:5])
    assert found[5:] == sorted(found[5:], reverse=True)


@pytest.mark.parametrize("per", ["epoch", "step"])
def test_a_rate_goes_on_in_the_middle_of_an_epoch(per: str) -> None:
    rate = LearningRate("cosine", warmup_epochs=1, per=per)  # type: ignore[arg-type]
    net = torch.nn.Linear(1, 1)
    whole, part = (torch.optim.SGD(net.parameters(), lr=0.5) for _ in range(2))
    steps = scheduler(whole, rate, epochs=3, steps=4)
    for _ in range(7):
        whole.step()
        steps.step()
    scheduler(part, rate, epochs=3, steps=4, done=7)
    assert part.param_groups[0]["lr"] == whole.param_groups[0]["lr"]
