"""How long some runs are going to take, from a few steps of one of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from ..rows import Progress
from ..train.build import Training, prepare
from ..train.device import fixed_threads
from ..train.loop import Loop
from .jobs import Job

SECONDS, STEPS = 1.0, 20  # at most so long, and so many steps, are looked at


def paced(jobs: Sequence[Job], workers: int = 1) -> float:
    """Seconds that the runs will take, by a second of steps and one evaluation of the first of them.

    A step of another run counts as its backward passes and one forward pass of the student. Nothing is written.

    Args:
        jobs: all of them.
        workers: processes that share them.
    """
    run = replace(jobs[0].run, teacher_table="off", graph=False)
    training = prepare(run)
    with fixed_threads(run.threads):
        step, evaluation = _step(training), _evaluation(training)
    passes = 1 + training.method.backward_passes
    epochs = {id(job): (1 + job.run.method.build().backward_passes) / passes for job in jobs}
    each = [job.run.epochs * (len(training.train) * step * epochs[id(job)] + evaluation) for job in jobs]
    return sum(each) / min(workers, len(jobs))


def _step(training: Training) -> float:
    loop, times = Loop(training), [time.perf_counter()]
    for number, batch in enumerate(islice(training.train.batches(1), STEPS)):
        loop.stepper(batch, Progress(number, 1, training.run.epochs, training.run.epochs * len(training.train)))
        times.append(time.perf_counter())
        if times[-1] - times[0] > SECONDS:
            break
    later = times[1:] if len(times) > 2 else times  # the first step warms up
    return (later[-1] - later[0]) / (len(later) - 1)


def _evaluation(training: Training) -> float:
    started = time.perf_counter()
    Loop(training).evaluate()
    return time.perf_counter() - started
