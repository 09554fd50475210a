"""Networks in float16: the loss scale changes no step, keeps small gradients, and leaves out those that overflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fractionate as fr
from fractionate.config.optimizers import AdamW, Optimizer
from fractionate.config.run import Monitors, Network
from fractionate.optim import clip_total
from fractionate.runs.checkpoint import restore, save_checkpoint
from fractionate.tasks import Diverged
from fractionate.train.build import Training, prepare
from fractionate.train.health import LossScale
from fractionate.train.loop import Loop
from fractionate.train.step import Step, train_step
from tests.train.runs import teacher_file, tiny

CPU = torch.device("cpu")
KINDS = [Optimizer(lr=0.01, clip=1.0), AdamW(lr=0.003, clip=1.0, decay="weights")]


def scale_of(value: float) -> LossScale:
    """A loss scale that begins at this value and stays there as long as nothing overflows."""
    made = LossScale(CPU)
    made.inner = torch.amp.GradScaler("cpu", init_scale=value, growth_interval=10**9)
    return made


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5))


def clipped(step: Step, progress: fr.Progress) -> fr.StreamGrads:
    return clip_total(step.grads, 10.0)


def moved(scaler: LossScale | None, steps: int = 4, factor: float = 1.0) -> tuple[list[torch.Tensor], list[bool]]:
    """The weights after some steps of deepkd in float32, and which steps were left out."""
    method, net = fr.methods.deepkd(fr.methods.dkd()), network()
    trained, made = list(net.parameters()), torch.Generator().manual_seed(1)
    optimizer = fr.StreamSGD(trained, lr=0.1, momentum=method.momenta(0.9))
    skipped = []
    for _ in range(steps):
        x, teacher = torch.randn(6, 4, generator=made), torch.randn(6, 5, generator=made)
        lg = fr.Logits(factor * net(x), teacher, torch.arange(6) % 5)
        step = train_step(trained, method, optimizer, lg, fr.Progress(), ready=clipped, scaler=scaler)
        skipped.append(step.skipped)
    return [p.detach() for p in trained], skipped


@pytest.mark.parametrize("value", [1.0, 2.0**16, 2.0**-4])
def test_a_power_of_two_as_the_scale_changes_no_bit(value: float) -> None:
    plain, scaled = moved(None), moved(scale_of(value))
    assert not any(scaled[1])
    assert all(torch.equal(a, b) for a, b in zip(plain[0], scaled[0], strict=True))


def test_a_step_that_overflows_is_left_out_and_halves_the_scale() -> None:
    scaler = scale_of(2.0**127)  # times a gradient above 2 this is infinite
    weights, skipped = moved(scaler, steps=12, factor=1000.0)
    assert skipped[0]
    assert not all(skipped)
    assert scaler.value == 2.0 ** (127 - sum(skipped))
    assert all(bool(w.isfinite().all()) for w in weights)
    nothing, _ = moved(scale_of(2.0**127), steps=1, factor=1000.0)
    assert all(torch.equal(a, b) for a, b in zip(nothing, network().parameters(), strict=True))


def test_gradients_that_float16_cannot_hold_arrive_under_the_scale() -> None:
    x, w = torch.full((1, 1), 1e-4), torch.ones(1, 1, requires_grad=True)

    def gradient(scale: float) -> float:
        with torch.autocast("cpu", torch.float16):
            loss = nn.functional.linear(nn.functional.linear(x, w), torch.full((1, 1), 1e-4)).float().sum()
        return float(torch.autograd.grad(scale * loss, w)[0]) / scale

    assert gradient(1.0) == pytest.approx(1e-8, rel=0.9) or gradient(1.0) == 0
    assert gradient(2.0**14) == pytest.approx(1e-8, rel=1e-2)


def test_a_gradient_that_two_parameters_share_is_divided_once() -> None:
    a, b = (torch.zeros(3, requires_grad=True) for _ in range(2))
    optimizer, scaler = fr.StreamSGD([a, b], lr=1.0), scale_of(8.0)
    grads = fr.stream_grads({"loss": scaler.inner.scale((a + b).sum())}, [a, b])
    assert [g.tolist() for g in scaler.unscaled(grads, optimizer)["loss"] if g is not None] == [[1.0] * 3] * 2


def training_of(folder: Path, **changes: Any) -> Training:
    taught = Network("convnet_8_16", checkpoint=teacher_file(folder))
    return prepare(tiny("dkd+deepkd", teacher=taught, **changes))


@pytest.mark.parametrize("optimizer", KINDS, ids=lambda o: o.name)
def test_a_run_in_float16_is_near_the_one_in_float32(optimizer: Any, tmp_path: Path) -> None:
    losses = {}
    for precision in ("float32", "float16"):
        loop = Loop(training_of(tmp_path, precision=precision, optimizer=optimizer, ema=0.9))
        losses[precision] = [r.train_loss for r in loop.records()]
    assert losses["float16"] != losses["float32"]
    assert losses["float16"] == pytest.approx(losses["float32"], rel=3e-2)


@pytest.mark.parametrize("optimizer", KINDS, ids=lambda o: o.name)
def test_the_scale_goes_on_where_a_run_was_interrupted(optimizer: Any, tmp_path: Path) -> None:
    changes = {"precision": "float16", "optimizer": optimizer}
    whole, first, second = (Loop(training_of(tmp_path, **changes)) for _ in range(3))
    for loop in (whole, first):
        loop.stepper.scaler = LossScale(CPU)
        loop.stepper.scaler.inner = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=3)
    records = whole.records()
    next(records)
    next(first.records())
    save_checkpoint(first, tmp_path / "last.ckpt")
    restore(second, tmp_path / "last.ckpt")
    rest = [r.train_loss for r in records]
    assert [r.train_loss for r in second.records()] == rest
    assert second.stepper.scaler.value == whole.stepper.scaler.value


def test_steps_left_out_under_the_scale_count_in_no_mean_and_no_monitor(tmp_path: Path) -> None:
    loop = Loop(training_of(tmp_path, precision="float16", monitors=Monitors(gsnr_window=2, norms=True)))
    assert loop.stepper.scaler is not None
    loop.stepper.scaler.inner = torch.amp.GradScaler("cpu", init_scale=2.0**18)
    record = next(loop.records())
    assert 1 < loop.stepper.scaler.value < 2.0**18
    assert loop.guard.skipped == 0
    assert torch.isfinite(torch.tensor([record.train_loss, *record.monitors.values()])).all()


def test_gradients_that_no_scale_makes_finite_end_the_run(tmp_path: Path) -> None:
    loop = Loop(training_of(tmp_path, precision="float16"))
    hook = next(iter(loop.training.student.parameters())).register_hook(lambda g: g * torch.inf)
    assert loop.stepper.scaler is not None
    loop.stepper.scaler.inner = torch.amp.GradScaler("cpu", init_scale=2.0)
    with pytest.raises(Diverged, match="diverged in epoch 1, step 1"):
        list(loop.records())
    hook.remove()


def test_a_recorded_step_has_no_loss_scale(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="there is no CUDA device|loss scale"):
        Loop(replace(training_of(tmp_path, precision="float16", graph=True)))
