"""Several runs, one after the other or in a few processes; each run is the same either way."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event as Flag
from pathlib import Path

from ..config.run import Run
from ..runs.runner import SAVE_SECONDS, run_in_folder
from ..runs.stop import Stop, Stopped
from ..train.loop import Record
from ..world import current
from .display import Board, boards


@dataclass(frozen=True)
class Job:
    """A run and the folder it goes to."""

    title: str
    run: Run
    folder: Path


@dataclass(frozen=True)
class Event:
    """How far a job is: ``epoch`` of ``epochs`` are over (2.25: a quarter of the third too), or all is: ``done``.

    ``top1`` is measured at the end of an epoch, so it is None inside one. An event without images per second tells
    where the job begins: at epoch 0, then, if it is resumed, where it goes on.
    """

    job: int
    epoch: float
    epochs: int
    top1: float | None = None
    images_per_s: float = 0.0
    done: bool = False


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


def run_jobs(jobs: Sequence[Job], options: Options, listen: Listener, workers: int = 1) -> None:
    """Train every job and leave its run folder behind.

    Args:
        jobs: what to train.
        options: what to do with folders that exist.
        listen: called with every event, always in this process.
        workers: processes; 1 trains here. More start fresh interpreters, so a script of your own must then guard its
            entry point with ``if __name__ == "__main__"``.

    Raises:
        ValueError: two jobs with the same folder.
        Stopped: a signal (the first one; a second one ends everything at once) or the deadline ended a job early; it
            and those that have not begun go on when they are asked for again with ``resume``.
        Exception: whatever the first failing job raised; jobs that have not begun are dropped.
    """
    if workers > 1 and not current().alone:
        raise ValueError("torchrun has started the processes already: leave --workers out")
    folders = [job.folder for job in jobs]
    if twice := [str(folder) for folder in folders if folders.count(folder) > 1]:
        raise ValueError(f"two runs would be written to {twice[0]}; name every method once")
    for event in _here(jobs, options, listen) if workers == 1 else _in_processes(jobs, options, workers):
        listen(event)


def _here(jobs: Sequence[Job], options: Options, listen: Listener) -> Iterator[Event]:
    with Stop(options.deadline) as stop:
        for number, job in enumerate(jobs):
            yield _train(number, job, options, listen, stop)


def _train(number: int, job: Job, options: Options, listen: Listener, stop: Stop) -> Event:
    epochs = job.run.epochs
    listen(Event(number, 0, epochs))
    with boards(options.boards if current().main else (), job.run, job.folder) as show:

        def on_record(record: Record) -> None:
            listen(Event(number, record.epoch, epochs, record.test.top1, record.images_per_s))
            show(record)

        told = -math.inf

        def on_step(epochs_done: float, images_per_s: float) -> None:
            nonlocal told
            if (now := time.monotonic()) - told >= EVERY:
                told = now
                listen(Event(number, epochs_done, epochs, images_per_s=images_per_s))

        facts = run_in_folder(
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
        )
    return Event(number, epochs, epochs, facts["last_top1"], done=True)


# Of a worker process, set once when it starts: where events go, and whether the starting process asks to stop.
_outbox: SimpleQueue[Event | None] | None = None
_flag: Flag | None = None


def _in_processes(jobs: Sequence[Job], options: Options, workers: int) -> Iterator[Event]:
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads in an unknown state
    inbox: SimpleQueue[Event | None] = context.SimpleQueue()
    flag = context.Event()
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, initializer=_open, initargs=(inbox, flag))
    with Stop(options.deadline, then=flag.set) as stop:
        try:
            with _without_interrupts():  # Ctrl-C reaches every process of a terminal; this one passes it on
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
                    _raise(failed, stop)
        except KeyboardInterrupt:  # the second one
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _raise(failed: Future[None], stop: Stop) -> None:
    """The error of a job; a stop with the reason that this process knows."""
    try:
        failed.result()
    except Stopped as stopped:
        raise Stopped(stop.reason or stopped.reason, stopped.where) from None


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile never receive SIGINT."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _open(queue: SimpleQueue[Event | None], flag: Flag) -> None:
    global _outbox, _flag
    _outbox, _flag = queue, flag
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """End with the process that started this one, even if that was killed; checkpoints survive it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _train_there(number: int, job: Job, options: Options) -> None:
    assert _outbox is not None
    assert _flag is not None
    send = partial(SimpleQueue.put, _outbox)
    with Stop(options.deadline, elsewhere=_flag.is_set) as stop:
        send(_train(number, job, options, send, stop))
