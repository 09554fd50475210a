"""Several runs, one after the other or in a few processes; each run is the same either way."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from ..train import Record, Run, execute


@dataclass(frozen=True)
class Job:
    """A run and the folder it goes to."""

    title: str
    run: Run
    folder: Path


@dataclass(frozen=True)
class Event:
    """An epoch of a job is over (``epoch`` of ``epochs``), or the job is: ``done``."""

    job: int
    epoch: int
    epochs: int
    top1: float
    images_per_s: float = 0.0
    done: bool = False


@dataclass(frozen=True)
class Options:
    """How jobs treat their folders: as in :func:`fractionate.train.execute`."""

    overwrite: bool = False
    resume: bool = False
    command: tuple[str, ...] = ()


Listener = Callable[[Event], None]


def run_jobs(jobs: Sequence[Job], options: Options, listen: Listener, workers: int = 1) -> None:
    """Train every job and leave its run folder behind.

    Args:
        jobs: what to train.
        options: what to do with folders that exist.
        listen: called with every event, always in this process.
        workers: processes; 1 trains here. More start fresh interpreters, so a script of your own must then guard its
            entry point with ``if __name__ == "__main__"``.

    Raises:
        Exception: whatever the first failing job raised; jobs that have not begun are dropped.
    """
    for event in _here(jobs, options, listen) if workers == 1 else _in_processes(jobs, options, workers):
        listen(event)


def _here(jobs: Sequence[Job], options: Options, listen: Listener) -> Iterator[Event]:
    for number, job in enumerate(jobs):
        yield _train(number, job, options, listen)


def _train(number: int, job: Job, options: Options, listen: Listener) -> Event:
    epochs = job.run.epochs

    def on_record(record: Record) -> None:
        listen(Event(number, record.epoch, epochs, record.test.top1, record.images_per_s))

    facts = execute(
        job.run,
        job.folder,
        on_record=on_record,
        overwrite=options.overwrite,
        resume=options.resume,
        command=options.command,
    )
    return Event(number, epochs, epochs, facts["last_top1"], done=True)


_outbox: SimpleQueue[Event | None] | None = None  # of a worker process, set once when it starts


def _in_processes(jobs: Sequence[Job], options: Options, workers: int) -> Iterator[Event]:
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads in an unknown state
    inbox: SimpleQueue[Event | None] = context.SimpleQueue()
    pool = ProcessPoolExecutor(workers, context, initializer=_open, initargs=(inbox,))
    try:
        futures = [pool.submit(_train_there, n, job, options) for n, job in enumerate(jobs)]
        for future in futures:
            future.add_done_callback(lambda _: inbox.put(None))
        waiting = len(futures)
        while waiting:
            event = inbox.get()
            if event is not None:
                yield event
                continue
            waiting -= 1
            failed = next((f for f in futures if f.done() and not f.cancelled() and f.exception()), None)
            if failed:
                failed.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _open(queue: SimpleQueue[Event | None]) -> None:
    global _outbox
    _outbox = queue


def _train_there(number: int, job: Job, options: Options) -> None:
    assert _outbox is not None
    send = partial(SimpleQueue.put, _outbox)
    send(_train(number, job, options, send))
