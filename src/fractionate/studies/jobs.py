"""Several runs, one after the other or in a few processes; each run is the same either way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .._headlines import headline_of
from ..config.run import Run
from ..runs.runner import SAVE_SECONDS, Turns, drained, in_turns
from ..runs.stop import Stop
from ..tasks.classification import HEADLINE
from ..train.lockstep import Common
from ..train.loop import Record
from ..world import current
from .crew import Crew, without_interrupts
from .display import Board, boards
from .units import Unit


@dataclass(frozen=True)
class Job:
    """A run and the folder it goes to; ``until`` is the epoch at which a study that goes on later ends it for now."""

    title: str
    run: Run
    folder: Path
    until: int | None = None


@dataclass(frozen=True)
class Event:
    """How far a job is: ``epoch`` of ``epochs`` are over (2.25: a quarter of the third too), or all is: ``done``.

    ``score`` is the value of the ``headline``, measured at the end of an epoch, so it is None inside one. An event
    without images per second tells where the job begins: at epoch 0, then, if it is resumed, where it goes on.
    """

    job: int
    epoch: float
    epochs: int
    score: float | None = None
    images_per_s: float = 0.0
    done: bool = False
    headline: str = HEADLINE


@dataclass(frozen=True)
class Options:
    """How jobs treat their folders and their time: as in :func:`fractionate.runs.run_in_folder`.

    ``deadline`` ends them all: ``fractionate.runs.stop.deadline("9m")`` makes one. ``boards`` show their metrics.
    """

    overwrite: bool = False
    resume: bool = False
    command: tuple[str, ...] = ()
    deadline: float | None = None
    save_seconds: float | None = SAVE_SECONDS
    teacher_at_least: float | None = None
    boards: tuple[Board, ...] = ()


Listener = Callable[[Event], None]
EVERY = 0.25  # least seconds between two events inside an epoch


def run_jobs(
    jobs: Sequence[Job], options: Options, listen: Listener, workers: int = 1, units: Sequence[Unit] | None = None
) -> None:
    """Train every job and leave its run folder behind.

    Args:
        jobs: what to train.
        options: what to do with folders that exist.
        listen: called with every event, always in this process.
        workers: processes; 1 trains here. More start fresh interpreters, so a script of your own must then guard its
            entry point with ``if __name__ == "__main__"``.
        units: numbers of jobs that go side by side in one process, as :func:`fractionate.studies.units.together` finds
            them; ``None``: one at a time.

    Raises:
        ValueError: two jobs with the same folder.
        Stopped: a signal (the first one; a second one ends everything at once) or the deadline ended a job early; it
            and those that have not begun go on when they are asked for again with ``resume``.
        ChildProcessError: the process of a job was killed or ended by itself.
        Exception: whatever the first failing job raised. Jobs that have not begun are dropped; those of other processes
            stop, saved. Beside a job that diverges the others of its unit go on to their end.
    """
    if workers > 1 and not current().alone:
        raise ValueError("torchrun has started the processes already: leave --workers out")
    folders = [job.folder for job in jobs]
    if twice := [str(folder) for folder in folders if folders.count(folder) > 1]:
        raise ValueError(f"two runs would be written to {twice[0]}; name every method once")
    units = [(n,) for n in range(len(jobs))] if units is None else units
    if workers > 1:
        _in_processes(jobs, units, options, listen, min(workers, len(units)))
        return
    with Stop(options.deadline) as stop:
        for unit in units:
            _train([(n, jobs[n]) for n in unit], options, listen, stop)


def _train(unit: Sequence[tuple[int, Job]], options: Options, listen: Listener, stop: Stop) -> None:
    """Train one job, or several side by side."""
    if len(unit) == 1:
        drained(_turns(*unit[0], options, listen, stop))
        return
    from .turns import in_lockstep

    common = Common()
    in_lockstep([(job.title, _turns(n, job, options, listen, stop, common)) for n, job in unit], stop, common)


def _turns(
    number: int, job: Job, options: Options, listen: Listener, stop: Stop, common: Common | None = None
) -> Turns[None]:
    epochs = job.run.epochs
    listen(Event(number, 0, epochs))
    with boards(options.boards if current().main else (), job.run, job.folder) as show:

        def on_record(record: Record) -> None:
            test = record.test
            told = (test.score, test.headline) if test else (None, HEADLINE)
            listen(Event(number, record.epoch, epochs, told[0], record.images_per_s, headline=told[1]))
            show(record)

        told = -math.inf

        def on_step(epochs_done: float, images_per_s: float) -> None:
            nonlocal told
            if (now := time.monotonic()) - told >= EVERY:
                told = now
                listen(Event(number, epochs_done, epochs, images_per_s=images_per_s))

        facts = yield from in_turns(
            job.run,
            job.folder,
            on_record=on_record,
            on_step=on_step,
            overwrite=options.overwrite,
            resume=options.resume,
            command=options.command,
            stop=stop,
            save_seconds=options.save_seconds,
            teacher_at_least=options.teacher_at_least,
            common=common,
        )
    key = headline_of(facts)
    listen(Event(number, epochs, epochs, facts[f"last_{key}"], done=True, headline=key))


def _in_processes(jobs: Sequence[Job], units: Sequence[Unit], options: Options, listen: Listener, workers: int) -> None:
    crew = Crew(jobs, units, options, listen, _train)
    with Stop(options.deadline) as stop:
        try:
            with without_interrupts():  # Ctrl-C reaches every process of a terminal; this one passes it on
                crew.hire(workers)
            crew.work(stop)
        except KeyboardInterrupt:  # the second one
            crew.kill()
            raise
        finally:
            crew.dismiss()
    crew.judge(stop)
