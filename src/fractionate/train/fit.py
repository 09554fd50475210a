"""The training loop. There is one, for every method and every kind of data; it yields a record per epoch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ..data import Batch, pieces, shares
from ..optim import AllReduce, StreamGrads, UpdateAllReduce, clip_streams, clip_total
from ..rows import Logits, Progress
from .ema import Average
from .evaluate import Evaluation, evaluate
from .gather import gathered
from .guard import Guard, NotFinite, blame, largest_entries
from .log import Diverged, EpochLog, explain, gradient_diverged, weights_diverged
from .prepare import Training, autocast, fixed_threads
from .schedule import scheduler
from .step import Step, differentiate, parameters, rows_of
from .world import current

Hook = Callable[[], None]


@dataclass(frozen=True)
class Record:
    """What one epoch did.

    Args:
        epoch: from 1.
        train_loss: mean over the steps.
        components: mean of every component, without weights.
        test: metrics after the epoch, of the averaged weights where the config asks for an average.
        lr: learning rate of the epoch's first step.
        images_per_s: training throughput, evaluation not counted.
        seconds: wall-clock time of the epoch, evaluation included, interruptions not.
        monitors: observed columns, such as ``gsnr/task``.
        skipped: steps left out so far because they were not finite.
    """

    epoch: int
    train_loss: float
    components: dict[str, float]
    test: Evaluation
    lr: float
    images_per_s: float
    seconds: float
    monitors: dict[str, float]
    skipped: int = 0

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
            **({"skipped": self.skipped} if self.skipped else {}),
            **self.monitors,
        }


def fit(training: Training) -> Iterator[Record]:
    """Train epoch by epoch, from wherever ``training`` stands.

    Args:
        training: from :func:`prepare`; up to date whenever a record is yielded.

    Yields:
        One :class:`Record` per epoch.

    Raises:
        Diverged: a loss or a gradient is not finite.

    Example:
        >>> from fractionate.train import Data, MethodSpec, Network, Run, prepare
        >>> run = Run(student=Network("convnet_4_8"), method=MethodSpec("ce"), data=Data(labels_per_class=2), epochs=2)
        >>> [record.epoch for record in fit(prepare(run))]
        [1, 2]
    """
    yield from Loop(training).records()


def _nothing() -> None:
    """After a step, by default."""


class Loop:
    """A :class:`Training` under way, with all that is remembered from one step to the next.

    Args:
        training: from :func:`prepare`; ``restore`` puts a loop where a checkpoint stands.

    Attributes:
        average: the averaged student, if the config asks for one.
        log: numbers of the epoch that is under way.
        guard: keeps gradients that are not finite from the weights.
        world: the processes that take every step together.
        reduce: sums the gradients over them, if that is what they exchange.
        exchange: averages their moves of the weights, if that is.
    """

    def __init__(self, training: Training) -> None:
        run = training.run
        self.training = training
        self.average = Average(training.student, run.ema) if run.ema is not None else None
        self.world = current()
        self.log = EpochLog(training.method, self.world)
        self.guard = Guard(training.optimizer, training.student, run.skip_nonfinite)
        self.trained = parameters(training.student, training.method)
        together = None if self.world.alone else run.parallel.sync
        self.reduce = AllReduce(scale=1.0) if together == "gradients" else None
        self.exchange = UpdateAllReduce(training.optimizer) if together == "update" else None
        self.world.copy_from_main([x.detach() for x in (*self.trained, *training.student.buffers())])

    @property
    def net(self) -> nn.Module:
        """What is evaluated and kept: the averaged student if there is one, else the student."""
        return self.average.net if self.average else self.training.student

    @property
    def first_step(self) -> int:
        """Number of the first step of the epoch that is under way."""
        return self.training.step - self.log.seen

    def check(self) -> None:
        """Look at everything that is kept on the device: numbers of the epoch under way, and weights.

        Raises:
            Diverged: something is not finite.
        """
        t = self.training
        self.log.check(t.epoch + 1, self.first_step)
        largest = largest_entries({"weights": self.trained})
        if not math.isfinite(value := float(largest)):
            raise weights_diverged(t.method, t.epoch + 1, t.step - 1, value)

    def settle(self) -> None:
        """Make the main process's state that of all, so that it alone can be kept."""
        self.share_buffers()
        self.log.settle()
        if self.exchange:
            self.exchange.average_buffers()

    def share_buffers(self) -> None:
        """Give every process the main one's batch-norm statistics, which each collects from its own images."""
        nets = [self.training.student, *([self.average.net] if self.average else [])]
        self.world.copy_from_main([x for net in nets for x in net.buffers()])

    def records(self, after_step: Hook = _nothing) -> Iterator[Record]:
        """Train epoch by epoch, as :func:`fit`.

        Args:
            after_step: called after every step but an epoch's last, when everything may be saved; an exception out of
                it ends the training. After the last step the record is yielded, and saving is possible again.
        """
        t, run = self.training, self.training.run
        rates = scheduler(t.optimizer, run.learning_rate, run.epochs, len(t.train), t.step)
        while t.epoch < run.epochs:
            with fixed_threads(run.threads), self.guard, self.exchange or nullcontext():
                self.log.begin(t.optimizer.param_groups[0]["lr"])
                batches = shares(t.train, t.epoch + 1, self.world.rank, self.world.size)
                for batch in islice(batches, self.log.seen, None):
                    self._step(batch)
                    self._advance(rates)
                    if self.log.seen < len(t.train):
                        after_step()
                loss, components = self.log.means(t.epoch + 1, self.first_step)
                trained, log = self.log.seconds, self.log
                self.share_buffers()
                test = evaluate(self.net, t.test, t.teacher_top1)
            t.epoch, self.log = t.epoch + 1, EpochLog(t.method, self.world)
            assert log.lr is not None
            yield Record(
                epoch=t.epoch,
                train_loss=loss,
                components=components,
                test=test,
                lr=log.lr,
                images_per_s=log.images / trained,
                seconds=log.seconds,
                monitors=t.watch.read() if t.watch else {},
                skipped=self.guard.skipped,
            )

    def _advance(self, rates: LRScheduler) -> None:
        """The next learning rate. torch warns where no step came before, as when the first one was left out."""
        with warnings.catch_warnings() if self.guard.skipped else nullcontext():
            if self.guard.skipped:
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            rates.step()

    def _step(self, batch: Batch) -> None:
        """One step, and all that follows it."""
        t = self.training
        progress = Progress(t.step, t.epoch + 1, t.run.epochs, t.run.epochs * len(t.train))
        self.guard.remember()
        try:
            step = self._train(batch, progress)
        except Diverged as error:
            self.guard.forgive(error)
            self.log.skip(batch.whole or len(batch))
        else:
            if self.average:
                self.average.update(t.student)
            self.log.add(step, batch.whole or len(batch), self.guard.unseen)
            if t.watch:
                t.watch.see(step.grads)
        t.step += 1

    def _train(self, batch: Batch, progress: Progress) -> Step:
        """Move the weights, or say what was not finite."""
        t, step, own = self.training, None, None
        try:
            for piece in (parts := pieces(batch, t.run.accumulate)):
                step = self._differentiate(piece, progress, step, self.reduce if piece is parts[-1] else None)
        except Diverged as error:
            if self.reduce is None:
                raise
            own = error  # the others must hear of it, or they would wait for these gradients
            step = Step(torch.tensor(math.nan), {}, self._poison(self.reduce))
        assert step is not None
        try:
            t.optimizer.step(self._clipped(step.grads))
        except NotFinite as found:
            raise self._blame(found, batch, progress, own) from found
        return step

    def _differentiate(self, batch: Batch, progress: Progress, before: Step | None, reduce: AllReduce | None) -> Step:
        """The gradients of a part of a step, added to those of the parts before it."""
        t = self.training
        lg = self._rows(batch)
        whole = not (self.world.alone or t.method.row_wise)
        scale = (1.0 if whole else batch.share) * (self.world.size if self.exchange else 1)
        share = 1 / self.world.size if whole else batch.share
        try:
            return differentiate(
                self.trained, t.method, lg, progress, t.merge, share=share, scale=scale, before=before, reduce=reduce
            )
        except ValueError as error:
            raise explain(error, t.method, lg, progress) from error

    def _rows(self, batch: Batch) -> Logits:
        """What the method reads; the rows of all processes if its terms look at a whole batch."""
        t = self.training
        with autocast(t.run, batch.images.device):
            lg = rows_of(t.method, t.student, t.teacher, batch)
        return lg if t.method.row_wise else gathered(lg, self.world, len(batch) if batch.share else 0)

    def _clipped(self, grads: StreamGrads) -> StreamGrads:
        o = self.training.run.optimizer
        grads = grads if o.clip_streams is None else clip_streams(grads, o.clip_streams)
        return grads if o.clip is None else clip_total(grads, o.clip)

    def _poison(self, reduce: AllReduce) -> StreamGrads:
        """Gradients that are NaN, here and thereby everywhere."""
        bad = tuple(torch.full_like(p, math.nan) for p in self.trained)
        found = {name: reduce.start(name, self.trained, bad) for name in self.training.optimizer.momenta}
        reduce.finish()
        return StreamGrads(found, tuple(self.trained))

    def _blame(self, found: NotFinite, batch: Batch, progress: Progress, own: Diverged | None) -> Diverged:
        """The error for gradients that are not finite; of several processes, by the one that knows most."""
        t = self.training
        if self.world.alone:
            return blame(t.method, found, self._rows(batch), progress, self.trained)  # the first pass's graph is gone
        said = next((words for words in self.world.everyones(own and str(own)) if words), None)
        if said:
            return Diverged(said)
        return gradient_diverged(t.method, progress.epoch, progress.step, found.stream, found.value)
