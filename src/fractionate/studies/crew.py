"""Processes that share out jobs: whatever happens to one of them, none waits for ever, and the failure is heard of."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

import torch

from .._terminal import say
from ..runs.folder import RunFolder
from ..runs.stop import UNBEGUN, Stop, Stopped

if TYPE_CHECKING:
    from .jobs import Job, Listener, Options

    Unit = Sequence[tuple[int, Job]]  # numbers and jobs, side by side
    Train = Callable[[Unit, Options, Listener, Stop], None]

LISTEN = 0.25  # seconds between two looks at whether somebody asks to stop


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile never receive SIGINT."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which the first process starts otherwise, and lets SIGINT through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(eq=False)
class Worker:
    """A process, the pipe to it, and the numbers of the jobs that it trains and has not ended."""

    process: BaseProcess
    pipe: Connection
    jobs: list[int] = field(default_factory=list)


@dataclass(eq=False)
class Crew:
    """Processes that share out jobs.

    Every one has a pipe of its own and shares no lock with another, so one that is killed at any moment holds up
    nobody; and all pipes are read until their processes are idle, so that none waits for ever with a full one.

    Args:
        jobs: what to do.
        units: numbers of the jobs that one process takes at a time, in this order.
        options: of all of them.
        listen: called with their events.
        train: function of a module that does the jobs of a unit.
    """

    jobs: Sequence[Job]
    units: Sequence[Sequence[int]]
    options: Options
    listen: Listener
    train: Train
    workers: list[Worker] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    begun: int = 0
    asked: bool = False

    def hire(self, count: int) -> None:
        """Start so many processes, each with its share of this one's threads.

        Each would take all cores otherwise, and threads that wait for those of another process by spinning make two
        runs on two cores twenty times as slow as one.
        """
        context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads in an unknown state
        threads = max(1, torch.get_num_threads() // count)
        for _ in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, self.options, self.train, threads), daemon=True)
            self.workers.append(Worker(process, here))
            process.start()
            there.close()  # the end of the process is then the end of what its pipe holds

    def work(self, stop: Stop) -> None:
        """Train all jobs; after a failure, or when asked to stop, end those under way."""
        for worker in self.workers:
            self._next(worker)
        while self._busy():
            if stop.reason:
                self.ask()
            self._hear()

    def ask(self) -> None:
        """Let every job under way finish its step, save and end."""
        for worker in () if self.asked else self.workers:
            _send(worker.pipe, "stop")
        self.asked = True

    def kill(self) -> None:
        """End everything at once; what was saved stays."""
        for worker in self.workers:
            worker.process.kill()
            worker.jobs = []

    def dismiss(self) -> None:
        """Wait for the jobs under way, which are asked to stop, and end the processes."""
        self.ask()
        self.listen = lambda event: None
        while self._busy():
            self._hear()
        for worker in self.workers:
            _send(worker.pipe, None)
        for worker in self.workers:
            worker.process.join(10)
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()

    def judge(self, stop: Stop) -> None:
        """Raise the first failure; a stop has the reason that this process knows, and a place if any run has one."""
        stops = [error for error in self.failures if isinstance(error, Stopped)]
        faults = [error for error in self.failures if not isinstance(error, Stopped)]
        for error in [*faults, *sorted(stops, key=lambda stop: stop.where == UNBEGUN)][:1]:
            if isinstance(error, Stopped):
                raise Stopped(stop.reason or error.reason, error.where)
            raise error

    def _busy(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.jobs]

    def _next(self, worker: Worker) -> None:
        worker.jobs = []
        if self.begun < len(self.units) and not self.failures:
            worker.jobs, self.begun = list(self.units[self.begun]), self.begun + 1
            _send(worker.pipe, [(n, self.jobs[n]) for n in worker.jobs])

    def _hear(self) -> None:
        """Read what has been said, for a short time; a process that is gone says so by the end of its pipe."""
        ready = wait([worker.pipe for worker in self._busy()], LISTEN)
        for worker in [worker for worker in self._busy() if worker.pipe in ready]:
            try:
                said = worker.pipe.recv()
            except (EOFError, OSError):
                said = self._lost(worker)
            if isinstance(said, Failure):
                said = said.error()
            if isinstance(said, BaseException):
                self._failed(worker, said)
                continue
            if said.done:
                worker.jobs.remove(said.job)
                if not worker.jobs:
                    self._next(worker)
            self.listen(said)

    def _failed(self, worker: Worker, error: BaseException) -> None:
        title = " and ".join(self.jobs[n].title for n in worker.jobs)
        worker.jobs = []
        self.failures.append(error)
        if len(self.failures) == 1 and self._busy() and not isinstance(error, Stopped):
            warnings.warn(f"{title} failed ({error}); the other runs stop now and are saved", stacklevel=6)
        self.ask()

    def _lost(self, worker: Worker) -> BaseException:
        """What there is to say about a process that ended by itself."""
        worker.process.join(10)
        code, lost = worker.process.exitcode, [self.jobs[n] for n in worker.jobs]
        how = f"ended with code {code}"
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            how = f"was killed by {name}{' (the memory may have run out)' if name == 'SIGKILL' else ''}"
        titles = " and ".join(job.title for job in lost)
        return ChildProcessError(
            f"the process of {titles} {how}; {'; '.join(RunFolder(j.folder).newest() for j in lost)}; the same command"
            f"{'' if self.options.resume else ' with --resume'} goes on"
        )


@dataclass(frozen=True)
class Failure:
    """An exception on its way to another process, which may not be able to build it again."""

    kind: str
    text: str
    trace: str
    builtin: type[Exception]
    pickled: bytes | None

    @staticmethod
    def of(error: BaseException) -> Failure:
        """What can be sent of an exception."""
        kinds = (ValueError, ArithmeticError, ImportError, MemoryError, OSError)
        builtin = next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)
        trace = "".join(traceback.format_exception(error))
        pickled: bytes | None = None
        with contextlib.suppress(Exception):
            pickled = pickle.dumps(error)
        return Failure(type(error).__name__, str(error), trace, builtin, pickled)

    def error(self) -> BaseException:
        """The exception, or the built-in one that is nearest to it."""
        error: BaseException = self.builtin(f"{self.kind}: {self.text}")
        with contextlib.suppress(Exception):
            found = pickle.loads(self.pickled or b"")
            error = found if isinstance(found, BaseException) else error
        error.__cause__ = RuntimeError(f"in another process:\n{self.trace}")
        return error


def _send(pipe: Connection, what: object) -> None:
    """Say something to the other end, which may be gone; that is seen where its answer is read."""
    with contextlib.suppress(OSError):
        pipe.send(what)


def _serve(pipe: Connection, options: Options, train: Train, threads: int) -> None:
    """What a worker process does: train one unit after the other."""
    torch.set_num_threads(threads)
    warnings.showwarning = say
    orders: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
    stopping = threading.Event()
    threading.Thread(target=_follow, args=(pipe, orders, stopping), daemon=True).start()
    while (order := _next(orders)) is not None:
        try:
            with Stop(options.deadline, elsewhere=stopping.is_set) as stop:
                train(order, options, pipe.send, stop)
        except BaseException as error:
            _send(pipe, Failure.of(error))


def _next(orders: queue.SimpleQueue[Unit | None]) -> Unit | None:
    """The next order; ``None`` after Ctrl-C, which a terminal gives to those that wait too."""
    try:
        return orders.get()
    except KeyboardInterrupt:
        return None


def _follow(pipe: Connection, orders: queue.SimpleQueue[Unit | None], stopping: threading.Event) -> None:
    """Take orders, and end with the process that gives them, even if that was killed; checkpoints survive it."""
    while True:
        try:
            order = pipe.recv()
        except (EOFError, OSError):
            os._exit(1)
        if order == "stop":
            stopping.set()
        else:
            orders.put(order)
