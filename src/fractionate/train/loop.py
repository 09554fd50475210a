"""The loop: epoch by epoch, step by step, with an average of the weights if the config asks for one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ..data import Batch, in_memory, shares
from ..rows import Progress
from ..tasks import Diverged, Result, measure_with
from ..world import current
from .average import Average
from .build import Training, parameters
from .device import fixed_threads, tuned
from .health import Guard, largest_entries, logits_diverged, weights_diverged
from .lockstep import Common
from .log import EpochLog, tested
from .optimizer import scheduler
from .step import Step, Stepper

if TYPE_CHECKING:
    from .branches import Branch
    from .cuda_graph import Captured, Given


@dataclass(frozen=True)
class Record:
    """What one epoch did.

    Args:
        epoch: from 1.
        train_loss: mean over the images; of a smaller last batch every image counts as much as the others.
        components: mean of every component, without weights.
        test: metrics after the epoch, of the averaged weights if there are any; ``None`` where it is not measured.
        lr: learning rate of the epoch's first step.
        images_per_s: training throughput, evaluation not counted.
        data_wait: share of the training time in which the next batch was waited for; ``None`` of images in memory.
        seconds: wall-clock time of the epoch, evaluation included, interruptions not.
        monitors: observed columns, such as ``gsnr/task``; ``None`` where no window of it ended in this epoch.
        skipped: steps left out so far because they were not finite.
    """

    epoch: int
    train_loss: float
    components: dict[str, float]
    test: Result | None
    lr: float
    images_per_s: float
    data_wait: float | None
    seconds: float
    monitors: dict[str, float | None]
    skipped: int = 0

    def columns(self) -> dict[str, int | float | None]:
        """One line of ``metrics.jsonl``."""
        return {
            "epoch": self.epoch,
            "train_loss": self.train_loss,
            **{f"component/{name}": x for name, x in self.components.items()},
            **tested(self.test),
            "lr": self.lr,
            "images_per_s": self.images_per_s,
            **({} if self.data_wait is None else {"data_wait": self.data_wait}),
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
        >>> from fractionate.config.data import Data
        >>> from fractionate.config.run import Network, Run
        >>> from fractionate.config.method import MethodSpec
        >>> from fractionate.train.build import prepare
        >>> run = Run(student=Network("convnet_4_8"), method=MethodSpec("ce"), data=Data(labels_per_class=2), epochs=2)
        >>> [record.epoch for record in fit(prepare(run))]
        [1, 2]
    """
    yield from Loop(training).records()


