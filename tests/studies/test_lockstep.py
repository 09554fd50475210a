"""Runs side by side end where each ends alone: to the last bit of weights, buffers, optimizer state and metrics."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import rich.style  # noqa: F401 (draws a number when it is imported for the first time)
import torch
from torch import Tensor, nn

from fractionate.config.optimizers import AdamW, LearningRate, Optimizer
from fractionate.config.run import Monitors, Network, Run
from fractionate.models import create
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import in_turns, run_in_folder
from fractionate.runs.stop import Stop, Stopped
from fractionate.studies.jobs import Event, Job, Options, run_jobs
from fractionate.studies.turns import in_lockstep
from fractionate.tasks import Diverged
from fractionate.teachers.live import LiveTeacher
from fractionate.train.lockstep import Common
from tests.train.runs import teacher_file, tiny

TIMES = ("seconds", "images_per_s")
SAME = ("kd", "dkd", "gdkd", "dkd+deepkd", "dkd+deepkd(rule=published-code)", "kd+dot", "ce")
TWO_VIEWS = ("mlkd", "crld")


@pytest.fixture
def taught(tmp_path: Path) -> str:
    return teacher_file(tmp_path)


def jobs_of(runs: Sequence[Run], folder: Path) -> list[Job]:
    return [Job(f"{run.method.title} {n}", run, folder / str(n)) for n, run in enumerate(runs)]


def seeded() -> None:
    """The generators that every run begins with as it finds them."""
    random.seed(0)
    numpy.random.seed(0)  # noqa: NPY002 (what other code draws from)


def side_by_side(jobs: Sequence[Job], options: Options = Options()) -> list[Event]:  # noqa: B008
    events: list[Event] = []
    seeded()
    run_jobs(jobs, options, events.append, units=[tuple(range(len(jobs)))])
    return events


def end_of(folder: Path) -> dict[str, Any]:
    """Everything a run leaves behind but its times, and generators of the process that no run has seeded."""
    state = torch.load(folder / "last.ckpt", weights_only=True)
    log = {k: v for k, v in state["log"].items() if k != "seconds"}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    metrics = [{k: v for k, v in row.items() if k not in TIMES} for row in rows]
    kept = {k: v for k, v in state.items() if k not in ("log", "notes")}
    kept["random"] = {k: kept["random"][k] for k in ("torch", "cuda")}
    return {**kept, "log": log, "metrics": metrics, "student file": (folder / "student.safetensors").read_bytes()}


def assert_same_bits(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, where
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same_bits(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for n, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same_bits(x, y, f"{where}/{n}")
    else:
        assert a == b, where


def assert_as_alone(runs: Sequence[Run], folder: Path, together: Path) -> None:
    for n, run in enumerate(runs):
        seeded()
        run_jobs([Job("alone", run, folder / "alone" / str(n))], Options(), lambda event: None)
        assert_same_bits(end_of(folder / "alone" / str(n)), end_of(together / str(n)), run.method.title)


@pytest.mark.parametrize("methods", [SAME, TWO_VIEWS], ids=["one view", "two views"])
def test_students_side_by_side_end_where_each_ends_alone(
    methods: Sequence[str], tmp_path: Path, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ask = LiveTeacher.__call__

    def counted(self: LiveTeacher, batch: Any) -> Any:
        asked.append(len(batch))
        return ask(self, batch)

    monkeypatch.setattr(LiveTeacher, "__call__", counted)
    teacher = Network("convnet_8_16", taught)
    runs = [tiny(method, teacher=teacher, epochs=2) for method in methods]
    if methods is TWO_VIEWS:
        runs = [replace(run, data=replace(run.data, strong="cutout")) for run in runs]
    events = side_by_side(jobs_of(runs, tmp_path / "together"))
    assert sorted(event.job for event in events if event.done) == list(range(len(runs)))
    assert RunFolder(tmp_path / "together" / "0").summary()["together"] == len(runs)
    checked = sum(run.method.distils for run in runs)  # on one batch, before anything is trained
    assert len(asked) == checked + 2 * 4  # epochs and steps: once for all of them
    assert_as_alone(runs, tmp_path, tmp_path / "together")


class Forgetful(nn.Module):
    """A student that draws from every generator without a name at each step."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.net, self.drop = create("convnet_4_8", num_classes=num_classes), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        # The checker of shapes draws from Python's generator as well, at its own times.
        drawn = random.random() if os.environ.get("FRACTIONATE_SHAPE_CHECKS") == "off" else 0.0
        scale = 1 + drawn + numpy.random.random() if self.training else 1  # noqa: NPY002 (as such code does)
        logits: Tensor = self.net(self.drop(x)) * scale
        return logits


