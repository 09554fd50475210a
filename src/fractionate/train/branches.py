"""The steps of students side by side, recorded as one graph: images and teacher once, then every student a branch.

A branch has a stream of its own, which leaves the recording stream after the teacher's answers and joins it at the end.
What is shared stays referenced until then, so that no memory of it is given out again while a branch may read it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch

from ..data import Batch, Drawn
from ..rows import Progress
from .cuda_graph import WARM_UP, CudaGraphs, Given, Noted, Numbers, Outcome, obstacle, tensors_of
from .lockstep import Answers, Common
from .step import Step, Stepper

if TYPE_CHECKING:
    from .loop import Loop

T = TypeVar("T")


class Recorder(Protocol):
    """As that of a single student, with branches."""

    def beside(self, work: Callable[[], T]) -> T:
        """Run it now, so that recording it will find everything ready."""
        ...

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """What playing it computes, every time into the same tensors, and a function that plays it."""
        ...

    def fork(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """Run works that need nothing of each other; all have ended for what comes after."""
        ...


class Streams:
    """The recorder of CUDA devices: branches are streams that leave the current one and join it again."""

    def __init__(self, device: torch.device) -> None:
        self.graphs, self.device = CudaGraphs(device), device
        self.beside, self.record = self.graphs.beside, self.graphs.record
        self._sides: list[torch.cuda.Stream] = []

    def fork(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """One stream for each, always the same one: libraries keep their workspaces by stream."""
        while len(self._sides) < len(works):
            self._sides.append(torch.cuda.Stream(self.device))
        here, found = torch.cuda.current_stream(self.device), []
        for stream, work in zip(self._sides, works, strict=False):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                found.append(work())
        for stream in self._sides[: len(works)]:
            here.wait_stream(stream)
        return found


class Branch:
    """What a loop finds in place of a recorder of its own: the student's part of the group's steps.

    Args:
        loop: of the student; ``loop.captured`` becomes this.
        group: all of them.

    Attributes:
        waiting: what the student's next step has done already, with the others'; its loop has not come to it yet.
    """

    def __init__(self, loop: Loop, group: Branches) -> None:
        self.loop, self.group, self.training = loop, group, loop.training
        self.own: str | None = None
        self.begun = False  # before, the learning rate is not yet that of a schedule
        self.numbers = Numbers(loop.training, loop.trained[0].device)
        training = replace(loop.training, method=self.numbers.method)
        self.stepper = Stepper(training, loop.trained, common=group.common)
        self.waiting: tuple[Progress, Outcome] | None = None

    @property
    def reason(self) -> str | None:
        """Why this student's steps are taken one operation after the other; ``None`` where they are not."""
        if self.waiting:  # taken already, however the next ones are
            return None
        return self.own or self.group.reason

    def batches(self, epoch: int, start: int = 0) -> Iterator[Given]:
        """Draws in place of batches where a recording can show the images itself."""
        self.begun = True
        source, common = self.training.train, self.group.common
        if isinstance(source, Drawn) and source.drawn and not self.reason:
            return common.draws(source, epoch, start)
        return common.batches(source, epoch, start)

    def ready(self, here: Progress) -> bool:
        """Whether the student's next step is that one: it has begun, and has neither taken it nor come to its end."""
        place = self.loop.place()
        ended = self.training.epoch >= self.training.run.epochs
        return (
            self.begun and not ended and self.waiting is None and (place.epoch, place.step) == (here.epoch, here.step)
        )

    def shown(self, given: Given) -> Batch:
        """The batch itself."""
        return given if isinstance(given, Batch) else self.group.common.shown(self.training.train, given)

    def __call__(self, given: Given, progress: Progress) -> Step:
        """One step; the tensors of its outcome are good until the next one."""
        if self.waiting is None:
            self.group.step(self, given)
        if self.waiting is None:  # the others are elsewhere, or the batch is an epoch's last
            self.numbers.set(progress)
            return self.taken(self.shown(given), progress)[0]
        (place, (step, self.loop.guard.unseen)), self.waiting = self.waiting, None
        assert place == progress
        return step

    def taken(self, batch: Batch, progress: Progress) -> Outcome:
        """The step itself: nothing in it asks the host for a number that could change."""
        guard = self.loop.guard  # between two epochs its loop has let go of it
        with self.numbers.in_optimizer(), nullcontext() if guard.entered else guard:
            return self.stepper(batch, progress), guard.unseen

    def refuse(self, why: str) -> None:
        """Take no further part."""
        self.own, self.group.recording = why, None
        _warn(f"{self.training.run.method.title}, seed {self.training.run.seed}", why)


@dataclass(eq=False)
class Recording:
    """A step of several students that can be played.

    Args:
        given: the tensors it reads.
        outcomes: the tensors it writes, for each student.
        play: computes them.
        positions: what the host read of each student's position in training while it was recorded.
    """

    given: Given
    outcomes: list[Outcome]
    play: Callable[[], None]
    positions: list[dict[str, int | None]]

    def holds(self, places: Sequence[Progress]) -> bool:
        """Whether the host would decide the same things now."""
        pairs = zip(places, self.positions, strict=True)
        return all(getattr(place, name) == value for place, read in pairs for name, value in read.items())