class Loop:
    """A :class:`Training` under way, with all that is remembered from one step to the next.

    Args:
        training: from :func:`prepare`; ``restore`` puts a loop where a checkpoint stands.
        common: what is shared with the loops beside this one, where there are any.

    Attributes:
        average: the averaged student, if the config asks for one.
        captured: steps as recordings, if the config asks for them.
        log: numbers of the epoch that is under way.
        guard: keeps gradients that are not finite from the weights.
        world: the processes that take every step together.
        stepper: takes the steps.
        steps: per epoch.
    """

    def __init__(self, training: Training, common: Common | None = None) -> None:
        run = training.run
        self.training, self.common = training, common
        self.average = Average(training.student, run.ema) if run.ema is not None else None
        self.world = current()
        self.steps = len(training.train)
        self.log = EpochLog(training.method, self.world)
        self.guard = Guard(training.optimizer, training.student, run.skip_nonfinite)
        self.trained = parameters(training.student, training.method)
        self.stepper = Stepper(training, self.trained, self.world, common=common)
        self.captured: Captured | Branch | None = None
        if run.graph and common is None:  # students side by side are recorded together
            from .cuda_graph import Captured

            self.captured = Captured(training, self.trained, self.guard)
        self.world.copy_from_main([x.detach() for x in (*self.trained, *training.student.buffers())])

    @property
    def net(self) -> nn.Module:
        """What is evaluated and kept: the averaged student if there is one, else the student."""
        return self.average.net if self.average else self.training.student

    @property
    def first_step(self) -> int:
        """Number of the first step of the epoch that is under way."""
        return self.training.step - self.log.seen

    @property
    def epochs_done(self) -> float:
        """How far the training is; the steps of the epoch under way count as a part of one."""
        return self.training.epoch + self.log.seen / self.steps

    def place(self) -> Progress:
        """The next step's position in training."""
        t = self.training
        return Progress(step=t.step, epoch=t.epoch + 1, epochs=t.run.epochs, steps=t.run.epochs * self.steps)

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
        self.stepper.settle()

    def share_buffers(self) -> None:
        """Give every process the main one's batch-norm statistics, which each collects from its own images."""
        nets = [self.training.student, *([self.average.net] if self.average else [])]
        self.world.copy_from_main([x for net in nets for x in net.buffers()])

    def records(self, after_step: Callable[[], None] = lambda: None) -> Iterator[Record]:
        """Train epoch by epoch, as :func:`fit`.

        Args:
            after_step: called after every step but an epoch's last, when everything may be saved; an exception out of
                it ends the training. After the last step the record is yielded, and saving is possible again.
        """
        with closing(self.turns()) as turns:
            for record in turns:
                if record:
                    yield record
                else:
                    after_step()

    def turns(self) -> Generator[Record | None]:
        """Train step by step: ``None`` after every step but an epoch's last, the epoch's record after that one."""
        t, run = self.training, self.training.run
        rates = scheduler(t.optimizer, run.learning_rate, run.epochs, self.steps, t.step)
        while t.epoch < run.epochs:
            with fixed_threads(run.threads), tuned(self.trained[0].device), self.guard, self.stepper.exchanging():
                self.log.begin(t.optimizer.param_groups[0]["lr"])
                for batch in self.log.waiting(self._batches(self.log.seen)):
                    self._step(batch)
                    self._advance(rates)
                    if self.log.seen < self.steps:
                        yield None
                loss, components = self.log.means(t.epoch + 1, self.first_step)
                log, images_per_s, data_wait = self.log, self.log.images_per_s, self.log.data_wait
                self.share_buffers()
                test = self.evaluate() if run.evaluates(t.epoch + 1) else None
            t.epoch, self.log = t.epoch + 1, EpochLog(t.method, self.world)
            assert log.lr is not None
            yield Record(
                epoch=t.epoch,
                train_loss=loss,
                components=components,
                test=test,
                lr=log.lr,
                images_per_s=images_per_s,
                data_wait=None if in_memory(t.train) else data_wait,
                seconds=log.seconds,
                monitors=self._observed(),
                skipped=self.guard.skipped,
            )

    def _observed(self) -> dict[str, float | None]:
        watch = self.training.watch
        return {**(watch.read(self.training, self.steps) if watch else {}), **self.stepper.join.columns()}

    def evaluate(self) -> Result:
        """Metrics of what is kept, as after the epoch that is under way."""
        t = self.training
        try:
            return measure_with(t.task.metrics(t.teacher_seen), self.net, t.test).result()
        except Diverged as error:
            raise logits_diverged(t.method, t.epoch + 1, t.step - 1, error) from None

    def _batches(self, start: int) -> Iterator[Given]:
        """This process's parts of the batches of the epoch that is under way, from number ``start`` on."""
        t = self.training
        if self.captured and not self.captured.reason:
            return self.captured.batches(t.epoch + 1, start)
        if self.common:
            return self.common.batches(t.train, t.epoch + 1, start)
        return shares(t.train, t.epoch + 1, self.world.rank, self.world.size, start)

    def _advance(self, rates: LRScheduler) -> None:
        """The next learning rate. torch warns where no step came before, as when the first one was left out."""
        skips = bool(self.guard.skipped or self.stepper.scaler)
        with warnings.catch_warnings() if skips else nullcontext():
            if skips:
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            rates.step()

    def _step(self, batch: Given) -> None:
        """One step, and all that follows it."""
        t = self.training
        progress = self.place()
        images = batch.whole or batch.images.shape[0] if isinstance(batch, Batch) else len(batch)
        if self.guard.allowed:
            self.guard.remember()
        try:
            step = self._train(batch, progress)
        except Diverged as error:
            self.guard.forgive(error)
            self.log.skip(images)
        else:
            self._note(step, images)
        t.step += 1

    def _note(self, step: Step, images: int) -> None:
        """What follows a step that diverged nowhere; of one that was left out under a loss scale, nothing."""
        t = self.training
        if step.skipped:
            self.log.skip(images)
        else:
            if self.average:
                self.average.update(t.student)
            self.log.add(step, images, self.guard.unseen)
            if t.watch:
                t.watch.see(step.grads)

    def _train(self, given: Given, progress: Progress) -> Step:
        """Move the weights, or say what was not finite."""
        if self.captured and not self.captured.reason:
            return self.captured(given, progress)
        batch = self.captured.shown(given) if self.captured else given
        assert isinstance(batch, Batch)
        return self.stepper(batch, progress)
