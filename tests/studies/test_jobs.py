"""Jobs: one process or several, the numbers are the same; what fails is heard of."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fractionate.config.optimizers import Optimizer
from fractionate.config.run import Network
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.runs.stop import Stopped, deadline
from fractionate.studies import jobs as jobs_module
from fractionate.studies.display import Lines, display
from fractionate.studies.jobs import Event, Job, Options, run_jobs
from fractionate.train.build import prepare
from tests.train.runs import teacher_file, tiny


def jobs(folder: Path, taught: str, count: int = 3) -> list[Job]:
    run = tiny("kd", teacher=Network("convnet_8_16", taught), save_every=0)
    return [Job(f"job {n}", replace(run, seed=n), folder / f"seed-{n}") for n in range(count)]


def listened(work: list[Job], workers: int, options: Options = Options()) -> list[Event]:  # noqa: B008
    events: list[Event] = []
    run_jobs(work, options, events.append, workers)
    return events


@pytest.fixture
def taught(tmp_path: Path) -> str:
    return teacher_file(tmp_path)


def test_every_job_reports_its_beginning_every_epoch_and_its_end(tmp_path: Path, taught: str) -> None:
    events = listened(jobs(tmp_path, taught, 2), workers=1)
    outer = [e for e in events if not e.epoch or e.score is not None]
    assert [(e.job, e.epoch, e.done) for e in outer] == [
        (job, *rest) for job in (0, 1) for rest in ((0, False), (1, False), (2, False), (3, False), (3, True))
    ]
    facts = RunFolder(tmp_path / "seed-1").summary()
    assert events[-1].score == facts["last_top1"]


def test_inside_an_epoch_a_job_tells_how_much_of_it_is_over(
    tmp_path: Path, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "EVERY", 0.0)
    work = jobs(tmp_path, taught, 1)
    events = listened(work, workers=1)
    inside = [e for e in events if e.epoch and e.score is None]
    steps = len(prepare(work[0].run).train)
    parts = [epoch + step / steps for epoch in range(3) for step in range(1, steps)]
    assert [e.epoch for e in inside] == pytest.approx(parts)
    assert [e.epoch for e in events] == sorted(e.epoch for e in events)
    assert all(e.images_per_s > 0 for e in inside)


@pytest.mark.slow
def test_the_number_of_processes_changes_no_number(tmp_path: Path, taught: str) -> None:
    alone, together = jobs(tmp_path / "one", taught, 2), jobs(tmp_path / "two", taught, 2)
    listened(alone, workers=1)
    events = listened(together, workers=2)
    assert sorted(e.job for e in events if e.done) == [0, 1]
    for a, b in zip(alone, together, strict=True):
        assert a.run == b.run
        assert RunFolder(a.folder).student.read_bytes() == RunFolder(b.folder).student.read_bytes()


@pytest.mark.slow
def test_a_failure_in_another_process_is_raised_here(tmp_path: Path, taught: str) -> None:
    work = jobs(tmp_path, taught, 1)[0]
    broken = replace(work, run=replace(work.run, teacher=Network("convnet_8_16", "nowhere.pth")))
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at nowhere.pth"):
        listened([broken], workers=2)


def test_a_failure_here_stops_the_rest(tmp_path: Path, taught: str) -> None:
    work = jobs(tmp_path, taught, 2)
    diverging = replace(work[0], run=replace(work[0].run, optimizer=Optimizer(lr=1e30)))
    with pytest.raises(ArithmeticError, match="training diverged"):
        listened([diverging, work[1]], workers=1)
    assert not RunFolder(tmp_path / "seed-0").finished
    assert not work[1].folder.exists()


def test_finished_jobs_are_not_trained_again(tmp_path: Path, taught: str) -> None:
    listened(jobs(tmp_path, taught, 1), workers=1)
    written = (tmp_path / "seed-0" / "metrics.jsonl").stat().st_mtime_ns
    events = listened(jobs(tmp_path, taught, 1), workers=1, options=Options(resume=True))
    assert [(e.epoch, e.done) for e in events] == [(0, False), (3, True)]
    assert (tmp_path / "seed-0" / "metrics.jsonl").stat().st_mtime_ns == written


def shown(terminal: bool) -> str:
    out = StringIO()
    console = Console(file=out, force_terminal=terminal, width=100)
    work = [Job("kd, seed 0", tiny("ce"), Path("nowhere"))]
    with display(console, work) as listen:
        listen(Event(0, 0, 2))
        listen(Event(0, 1, 2, 91.25, 1000.0))
        listen(Event(0, 2, 2, 92.5, 1000.0))
        listen(Event(0, 2, 2, 92.5, done=True))
    return out.getvalue()


def test_a_long_run_away_from_a_terminal_says_soon_and_then_every_minute_how_far_it_is_and_how_long_it_takes() -> None:
    out, seconds = StringIO(), iter([0.0, 0.0, *(40.0 * epoch for epoch in range(1, 7))])
    work = [Job(f"kd, seed {n}", replace(tiny("ce"), epochs=240), Path("nowhere")) for n in (0, 1)]
    listen = Lines(Console(file=out, width=40), work, clock=lambda: next(seconds))
    listen(Event(0, 0, 240))
    for epoch in range(1, 7):
        listen(Event(0, epoch, 240, 10.0 * epoch, 1234.5))
    # 40 s an epoch, 479 epochs left in both jobs after the first
    first, *others = out.getvalue().splitlines()
    assert first == "[0/2, 40 s] kd, seed 0: epoch 1 of 240, 10.00 % top-1, 1,234 images/s, about 5 h 19 min left"
    assert [line.split()[1] for line in others] == ["120", "200"]


def test_a_long_epoch_away_from_a_terminal_says_every_minute_how_much_of_it_is_over() -> None:
    out, seconds = StringIO(), iter([0.0, 0.0, *(30.0 * part for part in range(1, 9))])
    listen = Lines(Console(file=out), [Job("kd", tiny("ce"), Path("nowhere"))], clock=lambda: next(seconds))
    listen(Event(0, 0, 3))
    for part in range(1, 6):
        listen(Event(0, part / 6, 3, images_per_s=50.0))
    listen(Event(0, 1, 3, 20.0, 50.0))
    for part in (7, 8):
        listen(Event(0, part / 6, 3, images_per_s=50.0))
    assert out.getvalue().splitlines() == [
        "[0/1, 30 s] kd: 17 % of epoch 1 of 3, 50 images/s",
        "[0/1, 90 s] kd: 50 % of epoch 1 of 3, 50 images/s, about 7 min left",
        "[0/1, 150 s] kd: 83 % of epoch 1 of 3, 50 images/s, about 6 min left",
        "[0/1, 240 s] kd: 33 % of epoch 2 of 3, 20.00 % top-1, 50 images/s, about 5 min left",
    ]


def test_the_time_left_does_not_count_how_long_the_first_step_took_to_come() -> None:
    out, seconds = StringIO(), iter([0.0, 1.0, 100.0, 101.0, 161.0])
    work = [Job("kd", replace(tiny("ce"), epochs=10), Path("nowhere"))]
    listen = Lines(Console(file=out), work, clock=lambda: next(seconds))
    listen(Event(0, 0, 10))
    for part in (0.01, 0.02, 0.62):  # the first step came after 100 s, and an epoch takes 100 s from then on
        listen(Event(0, part, 10, images_per_s=50.0))
    assert out.getvalue().splitlines() == [
        "[0/1, 100 s] kd: 1 % of epoch 1 of 10, 50 images/s",
        "[0/1, 161 s] kd: 62 % of epoch 1 of 10, 50 images/s, about 16 min left",
    ]


def test_a_resumed_run_reckons_only_with_what_it_trained_itself() -> None:
    out, seconds = StringIO(), iter([0.0, 0.0, 1.0, 61.0])
    work = [Job("kd", replace(tiny("ce"), epochs=100), Path("nowhere"))]
    listen = Lines(Console(file=out), work, clock=lambda: next(seconds))
    for event in (Event(0, 0, 100), Event(0, 49.5, 100), Event(0, 50, 100, 20.0, 10.0)):
        listen(event)
    assert out.getvalue() == "[0/1, 61 s] kd: epoch 50 of 100, 20.00 % top-1, 10 images/s, about 1 h 42 min left\n"


def test_a_bar_moves_inside_an_epoch_and_keeps_the_accuracy_of_the_last_one() -> None:
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with display(console, [Job("kd", tiny("ce"), Path("nowhere"))]) as listen:
        bars = listen.progress
        for event in (Event(0, 0, 2), Event(0, 0.5, 2)):  # a resumed job
            listen(event)
        assert (bars.tasks[-1].completed, bars.tasks[-1].speed) == (0.5, None)
        for event in (Event(0, 1, 2, 91.25, 1000.0), Event(0, 1.5, 2, images_per_s=1200.0)):
            listen(event)
        bar = bars.tasks[-1]
        assert (bar.completed, bar.total, bar.fields["note"]) == (1.5, 2, "91.25 %  1,200 images/s")


def test_the_last_epoch_is_left_to_the_line_of_the_finished_run() -> None:
    out, seconds = StringIO(), iter([0.0, 300.0, 301.0])
    listen = Lines(Console(file=out), [Job("kd", tiny("ce"), Path("nowhere"))], clock=lambda: next(seconds))
    listen(Event(0, 3, 3, 90.0, 1000.0))
    listen(Event(0, 3, 3, 90.0, done=True))
    assert out.getvalue() == "[1/1, 301 s] kd: 90.00 % top-1\n"


@pytest.mark.parametrize(("key", "words"), [("miou", "71.25 % mIoU"), ("ap", "71.25 % AP"), ("pck", "71.25 pck")])
def test_a_line_and_a_bar_name_the_headline_of_the_task(key: str, words: str) -> None:
    out, bars = StringIO(), StringIO()
    work = [Job("kd", tiny("ce"), Path("nowhere"))]
    Lines(Console(file=out), work)(Event(0, 3, 3, 71.25, done=True, headline=key))
    assert out.getvalue().endswith(f"kd: {words}\n")
    with display(Console(file=bars, force_terminal=True, width=100), work) as listen:
        listen(Event(0, 0, 2))
        listen(Event(0, 1, 2, 71.25, 1000.0, headline=key))
        value = words.rpartition(" ")[0]
        assert listen.progress.tasks[-1].fields["note"] == f"{value}  1,000 images/s"


def test_a_teacher_away_from_a_terminal_has_no_line_for_its_end() -> None:
    out = StringIO()
    with display(Console(file=out), [Job("teacher", tiny("ce"), Path("nowhere"))], ends=False) as listen:
        listen(Event(0, 3, 3, 90.0, done=True))
    assert out.getvalue() == ""


def test_a_short_run_away_from_a_terminal_has_one_plain_line() -> None:
    text = shown(terminal=False)
    assert text.count("\n") == 1
    assert "kd, seed 0: 92.50 % top-1" in text
    assert "\x1b" not in text


def test_on_a_terminal_there_are_bars_that_vanish() -> None:
    assert "\x1b[" in shown(terminal=True)


@pytest.mark.slow
def test_a_signal_stops_the_jobs_of_all_processes_and_they_go_on(tmp_path: Path, taught: str) -> None:
    together = [replace(job, run=replace(job.run, epochs=2000)) for job in jobs(tmp_path, taught, 2)]

    seen: list[Event] = []

    def send(event: Event) -> None:
        seen.extend([event] if event.epoch else [])
        if event.epoch and len(seen) == 1:  # a second signal would end this process
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped, match=r"asked to stop in .*seed-. after step") as stopped:
        run_jobs(together, Options(), send, workers=2)
    assert stopped.value.exit_code == 143
    assert any((job.folder / "last.ckpt").is_file() for job in together)
    assert not any(RunFolder(job.folder).finished for job in together)
    short = [replace(job, run=replace(job.run, epochs=len(RunFolder(job.folder).metrics()) + 1)) for job in together]
    listened(short, workers=1, options=Options(resume=True))
    assert all(RunFolder(job.folder).finished for job in short)


def test_a_resumed_job_tells_first_where_it_goes_on(tmp_path: Path, taught: str) -> None:
    job = jobs(tmp_path, taught, 1)[0]

    def end(epochs_done: float, images_per_s: float) -> None:
        if epochs_done > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_folder(job.run, job.folder, on_step=end, save_steps=1)
    events = listened([job], workers=1, options=Options(resume=True))
    assert events[:2] == [Event(0, 0, 3), Event(0, 0.75, 3)]  # of four steps to an epoch, three were saved
    assert events[2].epoch > 0.75
    assert events[-1].done


def test_a_deadline_ends_all_jobs_and_a_later_call_goes_on(tmp_path: Path, taught: str) -> None:
    work = jobs(tmp_path, taught, 2)
    with pytest.raises(Stopped, match="the time budget is used up"):
        listened(work, workers=1, options=Options(deadline=deadline(0)))
    assert not any(job.folder.exists() for job in work)
    listened(work, workers=1, options=Options(resume=True, deadline=deadline("1h")))
    assert all(RunFolder(job.folder).finished for job in work)


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "workers", "each"), [(4, 2, 2), (4, 3, 1), (2, 3, 1)])
def test_processes_share_the_threads_of_the_one_that_starts_them(
    threads: int, workers: int, each: int, tmp_path: Path, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNLUCKY_AFTER", str(tmp_path / "threads"))
    student, before = Network("tests.studies.unlucky:counted"), torch.get_num_threads()
    work = [replace(job, run=replace(job.run, student=student, threads=None)) for job in jobs(tmp_path, taught, 3)]
    torch.set_num_threads(threads)
    try:
        listened(work, workers=workers)
    finally:
        torch.set_num_threads(before)
    seen = [line.split() for line in (tmp_path / "threads").read_text(encoding="utf-8").splitlines()]
    assert {int(count) for pid, count in seen if int(pid) != os.getpid()} == {each}


FAILURES = {
    "killed": (
        ChildProcessError,
        "was killed by SIGKILL .*nothing was saved in .*the same command with --resume goes on",
    ),
    "ended": (ChildProcessError, "the process of job 0 ended with code 3"),
    "memory": (MemoryError, None),
    "deaf": (RuntimeError, "Deaf: 1 and 2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", FAILURES)
def test_however_a_process_fails_the_others_stop_saved_and_the_failure_is_heard_of(
    how: str, tmp_path: Path, taught: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNLUCKY_AFTER", str(tmp_path / "seed-1" / "metrics.jsonl"))  # the other one has begun
    work = [replace(job, run=replace(job.run, epochs=100_000)) for job in jobs(tmp_path, taught, 3)]
    student = Network(f"tests.studies.unlucky:{how}")
    work[0] = replace(work[0], run=replace(work[0].run, student=student))
    kind, words = FAILURES[how]
    with (
        pytest.warns(UserWarning, match="job 0 failed.*the other runs stop"),
        pytest.raises(kind, match=words) as found,
    ):
        listened(work, workers=2)
    assert "--overwrite" not in str(found.value)  # which would throw away what the others have saved
    assert (work[1].folder / "last.ckpt").is_file()
    assert not work[2].folder.exists()
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_failure_while_others_say_more_than_a_pipe_holds_does_not_block_them(tmp_path: Path, taught: str) -> None:
    """The listener fails: nobody wants the events any more, and yet they are read."""
    work = [replace(job, run=replace(job.run, epochs=100_000)) for job in jobs(tmp_path, taught, 2)]

    def listen(event: Event) -> None:
        if event.epoch > 1:
            raise ValueError("heard enough")

    with pytest.raises(ValueError, match="heard enough"):
        run_jobs(work, Options(), listen, workers=2)
    assert not multiprocessing.active_children()
