"""A loss that is given no progress stands at the end of every schedule; a run shorter than a warm-up cuts it."""

from __future__ import annotations

import pytest
import torch

import fractionate as fr
from fractionate import Method, Progress
from fractionate.schedules import cosine, phases, ramp, warmup
from tests import asserts, cases
from tests.methods.contract_rows import METHODS, TABLE

M = fr.methods


def gradient(loss: torch.Tensor, lg: fr.Logits) -> torch.Tensor:
    return torch.autograd.grad(loss, lg.student, allow_unused=True)[0]


def learning(lg: fr.Logits) -> fr.Logits:
    lg.student.requires_grad_(True)
    return lg


@pytest.mark.parametrize("name", METHODS)
def test_without_progress_distillation_has_its_full_weight(name: str) -> None:
    """Value and gradient are those of the method built without a warm-up, at the end of training."""
    method, lg = METHODS[name].make(), learning(METHODS[name].contract.rows())
    unwarmed = method.with_args(warmup=1)
    found, expected = method.loss(lg), unwarmed.loss(lg, Progress.end())
    asserts.assert_equal(found, expected)
    asserts.assert_equal(gradient(found, lg), gradient(expected, lg))
    last = Progress(epoch=10_000, epochs=10_000)
    for part in method.parts.values():
        assert part.weight(Progress.end()) == pytest.approx(part.weight(last))


@pytest.mark.parametrize("name", TABLE)
def test_without_progress_all_three_ways_stand_at_the_end(name: str) -> None:
    method, lg = TABLE[name].make(), TABLE[name].contract.rows()
    end = Progress.end()
    asserts.assert_same(method.components(lg), method.components(lg, end), rtol=0.0)
    asserts.assert_same(method.stream_losses(lg), method.stream_losses(lg, end), rtol=0.0)
    asserts.assert_equal(method.loss(lg), method.loss(lg, end))


@pytest.mark.parametrize("granularity", ["epoch", "step"])
def test_without_progress_a_mask_that_grows_keeps_every_class(granularity: str) -> None:
    lg = cases.easy()
    masked: Method = M.deepkd(M.dkd(), keep=phases(plateau=0.6, start=0.4, granularity=granularity))
    asserts.assert_same(masked.components(lg), M.deepkd(M.dkd()).components(lg))


@pytest.mark.parametrize("epochs", [1, 2, 60, 150])
def test_a_term_that_begins_late_begins_in_short_runs_too(epochs: int) -> None:
    """sld's own term starts after epoch 150 of 240; a run that ends before has it from the same share on."""
    lg = cases.easy()
    method = M.sld(views=1)
    own = [
        method.components(lg, Progress(epoch=e, epochs=epochs))["self_kd"].abs().sum() > 0 for e in range(1, epochs + 1)
    ]
    assert own[-1]
    assert own.index(True) == pytest.approx(epochs * 150 / 240, abs=1.5)


def test_the_learned_temperature_of_a_short_run_has_its_whole_gradient_in_the_end() -> None:
    def slope(epochs: int) -> torch.Tensor:
        method = M.ctkd(M.kd())
        method.loss(cases.easy(), Progress(epoch=epochs, epochs=epochs)).backward()
        return method.module.theta.grad

    asserts.assert_equal(slope(5), slope(240))


@pytest.mark.parametrize("schedule", [warmup(2.0, 300), ramp(0.0, 2.0), ramp(0.0, 2.0, 500), cosine(0.0, 2.0)])
def test_every_schedule_ends_at_its_last_value(schedule: object) -> None:
    assert schedule(Progress.end()) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("published", "epochs", "first"), [(20, 1, [1.0]), (20, 6, [1.0, 1.0]), (40, 30, [0.2, 0.4, 0.6, 0.8, 1.0])]
)
def test_a_run_shorter_than_the_warmup_keeps_its_share(published: int, epochs: int, first: list[float]) -> None:
    """Its share of a published run of 240 epochs, so that the last epoch always has the full weight."""
    found = [warmup(1.0, published)(Progress(epoch=e + 1, epochs=epochs)) for e in range(len(first))]
    assert found == pytest.approx(first)
    assert warmup(1.0, published)(Progress(epoch=epochs, epochs=epochs)) == 1.0


def test_a_run_as_long_as_the_warmup_is_left_alone() -> None:
    assert warmup(1.0, 20)(Progress(epoch=5, epochs=20)) == 0.25
