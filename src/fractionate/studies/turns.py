"""Runs side by side in one process: each takes a step when it is its turn, and ends as it would have ended alone."""

from __future__ import annotations

import random
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor

from ..runs.stop import Stop, Stopped
from ..tasks import Diverged
from ..train.branches import Branches
from ..train.lockstep import Common
from ..train.loop import Loop

if TYPE_CHECKING:
    from ..runs.runner import Turns

T = TypeVar("T")


@dataclass(frozen=True)
class Surroundings:
    """What a run changes of its process and finds as it left it: every generator without a name, and CPU threads."""

    cpu: Tensor
    cuda: list[Tensor]
    python: tuple[Any, ...]
    numpy: Any
    threads: int

    @staticmethod
    def now() -> Surroundings:
        """As they are."""
        numpy = sys.modules.get("numpy")
        return Surroundings(
            torch.get_rng_state(),
            torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            random.getstate(),
            numpy.random.get_state() if numpy else None,
            torch.get_num_threads(),
        )

    def restore(self) -> None:
        """Make them so again."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        random.setstate(self.python)
        if self.numpy is not None:
            import numpy

            numpy.random.set_state(self.numpy)  # noqa: NPY002 (what other code draws from)
        if self.threads != torch.get_num_threads():
            torch.set_num_threads(self.threads)


class Student(Generic[T]):
    """One of the runs.

    Args:
        title: of the run.
        turns: of it.
        around: what it finds at its first turn.

    Attributes:
        loop: once it has one.
        result: once it has ended by itself.
    """

    def __init__(self, title: str, turns: Turns[T], around: Surroundings) -> None:
        self.title, self.turns, self.around = title, turns, around
        self.loop: Loop | None = None
        self.result: T | None = None
        self._left = 0.0

    def turn(self) -> bool:
        """Take one; whether there may be another."""
        self.around.restore()
        if self.loop:
            self.loop.log.away(time.perf_counter() - self._left)  # a run's seconds are those of its own turns
        try:
            self.loop = next(self.turns)
        except StopIteration as end:
            self.result = end.value
            return False
        finally:
            self._left, self.around = time.perf_counter(), Surroundings.now()
        return True

    def close(self) -> None:
        """Let go of everything it holds."""
        self.around.restore()
        self.turns.close()


def in_lockstep(runs: Sequence[tuple[str, Turns[T]]], stop: Stop, common: Common) -> list[T]:
    """Let runs take turns until all have ended, those that are behind first.

    Who begins a step, and so makes the batch and asks the teacher, changes from step to step.

    Args:
        runs: titles and turns.
        stop: theirs.
        common: what they share.

    Returns:
        What they return, in their order.

    Raises:
        Diverged: a run did; the others have gone on to their end.
        Exception: whatever the first failing run raised; the others were asked to stop, and have saved.
        Stopped: they were asked to end early.
    """
    before = Surroundings.now()
    students = [Student(title, turns, before) for title, turns in runs]
    failures: list[Exception] = []
    try:
        waiting = [student for student in students if student.turn()]  # prepared; nothing is trained yet
        recorded = _recorded([student.loop for student in waiting if student.loop], common)
        while waiting:
            student = min(waiting, key=lambda one: _turn_of(one, students))
            try:
                on = student.turn()
            except Exception as error:
                on = False
                _note(error, student, failures, stop)
            if not on:
                waiting.remove(student)
                if recorded and student.loop:
                    recorded.leave(student.loop)
    finally:
        for student in students:
            student.close()
        before.restore()
    if failures:
        raise next((fault for fault in failures if not isinstance(fault, Stopped)), failures[0])
    return [student.result for student in students]  # type: ignore[misc]  # all have one


def _recorded(loops: Sequence[Loop], common: Common) -> Branches | None:
    """Their steps as one graph, where the config asks for it."""
    return Branches(loops, common) if loops and loops[0].training.run.graph else None


def _turn_of(student: Student[T], students: Sequence[Student[T]]) -> tuple[int, int]:
    """Steps done; of equals, one after the other begins a step."""
    assert student.loop is not None
    step = student.loop.training.step
    return step, (students.index(student) - step) % len(students)


def _note(error: Exception, student: Student[T], failures: list[Exception], stop: Stop) -> None:
    """Remember a failure; one that may be the fault of all lets the others save and end."""
    others = "the runs beside it go on" if isinstance(error, Diverged) else "the runs beside it stop now and are saved"
    if not isinstance(error, Stopped):
        warnings.warn(f"{student.title} failed ({error}); {others}", stacklevel=3)
        if not isinstance(error, Diverged):
            stop.ask("SIGTERM")
    failures.append(error)