def forgetful(num_classes: int) -> nn.Module:
    return Forgetful(num_classes)


LOOKS = 3  # times that a student is run in training mode before it trains


def greedy(num_classes: int) -> nn.Module:
    """A student that writes into the images that it is given, once it has been looked at."""

    class Greedy(Forgetful):
        seen = 0

        def forward(self, x: Tensor) -> Tensor:
            self.seen += self.training
            return super().forward(x.mul_(2) if self.training and self.seen > LOOKS else x)

    return Greedy(num_classes)


def of_all_kinds(taught: str) -> list[Run]:
    """Runs that differ in everything in which runs side by side may."""
    run = tiny("dkd+deepkd", teacher=Network("convnet_8_16", taught), epochs=3, accumulate=2)
    return [
        replace(run, ema=0.9, monitors=Monitors(gsnr_window=2, norms=True)),
        replace(tiny("kd", teacher=run.teacher, accumulate=2), student=Network(f"{__name__}:forgetful"), epochs=2),
        replace(run, optimizer=AdamW(lr=0.01), learning_rate=LearningRate("cosine", per="step")),
        replace(run, method=tiny("dkd").method, combine="pcgrad", optimizer=Optimizer(lr=0.01, clip=1.0)),
    ]


def test_runs_of_all_kinds_with_lengths_and_generators_of_their_own(tmp_path: Path, taught: str) -> None:
    runs = of_all_kinds(taught)
    threads = torch.get_num_threads()
    side_by_side(jobs_of(runs, tmp_path / "together"))
    assert torch.get_num_threads() == threads
    assert_as_alone(runs, tmp_path, tmp_path / "together")


def test_teacher_tables_are_read_as_by_one_alone(tmp_path: Path, taught: str) -> None:
    runs = [tiny(m, teacher=Network("convnet_8_16", taught), teacher_table="lazy", epochs=1) for m in ("kd", "dkd")]
    runs = [replace(run, teacher_table_place="memory") for run in runs]
    side_by_side(jobs_of(runs, tmp_path / "together"))
    assert_as_alone(runs, tmp_path, tmp_path / "together")


def stopped_after(run: Run, folder: Path, steps: int) -> None:
    """Leave a run that was asked to stop after so many steps."""
    stop, taken = Stop(), 0

    def count(epochs: float, speed: float) -> None:
        nonlocal taken
        taken += 1
        if taken == steps:
            stop.ask("SIGTERM")

    with pytest.raises(Stopped):
        run_in_folder(run, folder, stop=stop, on_step=count)


def test_runs_that_stopped_in_different_places_go_on_side_by_side(tmp_path: Path, taught: str) -> None:
    """One inside its second epoch, one inside its first, one not begun, one finished."""
    runs = [tiny(m, teacher=Network("convnet_8_16", taught)) for m in ("kd", "dkd+deepkd", "gdkd", "ce")]
    jobs = jobs_of(runs, tmp_path / "together")
    seeded()
    stopped_after(runs[0], jobs[0].folder, 4)  # an epoch's last step is not told
    seeded()
    stopped_after(runs[1], jobs[1].folder, 2)
    seeded()
    run_jobs(jobs[3:], Options(), lambda event: None)
    side_by_side(jobs, Options(resume=True))
    assert_as_alone(runs, tmp_path, tmp_path / "together")


