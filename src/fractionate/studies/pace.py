"""How long some runs are going to take, from a few steps of one of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import torch

from ..config.run import Run
from ..probe.sample import Thinned
from ..rows import Progress
from ..train.build import Training, prepare
from ..train.device import fixed_threads, place
from ..train.loop import Loop
from ..train.sources import sources
from .jobs import Job
from .units import Unit

SECONDS, STEPS = 1.0, 20  # at most so long, and so many steps, are looked at behind the first one, and one at least
FEW = 64  # test images on which an evaluation is timed


@dataclass(frozen=True)
class Pace:
    """Seconds of a run's parts.

    Args:
        step: of one step, without asking the teacher.
        asked: of asking the teacher about one batch; 0 without one.
        evaluation: of one evaluation.
        steps: of an epoch.
        passes: forward and backward passes of a student's step, counted alike.
    """

    step: float
    asked: float
    evaluation: float
    steps: int
    passes: int

    def own(self, run: Run) -> float:
        """A run's seconds, without its teacher's: a step counts as its backward passes and one forward pass."""
        passes = (1 + run.method.build().backward_passes) / self.passes
        return run.epochs * (self.steps * self.step * passes + self.evaluation)

    def unit(self, runs: Sequence[Run]) -> float:
        """Seconds of runs side by side: their teacher is asked once for all of them."""
        taught = max((run.epochs for run in runs if run.method.distils), default=0)
        return taught * self.steps * self.asked + sum(map(self.own, runs))


def paced(jobs: Sequence[Job], workers: int = 1, units: Sequence[Unit] | None = None) -> float:
    """Seconds that the runs will take, by a second of steps and one evaluation of the first that has a teacher.

    Nothing is written.

    Args:
        jobs: all of them.
        workers: processes that share them.
        units: numbers of jobs that go side by side; ``None``: one at a time.
    """
    runs = [job.run for job in jobs]
    found = pace(next((run for run in runs if run.method.distils), runs[0]))
    units = [(n,) for n in range(len(runs))] if units is None else units
    ends = [0.0] * min(workers, len(units))
    for seconds in sorted((found.unit([runs[n] for n in unit]) for unit in units), reverse=True):
        ends[ends.index(min(ends))] += seconds
    return max(ends)


def pace(run: Run) -> Pace:
    """How fast a run is; its teacher may be without weights."""
    run = replace(run, teacher_table="off", graph=False)
    train, test = sources(run.data, run.seed, place(run.device))
    few = Thinned(test, max(1, test.count // FEW))
    training = prepare(run, train=train, test=few)
    with fixed_threads(run.threads):
        step, asked = _step(training)
        evaluation = _evaluation(training) * test.count / few.count
    return Pace(max(0.0, step - asked), asked, evaluation, len(train), 1 + training.method.backward_passes)


def _step(training: Training) -> tuple[float, float]:
    """Seconds of a step, and of asking the teacher in it. The first step, which also builds kernels, does not count."""
    loop, times = Loop(training), []
    epochs = training.run.epochs
    batches = chain.from_iterable(training.train.batches(epoch) for epoch in (1, 2))  # an epoch may be one step
    for number, batch in enumerate(islice(batches, 1 + STEPS)):
        loop.stepper(batch, Progress(step=number, epochs=epochs, steps=epochs * len(training.train)))
        times.append(time.perf_counter())
        if number and times[-1] - times[0] > SECONDS:
            break
    step = (times[-1] - times[0]) / (len(times) - 1)
    if training.teacher is None or training.method.regions:
        return step, 0.0
    started = time.perf_counter()
    with torch.no_grad():
        training.teacher(batch)
    return step, min(step, time.perf_counter() - started)


def _evaluation(training: Training) -> float:
    started = time.perf_counter()
    Loop(training).evaluate()
    return time.perf_counter() - started
