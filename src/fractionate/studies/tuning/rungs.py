"""Students that are trained up to a rung and go on from there: just as if they had never been stopped."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..._files import write_atomically
from ..._headlines import SCHEMA_0
from ..._terminal import one_line
from ...runs.folder import RunFolder
from ...runs.runner import run_in_folder
from ...runs.stop import Stop, Stopped
from ...tasks import Diverged
from ...tasks.classification import HEADLINE
from ...train.loop import Record
from ..crew import Crew, without_interrupts
from ..display import display
from ..jobs import Event, Job, Listener, Options

if TYPE_CHECKING:
    from rich.console import Console

WHY = "why.txt"  # beside a run that failed
FAULTS = (Diverged, ValueError, ArithmeticError, RuntimeError, MemoryError)  # of one student, not of the machine


@dataclass(frozen=True)
class Reached:
    """What a student's folder says at the end of an epoch: the headline, and the seconds of training up to there."""

    score: float
    seconds: float
    headline: str


def reached(folder: Path, epoch: int) -> Reached | None:
    """What was measured at the end of an epoch; ``None`` if the run has not come so far."""
    rows = RunFolder(folder).metrics()
    if len(rows) < epoch:
        return None
    row = rows[epoch - 1]
    key = str(row.get("headline", SCHEMA_0))
    score = row.get(f"test_{key}")
    seconds = sum(float(r.get("seconds") or 0) for r in rows[:epoch])
    return Reached(float(score), seconds, key) if isinstance(score, int | float) else None


def why_failed(folder: Path) -> str | None:
    """The sentence about a student that cannot be trained; ``None`` if there is nothing wrong with it."""
    path = folder / WHY
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def train_rung(number: int, job: Job, options: Options, listen: Listener, stop: Stop) -> Event:
    """Train a job to the end of the epoch ``job.until``; a student that fails is an event without a score.

    Raises:
        Stopped: asked to end; the same call goes on.
        OSError: the folder cannot be written.
    """
    until = job.until or job.run.epochs
    listen(Event(number, 0, until))
    if why_failed(job.folder) is None and reached(job.folder, until) is None:
        try:
            _train(number, job, until, options, listen, stop)
        except FAULTS as error:
            job.folder.mkdir(parents=True, exist_ok=True)  # it may have failed before there was one
            write_atomically(job.folder / WHY, one_line(error) + "\n")
    found = reached(job.folder, until)
    if found is None:
        return Event(number, until, until, done=True)
    return Event(number, until, until, found.score, done=True, headline=found.headline)


def _train_unit(unit: Sequence[tuple[int, Job]], options: Options, listen: Listener, stop: Stop) -> None:
    """What a worker process does: the students of a unit, one after the other."""
    for number, job in unit:
        listen(train_rung(number, job, options, listen, stop))


def _train(number: int, job: Job, until: int, options: Options, listen: Listener, stop: Stop) -> None:
    here = Stop(elsewhere=lambda: stop.reason is not None)

    def on_record(record: Record) -> None:
        test = record.test
        told = (test.score, test.headline) if test else (None, HEADLINE)
        listen(Event(number, record.epoch, until, told[0], record.images_per_s, headline=told[1]))
        if until <= record.epoch < job.run.epochs:
            here.ask("budget")  # saves, and ends this call; the next rung goes on

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # said once, when the teacher was trained on these images
            run_in_folder(
                job.run,
                job.folder,
                on_record=on_record,
                on_step=lambda done, speed: listen(Event(number, done, until, images_per_s=speed)),
                resume=True,
                command=options.command,
                stop=here,
                save_seconds=options.save_seconds,
            )
    except Stopped as stopped:
        if stop.reason:
            raise Stopped(stop.reason, stopped.where) from None


def train_to(
    jobs: Sequence[Job], options: Options, console: Console, title: str, workers: int, beat: Callable[[], None]
) -> None:
    """Train every job up to its ``until``, one after the other or in a few processes; no number depends on how many.

    Args:
        jobs: students, each with its folder; one that has come so far already is left as it is.
        options: their ``deadline`` ends all.
        console: where progress goes.
        title: of the bar that counts them.
        workers: processes.
        beat: called with every event.

    Raises:
        Stopped: a signal or the deadline; all is saved.
    """
    with display(console, jobs, title, ends=False) as show, Stop(options.deadline) as stop:

        def listen(event: Event) -> None:
            show(event)
            beat()

        if workers < 2 or len(jobs) < 2:
            for number, job in enumerate(jobs):
                if stop.reason:
                    raise Stopped(stop.reason)
                listen(train_rung(number, job, options, listen, stop))
            return
        crew = Crew(jobs, [(n,) for n in range(len(jobs))], options, listen, _train_unit)
        try:
            with without_interrupts():
                crew.hire(min(workers, len(jobs)))
            crew.work(stop)
        except KeyboardInterrupt:
            crew.kill()
            raise
        finally:
            crew.dismiss()
    crew.judge(stop)
    if stop.reason and any(not _done(job) for job in jobs):
        raise Stopped(stop.reason)


def _done(job: Job) -> bool:
    return reached(job.folder, job.until or job.run.epochs) is not None or why_failed(job.folder) is not None
