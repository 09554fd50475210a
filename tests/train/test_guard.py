"""Numbers that are not finite: found before they reach the weights, named, and left out if so wished."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fractionate import Logits, Progress, methods
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run
from fractionate.methods import Method, Part
from fractionate.runs.checkpoint import read_checkpoint
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.runs.stop import Stop, Stopped
from fractionate.schedules import constant
from fractionate.tasks import Diverged
from fractionate.train.build import Training
from fractionate.train.build import prepare as really_prepare
from fractionate.train.health import Guard, NotFinite
from fractionate.train.loop import Loop
from tests.runs.test_resume import outcome, stop_after
from tests.train.runs import teacher_file, tiny

Bad = Callable[[int], bool]


def broken(bad: Bad, dot: bool = False) -> Method:
    """KD with a component whose value is 0 and whose gradient is NaN, at some steps."""
    kd = methods.kd()

    def terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        none = lg.student - lg.student.detach()
        root = none.abs().sqrt() if bad(progress.step) else none
        return {**kd.terms(lg, progress), "root": root.sum(1)}

    parts = {**kd.parts, "root": Part(constant(1.0))}
    method = Method(name="kd with a root", parts=parts, terms=terms, task=kd.task)
    return methods.dot(method) if dot else method


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return tiny("kd", teacher=Network("convnet_8_16", checkpoint=teacher_file(tmp_path)))


def with_method(monkeypatch: pytest.MonkeyPatch, method: Method) -> None:
    """Every run is trained by this method, whatever its config says."""

    def prepare(run: Run) -> Training:
        training = really_prepare(run)
        training.method = method
        return training

    monkeypatch.setattr(sys.modules["fractionate.runs.runner"], "prepare", prepare)


def test_a_gradient_that_is_not_finite_is_named_and_the_state_before_it_is_kept(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_method(monkeypatch, broken(lambda step: step == 6))
    message = r"epoch 2, step 6: the gradient of component 'root' in stream 'loss' is nan; .*the state is in .*DIVERGED"
    with pytest.raises(Diverged, match=message):
        run_in_folder(run, tmp_path / "run", stop=Stop())
    state = read_checkpoint(tmp_path / "run" / "DIVERGED.ckpt")
    assert (state["epoch"], state["step"]) == (1, 6)
    assert all(bool(torch.isfinite(value).all()) for value in state["student"].values())
    assert not RunFolder(tmp_path / "run").finished
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["step"] == 4


def test_a_loss_that_is_not_finite_leaves_its_state_too(run: Run, tmp_path: Path) -> None:
    wild = replace(run, optimizer=replace(run.optimizer, lr=1e30))
    with pytest.raises(Diverged, match=r"component '\w+' of stream 'loss' is (nan|inf); .*DIVERGED.ckpt"):
        run_in_folder(wild, tmp_path / "run")
    assert (tmp_path / "run" / "DIVERGED.ckpt").is_file()
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_a_run_that_diverged_goes_on_with_another_setting(run: Run, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run_in_folder(run, tmp_path / "run", stop=stop_after(5))
    with pytest.raises(Diverged):
        run_in_folder(replace(run, optimizer=replace(run.optimizer, lr=1e30)), tmp_path / "run", resume=True)
    facts = run_in_folder(run, tmp_path / "run", resume=True)
    assert facts["epochs"] == 3


@pytest.mark.parametrize("watched_stream", ["loss", "distillation"])
def test_steps_are_left_out_up_to_the_number_that_was_allowed(
    watched_stream: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dot = watched_stream == "distillation"
    run = replace(run, method=MethodSpec.parse("kd+dot" if dot else "kd"))
    with_method(monkeypatch, broken(lambda step: step in (1, 6), dot))
    facts = run_in_folder(replace(run, skip_nonfinite=2), tmp_path / "two")
    assert facts["skipped"] == 2
    assert [row.get("skipped", 0) for row in RunFolder(tmp_path / "two").metrics()] == [1, 2, 2]
    left = r"step 6: .*in stream '\w+' is nan; .*; 1 such steps were left out before, as skip_nonfinite allows"
    with pytest.raises(Diverged, match=left):
        run_in_folder(replace(run, skip_nonfinite=1), tmp_path / "one")


def test_a_step_that_is_left_out_changes_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    student = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Flatten(), torch.nn.Linear(64, 10))
    training = really_prepare(replace(run, skip_nonfinite=12), student=student)
    training.method = broken(lambda step: True)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    *_, last = Loop(training).records()
    assert last.skipped == 12
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert training.optimizer.state_dict()["state"] == {}


def test_the_count_of_steps_left_out_survives_an_interruption(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_method(monkeypatch, broken(lambda step: step in (1, 6)))
    run = replace(run, skip_nonfinite=2)
    run_in_folder(run, tmp_path / "whole")
    with pytest.raises(Stopped):
        run_in_folder(run, tmp_path / "pieces", stop=stop_after(3))
    run_in_folder(run, tmp_path / "pieces", resume=True)
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")


def test_a_good_checkpoint_is_not_replaced_by_one_with_broken_weights(run: Run, tmp_path: Path) -> None:
    loop = Loop(really_prepare(run))
    next(loop.records())
    folder = RunFolder(tmp_path / "run")
    folder.start(run)
    folder.save(loop)
    before = (folder.path / "last.ckpt").read_bytes()
    with torch.no_grad():
        next(loop.training.student.parameters()).fill_(float("inf"))
    with pytest.raises(Diverged, match="step 3: the weights are inf after it"):
        folder.save(loop)
    assert (folder.path / "last.ckpt").read_bytes() == before


def test_logits_on_the_test_images_that_overflow_name_the_epoch_and_the_last_step(run: Run) -> None:
    loop = Loop(really_prepare(run))
    records = loop.records()
    next(records)
    loop.training.student.register_forward_hook(lambda net, _, out: out if net.training else out * 1e38 * 1e3)
    with pytest.raises(Diverged, match=r"epoch 2, step 7: after it the network's logits are not finite .*; lower"):
        next(records)


def test_huge_gradients_that_are_finite_are_none_of_its_business() -> None:
    net = torch.nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    with Guard(optimizer, net, allowed=0) as guard:
        guard._before_step(optimizer, ({"loss": [torch.full((1, 2), 1e30)]},), {})
        for bad in (float("nan"), float("-inf")):
            with pytest.raises(NotFinite) as found:
                guard._before_step(optimizer, ({"loss": [torch.tensor([[1.0, bad]])]},), {})
            assert found.value.stream == "loss"


def test_numbers_nobody_has_looked_at_are_found_with_their_step(run: Run) -> None:
    """On an accelerator nothing waits for a step; its numbers are looked at before anything is saved."""
    loop = Loop(really_prepare(run))
    seen: list[dict[str, Any]] = []

    def poison() -> None:
        seen.append({})
        if len(seen) == 2:
            row = loop.log.rows[-1]
            loop.log.streams = ["loss"]
            loop.log.rows = [torch.cat([r, r.new_tensor([1.0])]) for r in loop.log.rows]
            loop.log.rows[-1] = torch.cat([row, row.new_tensor([float("nan")])])

    with pytest.raises(Diverged, match="epoch 1, step 1: the gradient of stream 'loss' is nan"):
        for _ in loop.records(lambda: (poison(), loop.check())[0]):
            pass
