"""What schedules decide, where a recorded step can find it: numbers as tensors, and a note of what else was read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..data import Batch, Draw, Drawn, shares, unlabelled_count
from ..data.batch import sent
from ..rows import Progress
from ..teachers.table import TeacherTable
from ..world import current
from .health import Guard
from .step import Step, Stepper

if TYPE_CHECKING:
    from .build import Training

POSITION = tuple(f.name for f in fields(Progress))


class Noted(Progress):
    """A position in training that notes which of its numbers were read.

    Example:
        >>> noted = Noted(epoch=121, epochs=241)
        >>> noted.fraction, sorted(noted.read)
        (0.5, ['epoch', 'epochs'])
    """

    read: set[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "read", set())
        super().__post_init__()
        self.read.clear()

    @classmethod
    def of(cls, progress: Progress) -> Noted:
        """The same position, of which nothing has been read yet."""
        return cls(**{name: getattr(progress, name) for name in POSITION})

    def __getattribute__(self, name: str) -> Any:
        if name in POSITION:
            object.__getattribute__(self, "read").add(name)
        return object.__getattribute__(self, name)


class Numbers:
    """What schedules change from step to step, as tensors on the device.

    Args:
        training: whose method and optimizer.
        device: where.

    Attributes:
        method: the method, its weights being these tensors.
    """

    def __init__(self, training: Training, device: torch.device) -> None:
        self.optimizer, self.parts = training.optimizer, training.method.parts
        self._values: list[float] = []
        self._tensor = torch.zeros(len(self.parts) + len(self.optimizer.param_groups), device=device)
        weights, self._rates = self._tensor[: len(self.parts)].unbind(), self._tensor[len(self.parts) :].unbind()
        parts = {
            name: replace(part, weight=_always(weight))
            for (name, part), weight in zip(self.parts.items(), weights, strict=True)
        }
        self.method = replace(training.method, parts=parts)

    def set(self, progress: Progress) -> None:
        """Bring the tensors up to date; the host does not wait for that."""
        values = [part.weight(progress) for part in self.parts.values()]
        values += [float(group["lr"]) for group in self.optimizer.param_groups]
        if values != self._values:
            self._values = values
            self._tensor.copy_(sent(torch.tensor(values), self._tensor.device))

    @contextmanager
    def in_optimizer(self) -> Iterator[None]:
        """The optimizer's learning rates are these tensors meanwhile."""
        groups = self.optimizer.param_groups
        before = [group["lr"] for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate
        try:
            yield
        finally:
            for group, rate in zip(groups, before, strict=True):
                group["lr"] = rate


def _always(weight: Tensor) -> Any:
    return lambda progress: weight


WARM_UP = 3  # steps before the first recording: libraries choose kernels and find memory in them
Given = Batch | Draw
Outcome = tuple[Step, Tensor | None]  # and the largest gradients, which the guard notes
T = TypeVar("T")


class Recorder(Protocol):
    """Runs work beside the device's usual stream, or records it."""

    def beside(self, work: Callable[[], T]) -> T:
        """Run it now, so that recording it will find everything ready."""
        ...

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """What playing it computes, every time into the same tensors, and a function that plays it."""
        ...


class CudaGraphs:
    """The recorder of CUDA devices."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)

    def beside(self, work: Callable[[], T]) -> T:
        """Run work on a stream of its own, in order with what comes before and after."""
        usual = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(usual)
        with torch.cuda.stream(self.stream):
            found = work()
        usual.wait_stream(self.stream)
        return found

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """Record work as a graph; nothing runs before it is played."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            found = work()
        return found, graph.replay


@dataclass(eq=False)
class Recording:
    """A step that can be played.

    Args:
        given: the tensors it reads.
        outcome: the tensors it writes.
        play: computes them.
        position: what the host read of the position in training while it was recorded.
    """

    given: Given
    outcome: Outcome
    play: Callable[[], None]
    position: dict[str, int | None]

    def holds(self, progress: Progress) -> bool:
        """Whether the host would decide the same things now."""
        return all(getattr(progress, name) == value for name, value in self.position.items())


class Captured:
    """The steps of a training, recorded and played where that is possible.

    Args:
        training: from :func:`prepare`.
        trained: parameters.
        guard: notes the largest gradients of every step.
        recorder: that of the training's device unless given.

    Attributes:
        reason: why steps are taken one operation after the other; ``None`` where they are not.
    """

    def __init__(
        self, training: Training, trained: list[nn.Parameter], guard: Guard, recorder: Recorder | None = None
    ) -> None:
        self.training, self.guard = training, guard
        self.reason: str | None = None
        device = trained[0].device
        if recorder is None and device.type == "cuda":
            recorder = CudaGraphs(device)
        self.recorder = recorder
        self.numbers = Numbers(training, device)
        self.stepper = Stepper(replace(training, method=self.numbers.method), trained)
        self._recording: Recording | None = None
        self._left, self._size = WARM_UP, 0
        if why := "there is no CUDA device" if recorder is None else obstacle(training):
            self._refuse(why)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Given]:
        """As those of the training images; draws in place of batches where a recording can show the images itself."""
        source = self.training.train
        if isinstance(source, Drawn) and source.drawn and not self.reason:
            return source.draws(epoch, start)
        return shares(source, epoch, start=start)

    def __call__(self, given: Given, progress: Progress) -> Step:
        """One step; the tensors of its outcome are good until the next one."""
        assert self.recorder is not None
        self.numbers.set(progress)
        if len(given) > self._size:  # the first batch, or the first one after a run went on with an epoch's last
            self._recording, self._left, self._size = None, WARM_UP, len(given)
        if len(given) < self._size:  # an epoch's last batch
            return self.taken(given, progress)[0]
        if self._recording and not self._recording.holds(progress):
            self._recording, self._left = None, 1
        if self._recording is None:
            if self._left:
                self._left -= 1
                return self._warm(given, progress)
            if not self._record(given, progress):
                return self.taken(given, progress)[0]
        recording = self._recording
        assert recording is not None
        for name, tensor in tensors_of(recording.given).items():
            tensor.copy_(getattr(given, name))
        recording.play()
        step, self.guard.unseen = recording.outcome
        return step

    def shown(self, given: Given) -> Batch:
        """The batch itself."""
        if isinstance(given, Batch):
            return given
        assert isinstance(self.training.train, Drawn)
        return self.training.train.shown(given)

    def _warm(self, given: Given, progress: Progress) -> Step:
        """A step that is not recorded, but beside the usual stream, as recording will be."""
        assert self.recorder is not None
        noted = Noted.of(progress)
        step, _ = self.recorder.beside(lambda: self.taken(given, noted))
        if "step" in noted.read:
            self._refuse("the method decides something anew at every step (random classes, or a step-wise schedule)")
        return step

    def _record(self, given: Given, progress: Progress) -> bool:
        assert self.recorder is not None
        noted = Noted.of(progress)
        copies: dict[str, Any] = {name: tensor.clone() for name, tensor in tensors_of(given).items()}
        static = replace(given, **copies)
        try:
            outcome, play = self.recorder.record(lambda: self.taken(static, noted))
        except (RuntimeError, ValueError) as error:  # the latter: what a network raises, in a sentence
            self._refuse(f"recording failed: {(str(error).splitlines() or [type(error).__name__])[0]}")
            return False
        self._recording = Recording(static, outcome, play, {name: getattr(progress, name) for name in noted.read})
        return True

    def taken(self, given: Given, progress: Progress) -> Outcome:
        """The step itself: nothing in it asks the host for a number that could change."""
        batch = self.shown(given)
        with self.numbers.in_optimizer():
            return self.stepper(batch, progress), self.guard.unseen

    def _refuse(self, why: str) -> None:
        self.reason, self._recording = why, None
        warnings.warn(f"graph=true: steps are taken one operation after the other, because {why}", stacklevel=2)


def tensors_of(given: Given) -> dict[str, Tensor]:
    """The tensors of a batch or a draw, by name."""
    values = {f.name: getattr(given, f.name) for f in fields(given)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def obstacle(training: Training) -> str | None:
    """What is known beforehand to keep a step from being recorded."""
    run = training.run
    if 0 < unlabelled_count(training.train) < training.train.count:
        return "batches hold a changing share of images without labels"
    if run.skip_nonfinite:
        return "skip_nonfinite looks at the gradients of every step"
    if run.precision == "float16":
        return "float16's loss scale looks at the gradients of every step"
    if run.accumulate > 1 or run.optimizer.clip or run.optimizer.clip_streams:
        return "steps in parts and clipped gradients are not recorded"
    if not current().alone:
        return "several processes take every step together"
    if isinstance(training.teacher, TeacherTable) and not training.teacher.on_device:
        return "a teacher table that is not full is looked up by the host; use teacher_table=full"
    return None