class Branches:
    """Steps of several loops, recorded together and played where that is possible.

    Whoever comes to a step first takes it for all; the others find it done when it is their turn.

    Args:
        loops: of one device, prepared with ``common``; each gets its branch as ``loop.captured``.
        common: what they share.
        recorder: that of the device unless given.

    Attributes:
        reason: why no student's steps are recorded; ``None`` where some are.
    """

    def __init__(self, loops: Sequence[Loop], common: Common, recorder: Recorder | None = None) -> None:
        self.common = common
        self.device = loops[0].trained[0].device
        if recorder is None and self.device.type == "cuda":
            recorder = Streams(self.device)
        self.recorder = recorder
        self.reason: str | None = None
        self.error: BaseException | None = None
        self.branches = [Branch(loop, self) for loop in loops]
        self.recording: Recording | None = None
        self._left, self._size = WARM_UP, 0
        for loop, branch in zip(loops, self.branches, strict=True):
            loop.captured = branch
            if why := obstacle(loop.training):
                branch.refuse(why)
        if recorder is None:
            self._refuse("there is no CUDA device")

    @property
    def active(self) -> list[Branch]:
        """Students who take part."""
        return [branch for branch in self.branches if branch.own is None]

    def leave(self, loop: Loop) -> None:
        """A student has ended, in one way or another: the others' next recording is without it."""
        self.branches = [branch for branch in self.branches if branch.loop is not loop]
        self.recording, self._left = None, 1

    def step(self, first: Branch, given: Given) -> None:
        """Take a step for all who take part, if all are at this step; each finds it where it waits for that student."""
        if self.error is not None:  # others may have taken half a step: nothing of it must be saved
            raise RuntimeError(f"a step of students side by side has failed: {self.error}") from self.error
        branches = self.active
        places = [branch.loop.place() for branch in branches]
        here = first.loop.place()
        if not all(branch.ready(here) for branch in branches):
            return
        if len(given) > self._size:  # the first batch, or the first one after a run went on with an epoch's last
            self.recording, self._left, self._size = None, WARM_UP, len(given)
        if len(given) < self._size:  # an epoch's last batch
            return
        for branch, place in zip(branches, places, strict=True):
            branch.numbers.set(place)
        if self.recording and not self.recording.holds(places):
            self.recording, self._left = None, 1
        try:
            outcomes = self._played(given, branches, places)
        except BaseException as error:
            self.error = error
            raise
        for branch, place, outcome in zip(branches, places, outcomes or (), strict=outcomes is not None):
            branch.waiting = place, outcome

    def _played(self, given: Given, branches: list[Branch], places: list[Progress]) -> list[Outcome] | None:
        """Outcomes of a step; ``None`` where it could not be recorded, and nothing has moved."""
        if self.recording is None:
            if self._left:
                self._left -= 1
                return self._warm(given, branches, places)
            if not self._record(given, branches, places):
                return None
        recording = self.recording
        assert recording is not None
        for name, tensor in tensors_of(recording.given).items():
            tensor.copy_(getattr(given, name))
        recording.play()
        return recording.outcomes

    def _warm(self, given: Given, branches: list[Branch], places: list[Progress]) -> list[Outcome]:
        """A step that is not recorded, but in the streams in which recording will be."""
        assert self.recorder is not None
        noted = [Noted.of(place) for place in places]
        outcomes = self.recorder.beside(lambda: self._taken(given, branches, noted))
        for branch, note in zip(branches, noted, strict=True):
            if "step" in note.read:
                branch.refuse("the method decides something anew at every step (random classes, a step-wise schedule)")
        return outcomes

    def _record(self, given: Given, branches: list[Branch], places: list[Progress]) -> bool:
        assert self.recorder is not None
        noted = [Noted.of(place) for place in places]
        copies: dict[str, Any] = {name: tensor.clone() for name, tensor in tensors_of(given).items()}
        static = replace(given, **copies)
        self.common.forget()
        try:
            outcomes, play = self.recorder.record(lambda: self._taken(static, branches, noted))
        except (RuntimeError, ValueError) as error:  # the latter: what a network raises, in a sentence
            self._refuse(f"recording failed: {(str(error).splitlines() or [type(error).__name__])[0]}")
            return False
        finally:
            self.common.forget()  # what was shared lies in memory of the recording
        read = [{name: getattr(place, name) for name in n.read} for place, n in zip(places, noted, strict=True)]
        self.recording = Recording(static, outcomes, play, read)
        return True

    def _taken(self, given: Given, branches: list[Branch], places: Sequence[Progress]) -> list[Outcome]:
        """Images and answers in the current stream, then the students beside each other."""
        assert self.recorder is not None
        batch = branches[0].shown(given)
        asked = next((b.stepper.teacher for b in branches if isinstance(b.stepper.teacher, Answers)), None)
        if asked is not None:
            with branches[0].stepper.autocast:
                asked(batch)  # before the fork, or one branch would read what another still computes
        works = [partial(b.taken, batch, place) for b, place in zip(branches, places, strict=True)]
        return self.recorder.fork(works)

    def _refuse(self, why: str) -> None:
        self.reason, self.recording = why, None
        _warn("students side by side", why)


def _warn(who: str, why: str) -> None:
    warnings.warn(f"graph=true: {who} take steps one operation after the other, because {why}", stacklevel=3)
