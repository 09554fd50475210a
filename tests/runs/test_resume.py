"""A run that is stopped anywhere and goes on ends as if nothing had happened, to the last bit."""

from __future__ import annotations

import itertools
import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fractionate.config.data import Data
from fractionate.config.optimizers import AdamW, LearningRate, Optimizer
from fractionate.config.run import Monitors, Network, Run
from fractionate.models import create
from fractionate.runs.checkpoint import random_state, set_random_state
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.runs.stop import Stop, Stopped
from fractionate.train.average import Average
from fractionate.train.build import prepare
from tests.train.runs import teacher_file, tiny

TIMING = ("seconds", "images_per_s", "data_wait")
WATCHED = Monitors(gsnr_window=5, cosines=True, norms=True)
ADAMW = AdamW(lr=0.003, weight_decay=0.05, decay="weights", clip=1.0)
TWO_VIEWS = Data(labels_per_class=2, batch_size=5, shift=1, strong="cutout")


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return Network("convnet_8_16", checkpoint=teacher_file(tmp_path_factory.mktemp("teacher")))


def stop_after(steps: int) -> Stop:
    """Asks to stop after so many steps; the first two questions are asked before training."""
    questions = itertools.count()
    return Stop(elsewhere=lambda: next(questions) > steps)


def outcome(folder: Path) -> tuple[list[dict[str, Any]], bytes, dict[str, Any]]:
    """Metrics and summary without what differs from run to run, and the weights as they lie on disk."""
    run = RunFolder(folder)
    rows = [{k: v for k, v in row.items() if k not in TIMING} for row in run.metrics()]
    facts = {k: v for k, v in run.summary().items() if k not in ("seconds", "changes")}
    return rows, run.student.read_bytes(), facts


def broken_into(run: Run, folder: Path, pieces: tuple[int, ...]) -> None:
    for steps in pieces:
        with pytest.raises(Stopped):
            run_in_folder(run, folder, resume=True, stop=stop_after(steps))
        random.random()  # whatever the next process has drawn before
        torch.rand(3)
    run_in_folder(run, folder, resume=True)


