"""``fractionate profile``: where the time of a training step goes, and how little it could be."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from ..config.run import Monitors, Run
from ..data import Batch, Source
from ..rows import Progress
from ..teachers.live import Teacher
from ..train.allocation import weighed
from ..train.build import Training, parameters, prepare
from ..train.device import fixed_threads
from ..train.log import BACKWARD, ROWS, UPDATE, Lap
from ..train.step import Stepper
from .cost import Cost, Machine, measure_machine, wait

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
UNCOUNTED = 2  # steps before the first that is timed
DATA, TEACHER, FORWARD = "data", "teacher", "student, forward"
NAMES = {ROWS: FORWARD}  # the teacher apart, rows and losses are the student's forward pass
ORDER = (DATA, TEACHER, "student", BACKWARD, UPDATE)


@dataclass(frozen=True)
class Part:
    """One part of a step.

    Args:
        name: which.
        seconds: median over the steps.
        flops: floating-point operations.
        bytes: read and written by its operations.
        floor: seconds that its operations take at least, each at the machine's best speed.
    """

    name: str
    seconds: float
    flops: int
    bytes: int
    floor: float


@dataclass(frozen=True)
class Profile:
    """A step in parts, in the order in which they run.

    Args:
        parts: of the step.
        images: per step.
        machine: the speeds that the floors are computed with.
    """

    parts: tuple[Part, ...]
    images: int
    machine: Machine

    @property
    def seconds(self) -> float:
        """A whole step."""
        return sum(part.seconds for part in self.parts)

    @property
    def passes(self) -> float | None:
        """Student's time as a multiple of that with one backward pass; ``None`` if it has one."""
        backward = [p.seconds for p in self.parts if p.name.startswith(BACKWARD)]
        rest = sum(p.seconds for p in self.parts if p.name in (FORWARD, UPDATE))
        return (rest + sum(backward)) / (rest + statistics.mean(backward)) if len(backward) > 1 else None


def profile(run: Run, console: Console, *, steps: int = 10) -> Profile:
    """Train a few steps, part by part, and print how long each takes and could take.

    Nothing is written, evaluated or watched (``monitors``, for which every stream needs a backward pass of its own).
    Parts are separated by waiting, so on a GPU the step is slower than in a run, where they overlap.

    Args:
        run: config; the teacher's weights do not matter.
        console: where the table goes.
        steps: how many are timed.

    Raises:
        ValueError: as ``prepare``, or no steps.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    with fixed_threads(run.threads):
        training = prepare(replace(run, monitors=Monitors()))
        found = measure(training, steps)
    _print(found, training.run, console)
    return found


def measure(training: Training, steps: int) -> Profile:
    """Time and count the parts of a step."""
    batches = _endless(training.train)
    device = next(training.student.parameters()).device
    machine = measure_machine(device, getattr(torch, training.run.precision))
    laps, seconds = _Clock(device), []
    take = stepper(training, laps)
    for _ in range(UNCOUNTED + steps):
        laps.begin()
        size = step(take, batches)
        seconds.append(laps.seconds)
    counter = _Counter(machine)
    with counter.cost:
        step(stepper(training, counter), batches)
    parts = [
        Part(name, statistics.median(times), cost.flops, cost.bytes, cost.seconds)
        for name, cost in sorted(counter.costs.items(), key=lambda item: ORDER.index(item[0].partition(",")[0]))
        for times in [[each[name] for each in seconds[UNCOUNTED:]]]
    ]
    return Profile(tuple(parts), size, machine)


def stepper(training: Training, lap: Lap) -> Stepper:
    """The trainer's steps, which tell ``lap`` the name of every part when it is over."""
    teacher = training.teacher
    if teacher is not None and not training.method.regions:  # those are read off the network's own feature maps
        training = replace(training, teacher=_Apart(teacher, lap))
    return Stepper(training, parameters(training.student, training.method), lap=lambda name: lap(NAMES.get(name, name)))


def step(take: Stepper, batches: Iterator[Batch]) -> int:
    """One step as the loop takes it; returns the number of images."""
    t = take.training
    batch = next(batches)
    if take.lap:
        take.lap(DATA)
    take(batch, Progress(step=t.step, epochs=t.run.epochs, steps=t.run.epochs * len(t.train)))
    return len(batch)


class _Apart:
    """A teacher whose work is told apart from what the student has done before, by whichever door it is asked.

    Tasks that take more from its network than logits of images find that as ``teacher``.
    """

    def __init__(self, teacher: Teacher, lap: Lap) -> None:
        self.teacher, self.lap = teacher, lap

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Its logits."""
        return self.apart(lambda: self.teacher(batch))

    def once(self, batch: Batch, make: Callable[[], T]) -> T:
        """What a task computes of it for a batch."""
        return self.apart(make)

    def apart(self, make: Callable[[], T]) -> T:
        """What ``make`` computes."""
        self.lap(FORWARD)
        found = make()
        self.lap(TEACHER)
        return found


def _endless(source: Source) -> Iterator[Batch]:
    for epoch in count(1):
        yield from source.batches(epoch)


class _Clock:
    """Seconds of every part of a step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def begin(self) -> None:
        self.seconds: dict[str, float] = {}
        wait(self.device)
        self.last = time.perf_counter()

    def __call__(self, name: str) -> None:
        wait(self.device)
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.last = now


class _Counter:
    """Arithmetic and traffic of every part of a step."""

    def __init__(self, machine: Machine) -> None:
        self.cost = Cost(machine)
        self.costs: dict[str, Cost] = {}

    def __call__(self, name: str) -> None:
        into = self.costs.setdefault(name, Cost(self.cost.machine))
        into.flops, into.bytes = into.flops + self.cost.flops, into.bytes + self.cost.bytes
        into.seconds += self.cost.seconds
        self.cost.flops, self.cost.bytes, self.cost.seconds = 0, 0, 0.0


def _print(found: Profile, run: Run, console: Console) -> None:
    from rich.table import Table

    table = Table(title=f"{run.method.title}: one step of {found.images} images, {run.student.name}")
    table.add_column("part")
    for head in ("ms", "share %", "GFLOP", "MB", "floor ms", "floor / time"):
        table.add_column(head, justify="right")
    for part in found.parts:
        table.add_row(*_cells(part, found.seconds), end_section=part is found.parts[-1])
    table.add_row(*_cells(_together(found), found.seconds))
    console.print(table)
    console.print(
        f"{found.images / found.seconds:,.0f} images/s. Best speeds seen here: "
        f"{found.machine.flops / 1e9:,.0f} GFLOP/s, {found.machine.bytes / 1e9:,.0f} GB/s."
    )
    for line in weighed(run):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if found.passes:
        console.print(f"The student's part takes {found.passes:.2f} times as long as with one backward pass.")


def _together(found: Profile) -> Part:
    """The whole step as one part."""
    flops, moved = sum(p.flops for p in found.parts), sum(p.bytes for p in found.parts)
    return Part("step", found.seconds, flops, moved, sum(p.floor for p in found.parts))


def _cells(part: Part, whole: float) -> list[str]:
    """A row: time, share of ``whole``, work, floor, and how much of the time the floor is."""
    work = (f"{part.flops / 1e9:.3f}", f"{part.bytes / 1e6:.1f}", f"{1e3 * part.floor:.2f}")
    times = (f"{1e3 * part.seconds:.2f}", f"{100 * part.seconds / whole:.1f}")
    return [part.name, *times, *work, f"{part.floor / part.seconds:.2f}"]
