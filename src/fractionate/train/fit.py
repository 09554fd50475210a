"""The training loop. There is one, for every method and every kind of data; it yields a record per epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from torch.optim.lr_scheduler import LambdaLR

from ..rows import Progress
from .evaluate import Evaluation, evaluate
from .log import EpochLog, explain
from .prepare import Training, autocast, fixed_threads
from .schedule import scheduler
from .step import parameters, rows_of, train_step


@dataclass(frozen=True)
class Record:
    """What one epoch did.

    Args:
        epoch: from 1.
        train_loss: mean over the steps.
        components: mean of every component, without weights.
        test: metrics after the epoch.
        lr: learning rate of the epoch's first step.
        images_per_s: training throughput, evaluation not counted.
        seconds: wall-clock time of the epoch, evaluation included.
        monitors: observed columns, such as ``gsnr/task``.
    """

    epoch: int
    train_loss: float
    components: dict[str, float]
    test: Evaluation
    lr: float
    images_per_s: float
    seconds: float
    monitors: dict[str, float]

    def columns(self) -> dict[str, int | float | None]:
        """One line of ``metrics.jsonl``."""
        return {
            "epoch": self.epoch,
            "train_loss": self.train_loss,
            **{f"component/{name}": x for name, x in self.components.items()},
            "test_top1": self.test.top1,
            "test_top5": self.test.top5,
            "test_loss": self.test.loss,
            "agreement": self.test.agreement,
            "ece": self.test.calibration.ece,
            "lr": self.lr,
            "images_per_s": self.images_per_s,
            "seconds": self.seconds,
            **self.monitors,
        }


def fit(training: Training) -> Iterator[Record]:
    """Train epoch by epoch, from wherever ``training`` stands.

    Args:
        training: from :func:`prepare`, or restored from a checkpoint; up to date whenever a record is yielded.

    Yields:
        One :class:`Record` per epoch.

    Raises:
        Diverged: a loss is not finite.

    Example:
        >>> from fractionate.train import Data, MethodSpec, Network, Run, prepare
        >>> run = Run(student=Network("convnet_4_8"), method=MethodSpec("ce"), data=Data(labels_per_class=2), epochs=2)
        >>> [record.epoch for record in fit(prepare(run))]
        [1, 2]
    """
    run = training.run
    rates = scheduler(training.optimizer, run.learning_rate, run.epochs, len(training.train), training.step)
    while training.epoch < run.epochs:
        started = time.perf_counter()
        with fixed_threads(run.threads):
            lr = training.optimizer.param_groups[0]["lr"]
            log = _epoch(training, rates)
            trained = time.perf_counter() - started
            loss, components = log.means(training.epoch + 1, training.step - len(log.rows))
            test = evaluate(training.student, training.test, training.teacher_top1)
        training.epoch += 1
        yield Record(
            epoch=training.epoch,
            train_loss=loss,
            components=components,
            test=test,
            lr=lr,
            images_per_s=log.images / trained,
            seconds=time.perf_counter() - started,
            monitors=training.watch.read() if training.watch else {},
        )


def _epoch(training: Training, rates: LambdaLR) -> EpochLog:
    """Every step of the next epoch."""
    epoch, log = training.epoch + 1, EpochLog(training.method)
    trained = parameters(training.student, training.method)
    steps = training.run.epochs * len(training.train)
    for batch in training.train.batches(epoch):
        progress = Progress(training.step, epoch, training.run.epochs, steps)
        with autocast(training.run, batch.images.device):
            lg = rows_of(training.method, training.student, training.teacher, batch)
        try:
            step = train_step(trained, training.method, training.optimizer, lg, progress, training.merge)
        except ValueError as error:
            raise explain(error, training.method, lg, progress) from error
        log.add(step, len(batch))
        if training.watch:
            training.watch.see(step.grads)
        training.step += 1
        rates.step()
    return log