KINDS: dict[str, dict[str, Any]] = {
    "ce": {},
    "kd": {"learning_rate": LearningRate("cosine", warmup_epochs=2, per="step")},
    "gdkd(k=3)": {"ema": 0.9},
    "kd+lskd": {"optimizer": Optimizer(lr=0.01, nesterov=True)},
    "dkd+dot": {"monitors": WATCHED, "ema": 0.7},
    "dkd+deepkd": {"merge": False},
    "dkd+deepkd, adamw": {"optimizer": ADAMW, "monitors": Monitors(update_rms=True), "ema": 0.8},
    "ctkd, adamw": {"optimizer": ADAMW, "accumulate": 2, "learning_rate": LearningRate("cosine", per="step")},
    "dkd+deepkd(rule=published-code)": {"monitors": WATCHED},
    "gdkd(k=4)": {"combine": "pcgrad", "monitors": WATCHED},
    "dkd": {"combine": "min_norm_log", "optimizer": AdamW(lr=0.01)},
    "ctkd": {"monitors": WATCHED},
    "skd": {"channels_last": True},
    "sgdkd": {"precision": "bfloat16"},
    "dkd+dot, float16": {"precision": "float16", "optimizer": ADAMW},
    "crld": {"data": TWO_VIEWS},
    "mlkd": {"data": TWO_VIEWS, "monitors": WATCHED},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_in_pieces_equals_the_unbroken_one(kind: str, taught: Network, tmp_path: Path) -> None:
    run = replace(tiny(kind.partition(", ")[0], teacher=taught), **KINDS[kind])
    run_in_folder(run, tmp_path / "whole")
    broken_into(run, tmp_path / "pieces", (2, 4, 3))
    whole, pieces = outcome(tmp_path / "whole"), outcome(tmp_path / "pieces")
    assert pieces[0] == whole[0]
    assert pieces[1] == whole[1]
    assert pieces[2] == whole[2]
    assert len(whole[0]) == 3


@pytest.mark.parametrize("method", ["kd", "dkd+deepkd"])
def test_a_table_of_teacher_logits_changes_nothing_about_it(
    method: str, taught: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows that the interrupted run had stored are read by the one that goes on, which computes fewer of them."""
    run = tiny(method, teacher=taught, teacher_table="lazy")
    for name, pieces in (("whole", ()), ("pieces", (2, 3))):
        monkeypatch.setenv("FRACTIONATE_CACHE", str(tmp_path / f"cache-{name}"))
        broken_into(run, tmp_path / name, pieces)
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 8, 11])
def test_it_does_not_matter_where_a_run_is_stopped(steps: int, taught: Network, tmp_path: Path) -> None:
    run = tiny("dkd+dot", teacher=taught, monitors=WATCHED, ema=0.8, save_every=0)
    whole = tmp_path.parent / "whole"  # shared by the cases
    run_in_folder(run, whole, resume=True)
    broken_into(run, tmp_path / "pieces", (steps,))
    assert outcome(tmp_path / "pieces") == outcome(whole)


def test_what_a_network_draws_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x) * (1 + numpy.random.rand())  # noqa: NPY002

    monkeypatch.setattr(sys.modules["fractionate.train.networks"], "create", lambda *_, **__: Noisy())
    run = tiny("ce", student=Network("noisy"))
    for name, pieces in (("whole", ()), ("pieces", (3, 2))):
        numpy.random.seed(5)  # noqa: NPY002
        broken_into(run, tmp_path / name, pieces)
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")


def test_every_generator_is_put_back() -> None:
    import numpy

    def draw() -> tuple[float, ...]:
        return random.random(), random.gauss(0, 1), numpy.random.rand(), float(torch.rand(()))  # noqa: NPY002

    random.gauss(0, 1)  # which keeps a second number for the next call
    state = random_state()
    first = draw()
    set_random_state(state)
    assert draw() == first


def test_metrics_are_those_of_the_checkpoint(taught: Network, tmp_path: Path) -> None:
    run = tiny("kd", teacher=taught)
    run_in_folder(run, tmp_path / "whole")
    with pytest.raises(Stopped):
        run_in_folder(run, tmp_path / "pieces", stop=stop_after(9))
    metrics = tmp_path / "pieces" / "metrics.jsonl"
    metrics.write_text(
        '{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3}\n{"epo'
    )  # lines that the disk lost, or wrote too early
    run_in_folder(run, tmp_path / "pieces", resume=True)
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")


def test_a_changed_setting_is_applied_from_there_on_and_recorded(taught: Network, tmp_path: Path) -> None:
    run = tiny("kd", teacher=taught)
    run_in_folder(run, tmp_path / "whole")
    with pytest.raises(Stopped):
        run_in_folder(run, tmp_path / "pieces", stop=stop_after(5))
    changed = replace(run, optimizer=replace(run.optimizer, lr=0.05))
    run_in_folder(changed, tmp_path / "pieces", resume=True)
    facts = RunFolder(tmp_path / "pieces").summary()
    assert facts["changes"] == [{"epoch": 2, "step": 5, "fields": {"optimizer.lr": [0.01, 0.05]}}]
    assert RunFolder(tmp_path / "pieces").config() == changed
    whole, pieces = outcome(tmp_path / "whole"), outcome(tmp_path / "pieces")
    assert pieces[0][0] == whole[0][0]
    assert pieces[0][2]["lr"] == pytest.approx(5 * whole[0][2]["lr"])
    assert RunFolder(tmp_path / "whole").summary()["changes"] == []


def test_a_change_is_still_recorded_after_the_next_interruption(taught: Network, tmp_path: Path) -> None:
    run = tiny("kd", teacher=taught)
    with pytest.raises(Stopped):
        run_in_folder(run, tmp_path, stop=stop_after(5))
    longer = replace(run, epochs=4)
    with pytest.raises(Stopped):
        run_in_folder(longer, tmp_path, resume=True, stop=stop_after(2))
    run_in_folder(longer, tmp_path, resume=True)
    facts = RunFolder(tmp_path).summary()
    assert [c["fields"] for c in facts["changes"]] == [{"epochs": [3, 4]}]


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("student.name", {"student": Network("convnet_8_16")}),
        ("data.batch_size", {"data": Data(labels_per_class=2, batch_size=4, shift=1)}),
        ("seed", {"seed": 1}),
    ],
)
def test_what_cannot_change_under_way_is_refused(
    field: str, change: dict[str, Any], taught: Network, tmp_path: Path
) -> None:
    run = tiny("kd", teacher=taught)
    with pytest.raises(Stopped):
        run_in_folder(run, tmp_path, stop=stop_after(5))
    before = (tmp_path / "last.ckpt").read_bytes()
    with pytest.raises(ValueError, match=rf"{field} was .* and is now .*: it cannot change in the middle of a run"):
        run_in_folder(replace(run, **change), tmp_path, resume=True)
    assert (tmp_path / "last.ckpt").read_bytes() == before


def test_a_method_with_other_components_cannot_enter_in_the_middle_of_an_epoch(taught: Network, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run_in_folder(tiny("kd", teacher=taught), tmp_path, stop=stop_after(5))
    with pytest.raises(ValueError, match=r"inside an epoch of a method with components \['task', 'kd'\]"):
        run_in_folder(tiny("dkd", teacher=taught), tmp_path, resume=True)


def test_an_average_follows_the_weights_by_its_formula(taught: Network) -> None:
    net = create("resnet8", num_classes=4)
    average = Average(net, decay=0.75)
    expected = [p.detach().clone() for p in net.parameters()]
    for _ in range(3):
        net(torch.randn(4, 3, 32, 32))  # moves the statistics of the batch norms
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        average.update(net)
        expected = [0.75 * a + 0.25 * p.detach() for a, p in zip(expected, net.parameters(), strict=True)]
    for mine, right in zip(average.net.parameters(), expected, strict=True):
        assert torch.allclose(mine, right, atol=1e-6)
    for mine, theirs in zip(average.net.buffers(), net.buffers(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_average_is_what_is_evaluated_and_kept(taught: Network, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from fractionate.tasks.classification import evaluate
    from fractionate.train.loop import Loop

    run = tiny("kd", teacher=taught, ema=0.5)
    loop = Loop(prepare(run))
    *_, last = loop.records()
    assert loop.average is not None
    assert not torch.equal(*(next(iter(n.parameters())) for n in (loop.average.net, loop.training.student)))
    run_in_folder(run, tmp_path)
    kept = load_file(RunFolder(tmp_path).student)
    for name, value in loop.average.net.state_dict().items():
        assert torch.equal(kept[name], value)
    assert last.test == evaluate(loop.average.net, loop.training.test, loop.training.teacher_seen.top())
    assert RunFolder(tmp_path).summary()["ema"] == 0.5
    without = run_in_folder(replace(run, ema=None), tmp_path / "without")
    assert without["last_loss"] != last.test.loss  # the average changes no training, only what is shown
    plain = [row["train_loss"] for row in RunFolder(tmp_path / "without").metrics()]
    assert plain == [row["train_loss"] for row in RunFolder(tmp_path).metrics()]


def test_the_columns_of_an_interrupted_epoch_cover_all_of_it(taught: Network, tmp_path: Path) -> None:
    run = tiny("kd", teacher=taught, learning_rate=LearningRate("cosine", per="step"))
    broken_into(run, tmp_path, (2,))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["lr"] > rows[1]["lr"] > rows[2]["lr"]
    assert all(row["seconds"] > 0 and row["images_per_s"] > 0 for row in rows)


def test_a_teacher_without_weights_is_the_same_one_in_every_process(tmp_path: Path) -> None:
    run = tiny("kd", teacher=Network("convnet_8_16"))
    torch.rand(7)  # whatever this process has drawn before
    run_in_folder(run, tmp_path / "whole")
    broken_into(run, tmp_path / "pieces", (2, 5))
    assert outcome(tmp_path / "pieces") == outcome(tmp_path / "whole")


def test_labels_alone_are_compared_with_no_teacher_that_knows_nothing(taught: Network, tmp_path: Path) -> None:
    untaught = run_in_folder(tiny("ce", teacher=Network("convnet_8_16")), tmp_path / "untaught")
    compared = run_in_folder(tiny("ce", teacher=taught), tmp_path / "taught")
    assert untaught["agreement"] is None
    assert compared["agreement"] is not None