def test_all_stop_when_asked_and_any_of_them_goes_on_alone(tmp_path: Path, taught: str) -> None:
    runs = [tiny(m, teacher=Network("convnet_8_16", taught)) for m in ("kd", "dkd+deepkd")]
    jobs, stop = jobs_of(runs, tmp_path / "together"), Stop()
    common, steps = Common(), 0

    def count(epochs: float, speed: float) -> None:
        nonlocal steps
        steps += 1
        if steps == 9:
            stop.ask("SIGTERM")

    seeded()
    turns = [(j.title, in_turns(j.run, j.folder, stop=stop, on_step=count, common=common)) for j in jobs]
    with pytest.raises(Stopped):
        in_lockstep(turns, stop, common)
    assert not any(RunFolder(job.folder).finished for job in jobs)
    for job in jobs:
        run_jobs([job], Options(resume=True), lambda event: None)
    assert_as_alone(runs, tmp_path, tmp_path / "together")


def test_one_that_diverges_leaves_the_others_alone(tmp_path: Path, taught: str) -> None:
    runs = [tiny(m, teacher=Network("convnet_8_16", taught)) for m in ("kd", "dkd", "gdkd")]
    wild = replace(runs[1], optimizer=Optimizer(lr=1e30))
    jobs = jobs_of([runs[0], wild, runs[2]], tmp_path / "together")
    with pytest.warns(UserWarning, match="the runs beside it go on"), pytest.raises(Diverged, match="diverged"):
        side_by_side(jobs)
    assert (jobs[1].folder / "DIVERGED.ckpt").is_file()
    assert not RunFolder(jobs[1].folder).finished
    for n in (0, 2):
        run_jobs([Job("alone", runs[n], tmp_path / "alone" / str(n))], Options(), lambda event: None)
        assert (jobs[n].folder / "student.safetensors").read_bytes() == (
            tmp_path / "alone" / str(n) / "student.safetensors"
        ).read_bytes()


def test_one_that_writes_into_the_batch_is_found_out(tmp_path: Path, taught: str) -> None:
    run = tiny("kd", teacher=Network("convnet_8_16", taught))
    jobs = jobs_of([replace(run, student=Network(f"{__name__}:greedy")), run], tmp_path)
    with pytest.warns(UserWarning, match="stop now"), pytest.raises(ValueError, match="was written to by one of them"):
        side_by_side(jobs)


def test_runs_with_other_batches_are_refused_beside_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seed 1, has other batches"):
        side_by_side(jobs_of([tiny("ce"), tiny("ce", seed=1)], tmp_path))


KILLED = """
import os, signal, sys
from pathlib import Path
from fractionate.studies.jobs import Options, run_jobs
from tests.studies.test_lockstep import jobs_of, of_all_kinds, seeded

events = 0
def listen(event):
    global events
    events += event.score is not None
    if events == 6:
        os.kill(os.getpid(), signal.SIGKILL)

seeded()
run_jobs(jobs_of(of_all_kinds(sys.argv[1]), Path(sys.argv[2])), Options(), listen, units=[(0, 1, 2, 3)])
"""


@pytest.mark.slow
def test_after_kill_9_all_go_on_side_by_side_to_the_same_bits(tmp_path: Path, taught: str) -> None:
    """In the middle of the second epoch's ends: some have a checkpoint of two epochs, others of one."""
    folder = tmp_path / "together"
    done = subprocess.run([sys.executable, "-c", KILLED, taught, str(folder)], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-500:]
    runs = of_all_kinds(taught)
    side_by_side(jobs_of(runs, folder), Options(resume=True))
    assert_as_alone(runs, tmp_path, folder)
