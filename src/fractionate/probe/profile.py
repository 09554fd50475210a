"""``fractionate profile``: where the time of a training step goes, and how little it could be."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config.run import Monitors, Run
from ..data import Batch, Source
from ..optim import StreamGrads, stream_grads
from ..rows import Logits, Progress, weighted_mean
from ..teachers.live import Teacher
from ..train.build import Training, autocast, fixed_threads, parameters, prepare
from ..train.step import rows_of
from .cost import Cost, Machine, measure_machine, wait

if TYPE_CHECKING:
    from rich.console import Console

UNCOUNTED = 2  # steps before the first that is timed
DATA, TEACHER, FORWARD, BACKWARD, UPDATE = "data", "teacher", "student, forward", "backward", "update"
Mark = Callable[[str], AbstractContextManager[None]]


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
    _print(found, run, console)
    return found


def measure(training: Training, steps: int) -> Profile:
    """Time and count the parts of a step."""
    batches = _endless(training.train)
    device = next(training.student.parameters()).device
    bfloat16 = training.run.precision == "bfloat16"
    machine = measure_machine(device, torch.bfloat16 if bfloat16 else torch.float32)
    seconds: dict[str, list[float]] = {}
    for i in range(UNCOUNTED + steps):
        if i == UNCOUNTED:
            seconds.clear()
        size = step(training, batches, _clock(seconds, device))
    costs: dict[str, Cost] = {}
    step(training, batches, _counter(costs, machine))
    parts = [
        Part(name, statistics.median(times), costs[name].flops, costs[name].bytes, costs[name].seconds)
        for name, times in seconds.items()
    ]
    return Profile(tuple(parts), size, machine)


def step(training: Training, batches: Iterator[Batch], mark: Mark) -> int:
    """One step as the loop takes it, each part inside of ``mark(name)``; returns the number of images."""
    t = training
    trained = parameters(t.student, t.method)
    progress = Progress(t.step, 1, t.run.epochs, t.run.epochs * len(t.train))
    with mark(DATA):
        batch = next(batches)
    teacher = t.teacher
    if (
        teacher is not None and not t.method.regions
    ):  # those are read off the teacher's feature maps, with the student's
        with mark(TEACHER), autocast(t.run, batch.images.device):
            teacher = _given(teacher(batch))
    with mark(FORWARD):
        with autocast(t.run, batch.images.device):
            lg = rows_of(t.method, t.student, teacher, batch)
        losses = _losses(training, lg, progress)
    grads: dict[str, tuple[Tensor | None, ...]] = {}
    for name, loss in losses.items():
        with mark(f"{BACKWARD}, {name}" if len(losses) > 1 else BACKWARD):
            grads |= stream_grads({name: loss}, trained, retain_graph=len(grads) + 1 < len(losses)).streams
    with mark(UPDATE):
        t.optimizer.step(StreamGrads(grads, tuple(trained)))
    return len(batch)


def _losses(training: Training, lg: Logits, progress: Progress) -> dict[str, Tensor]:
    rows = training.method.components(lg, progress)
    means = {name: weighted_mean(x, lg.weight) for name, x in rows.items()}
    return training.method.combine(means, progress, training.merge)


def _given(logits: tuple[Tensor, Tensor | None]) -> Teacher:
    return lambda batch: logits


def _endless(source: Source) -> Iterator[Batch]:
    for epoch in count(1):
        yield from source.batches(epoch)


def _clock(seconds: dict[str, list[float]], device: torch.device) -> Mark:
    @contextmanager
    def mark(name: str) -> Iterator[None]:
        wait(device)
        start = time.perf_counter()
        yield
        wait(device)
        seconds.setdefault(name, []).append(time.perf_counter() - start)

    return mark


def _counter(costs: dict[str, Cost], machine: Machine) -> Mark:
    @contextmanager
    def mark(name: str) -> Iterator[None]:
        with Cost(machine) as costs[name]:
            yield

    return mark


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
