"""The training loop. There is one, for every method and every kind of data; it yields a record per epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ..data import Source
from ..methods import Method
from ..models import create, load_checkpoint
from ..optim import StreamSGD
from ..rows import Progress
from .config import Network, Run
from .evaluate import Evaluation, evaluate, measure, predict
from .log import Diverged, EpochLog, explain
from .schedule import scheduler
from .sources import sources
from .step import make_rows, parameters, train_step
from .teacher import LiveTeacher, Teacher
from .watch import Watch, unmerged


@dataclass(frozen=True)
class Record:
    """What one epoch did.

    Args:
        epoch: from 1.
        train_loss: mean over the steps.
        components: mean of every component, without weights.
        test: metrics after the epoch.
        lr: learning rate of the epoch.
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


@dataclass(eq=False)
class Training:
    """Everything that takes part in a run; :func:`fit` moves it forward.

    Args:
        run: the config.
        method: built from it, in the form that is trained (unmerged when watched).
        merge: whether streams with equal momentum are joined.
        student: network that is trained.
        teacher: where teacher logits come from, if the method reads them.
        train, test: batches.
        optimizer: holds one buffer per stream.
        teacher_test: the teacher's metrics on the test images.
        teacher_top1: its class for every test image.
        teacher_params: its number of parameters.
        epoch, step: how far training is.
    """

    run: Run
    method: Method
    merge: bool | None
    student: nn.Module
    teacher: Teacher | None
    train: Source
    test: Source
    optimizer: StreamSGD
    teacher_test: Evaluation | None = None
    teacher_top1: Tensor | None = None
    teacher_params: int | None = None
    epoch: int = 0
    step: int = 0
    watch: Watch | None = field(default=None)


def prepare(
    run: Run,
    *,
    student: nn.Module | None = None,
    teacher: nn.Module | None = None,
    train: Source | None = None,
    test: Source | None = None,
) -> Training:
    """Build everything a run needs; parts of your own take the place of the config's.

    Args:
        run: the config; its seed fixes the student's weights and the batches.
        student: network to train.
        teacher: network to imitate.
        train: training batches.
        test: evaluation batches, in a fixed order.

    Raises:
        ValueError: an unknown name, a checkpoint that does not fit, or a GPU asked for that is not there.
    """
    device = _device(run.device)
    made = sources(run.data, run.seed, device) if train is None or test is None else (train, test)
    train, test = train or made[0], test or made[1]
    teacher = teacher or (_network(run.teacher, train.num_classes) if run.teacher else None)
    torch.manual_seed(run.seed)  # after the teacher: its construction must not move the student's weights
    student = (student or _network(run.student, train.num_classes)).to(device).train()
    watched = run.monitors.watches(run.seed)
    method = _method(run, device)
    method, merge = (unmerged(method), False) if watched else (method, merging(run, method))
    training = Training(
        run=run,
        method=method,
        merge=merge,
        student=student,
        teacher=LiveTeacher(teacher.to(device)) if teacher and run.method.distils else None,
        train=train,
        test=test,
        optimizer=_optimizer(run, student, method, merge),
        watch=Watch(run.monitors) if watched else None,
    )
    return _compared_with(training, teacher.to(device)) if teacher else training


def fit(training: Training) -> Iterator[Record]:
    """Train epoch by epoch, from wherever ``training`` stands.

    Args:
        training: from :func:`prepare`, or restored from a checkpoint; up to date whenever a record is yielded.

    Yields:
        One :class:`Record` per epoch.

    Raises:
        Diverged: a loss is not finite.

    Example:
        >>> from fractionate.train import Data, MethodSpec, Network, Run
        >>> run = Run(student=Network("convnet_4_8"), method=MethodSpec("ce"), data=Data(labels_per_class=2), epochs=2)
        >>> [record.epoch for record in fit(prepare(run))]
        [1, 2]
    """
    run = training.run
    rates = scheduler(training.optimizer, run.learning_rate, run.epochs, training.epoch)
    while training.epoch < run.epochs:
        started = time.perf_counter()
        with _threads(run.threads):
            log = _epoch(training)
            trained = time.perf_counter() - started
            loss, components = log.means(training.epoch + 1, training.step - len(log.rows))
            test = evaluate(training.student, training.test, training.teacher_top1)
        training.epoch += 1
        lr = training.optimizer.param_groups[0]["lr"]
        rates.step()
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


def _epoch(training: Training) -> EpochLog:
    """Every step of the next epoch."""
    epoch, log = training.epoch + 1, EpochLog(training.method)
    trained = parameters(training.student, training.method)
    steps = training.run.epochs * len(training.train)
    for batch in training.train.batches(epoch):
        progress = Progress(training.step, epoch, training.run.epochs, steps)
        lg = make_rows(training.student, training.teacher, batch)
        try:
            step = train_step(trained, training.method, training.optimizer, lg, progress, training.merge)
        except ValueError as error:
            raise explain(error, training.method, lg, progress) from error
        log.add(step, len(batch))
        if training.watch:
            training.watch.see(step.grads)
        training.step += 1
    return log


def merging(run: Run, method: Method) -> bool | None:
    """Whether to join streams with equal momentum: as the config says, else wherever it is exact."""
    return method.exact_merge(run.optimizer.weight_decay) if run.merge is None else run.merge


def _method(run: Run, device: torch.device) -> Method:
    method = run.method.build()
    if method.regions:
        raise ValueError(f"{method.name} needs logits of image regions, which the training loop does not compute")
    if method.module is not None:
        method.module.to(device)
    return method


def _network(config: Network, num_classes: int) -> nn.Module:
    net = create(config.name, num_classes=num_classes, pretrained=config.pretrained)
    if config.checkpoint:
        load_checkpoint(net, config.checkpoint)
    return net


def _optimizer(run: Run, student: nn.Module, method: Method, merge: bool | None) -> StreamSGD:
    o = run.optimizer
    return StreamSGD(
        parameters(student, method),
        lr=o.lr,
        momentum=method.momenta(o.momentum, merge),
        weight_decay=o.weight_decay,
        dampening=o.dampening,
        nesterov=o.nesterov,
    )


def _compared_with(training: Training, teacher: nn.Module) -> Training:
    """With the teacher's accuracy, and its answers that the student's are compared with."""
    with _threads(training.run.threads):
        logits, target = predict(teacher, training.test)
    return replace(
        training,
        teacher_test=measure(logits, target),
        teacher_top1=logits.argmax(1),
        teacher_params=sum(p.numel() for p in teacher.parameters()),
    )


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but torch finds no GPU; use device=cpu or device=auto")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """A fixed number of CPU threads: sums then run in one order, so the same seed gives the same numbers."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


__all__ = ["Diverged", "Record", "Training", "fit", "prepare"]
