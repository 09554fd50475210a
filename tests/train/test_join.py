"""The combine rule of a config: what it trains, what it notes down, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch

from fractionate.combine import Rule
from fractionate.config.optimizers import AdamW, Optimizer
from fractionate.config.run import Network, Parallel, Run
from fractionate.runs.runner import run_in_folder
from fractionate.tasks import Diverged
from fractionate.train.build import Training, prepare
from fractionate.train.loop import Record, fit
from tests.train.runs import teacher_file, tiny

RULES = get_args(Rule)


@pytest.fixture
def taught(tmp_path: Path) -> Network:
    return Network("convnet_8_16", checkpoint=teacher_file(tmp_path))


def trained(run: Run) -> tuple[Training, list[Record]]:
    training = prepare(run)
    return training, list(fit(training))


def weights(training: Training) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in training.student.parameters()])


def test_the_config_knows_every_rule() -> None:
    assert set(get_args(get_type_hints(Run)["combine"])) == {"none", *RULES}


@pytest.mark.parametrize("optimizer", [Optimizer(lr=0.01), AdamW(lr=0.003)], ids=lambda o: o.name)
def test_the_total_trains_as_no_rule_does(optimizer: Any, taught: Network) -> None:
    run = tiny("dkd", teacher=taught, optimizer=optimizer)
    (plain, _), (total, records) = trained(run), trained(replace(run, combine="total"))
    torch.testing.assert_close(weights(total), weights(plain), rtol=1e-4, atol=1e-5)
    assert not any(name.startswith("combine/") for name in records[-1].columns())


def test_a_bound_of_the_gradient_binds_weights_of_streams_as_it_binds_the_streams(taught: Network) -> None:
    """All gains are twice the base's, so the weights take its steps at twice the rate, also where the bound binds."""
    shifts = "delta_task=0.05, delta_target=0.05, delta_nontarget=0.05"
    as_weights = tiny(
        f"dkd+deepkd({shifts})+reweighted", teacher=taught, optimizer=Optimizer(lr=0.01, weight_decay=0, clip=0.5)
    )
    base = tiny("dkd", teacher=taught, optimizer=Optimizer(lr=0.02, weight_decay=0, clip=0.5))
    free = replace(base, optimizer=Optimizer(lr=0.02, weight_decay=0))
    ends = [weights(trained(run)[0]) for run in (as_weights, base, free)]
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ends[1], ends[2], rtol=1e-2, atol=1e-3)  # it binds


@pytest.mark.parametrize("method", ["gdkd(k=3)", "kd+dot(delta=0)", "ce"])
@pytest.mark.parametrize("rule", RULES[1:])
def test_every_rule_trains_in_one_buffer_and_notes_the_weights_down(rule: Any, method: str, taught: Network) -> None:
    training, records = trained(tiny(method, teacher=taught, combine=rule, epochs=1))
    streams = [s.name for s in training.method.streams]
    assert set(training.optimizer.momenta) == {"loss"}
    columns = records[-1].columns()
    assert [name for name in columns if name.startswith("combine/")] == [f"combine/{name}" for name in streams]
    assert sum(columns[f"combine/{name}"] for name in streams) > 0
    assert bool(weights(training).isfinite().all())


def test_every_component_is_a_backward_pass_in_the_summary(taught: Network, tmp_path: Path) -> None:
    run = tiny("dkd", teacher=taught, epochs=1)
    passes = [
        run_in_folder(replace(run, combine=rule), tmp_path / rule)["backward_passes"] for rule in ("none", "pcgrad")
    ]
    assert passes == [1, 3]


def test_factors_on_losses_change_nothing_of_logarithms(taught: Network) -> None:
    one, other = (
        trained(tiny(f"kd(ce_weight={ce},kd_weight={kd})", teacher=taught, combine="min_norm_log", epochs=1))[0]
        for ce, kd in ((0.1, 0.9), (2.0, 0.3))
    )
    torch.testing.assert_close(weights(one), weights(other), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rule", ["min_norm_log", "pcgrad"])
def test_parts_of_a_batch_are_added_up_before_they_are_combined(rule: Any, taught: Network) -> None:
    """Without batch norm, whose statistics are those of a part."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    found = []
    for parts in (1, 2):
        torch.manual_seed(0)
        student = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        student.load_state_dict(net.state_dict())
        run = tiny("gdkd(k=3)", teacher=taught, combine=rule, epochs=1, accumulate=parts)
        training = prepare(run, student=student)
        records = list(fit(training))
        found.append((weights(training), records[-1].monitors))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-6)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-3)


@pytest.mark.faults
@pytest.mark.parametrize("rule", ["total", "min_norm", "min_norm_log"])
@pytest.mark.parametrize("allowed", [0, 1])
def test_a_gradient_that_is_not_finite_stops_the_run_or_is_left_out(rule: Any, allowed: int, taught: Network) -> None:
    training = prepare(tiny("dkd", teacher=taught, combine=rule, epochs=1, skip_nonfinite=allowed))
    first = next(iter(training.student.parameters()))
    hooks = [first.register_hook(lambda g: hooks.pop().remove() or g * float("nan"))]
    before = weights(training)
    if not allowed:
        with pytest.raises(Diverged, match="nan"):
            list(fit(training))
        assert torch.equal(weights(training), before)
        return
    (record,) = fit(training)
    assert record.skipped == 1
    assert bool(weights(training).isfinite().all())


def test_float16_leaves_steps_out_that_overflow_and_goes_on(taught: Network) -> None:
    training = prepare(tiny("dkd", teacher=taught, combine="min_norm_log", precision="float16", epochs=2))
    first = next(iter(training.student.parameters()))
    hooks = [first.register_hook(lambda g: hooks.pop().remove() or g * float("inf"))]
    records = list(fit(training))
    assert not hooks
    assert bool(weights(training).isfinite().all())
    assert all(record.train_loss == record.train_loss for record in records)


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("dkd+deepkd", {}, "one momentum, but .*deepkd.* gives its streams task 0.9"),
        ("kd+dot", {}, "without dot and deepkd"),
        ("kd", {"merge": True}, "leave merge out"),
        ("kd", {"graph": True}, "graph=true cannot record combine=min_norm"),
        ("kd", {"parallel": Parallel(sync="update")}, "combine reads those of all processes"),
    ],
)
def test_what_it_cannot_do_is_refused_where_the_config_is_read(method: str, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(method, combine="min_norm", **changes)


def test_a_loss_below_zero_has_no_logarithm(taught: Network) -> None:
    run = tiny("dgkd", teacher=taught, combine="min_norm_log")
    with pytest.raises(ValueError, match=r"the loss of stream 'coupling' is -.*logarithm"):
        trained(run)
