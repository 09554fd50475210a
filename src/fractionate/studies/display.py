"""Progress of several runs: live bars on a terminal, one line per finished run anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .jobs import Event, Job, Listener

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


@contextmanager
def display(console: Console, jobs: Sequence[Job], title: str = "runs", *, lines: bool = True) -> Iterator[Listener]:
    """A listener for :func:`run_jobs` that shows how far the jobs are.

    Args:
        console: where to show it.
        jobs: all jobs.
        title: name of the bar that counts them.
        lines: whether to print lines where bars cannot be shown.
    """
    if not console.is_terminal:
        yield _Lines(console, jobs) if lines else _silent
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress, jobs, title)


def _silent(event: Event) -> None:
    """Show nothing."""


class _Bars:
    """One bar for all jobs and one for each that is running."""

    def __init__(self, progress: Progress, jobs: Sequence[Job], title: str) -> None:
        self.progress, self.jobs = progress, jobs
        self.all = progress.add_task(f"[bold]{title}", total=len(jobs), note="")
        self.running: dict[int, TaskID] = {}

    def __call__(self, event: Event) -> None:
        job = self.jobs[event.job]
        if event.done:
            if event.job in self.running:
                self.progress.remove_task(self.running.pop(event.job))
            self.progress.advance(self.all)
            return
        if event.job not in self.running:
            self.running[event.job] = self.progress.add_task(job.title, total=event.epochs, note="")
        note = f"{event.top1:.2f} %  {event.images_per_s:,.0f} images/s"
        self.progress.update(self.running[event.job], completed=event.epoch, note=note)


class _Lines:
    """A line when a job is done."""

    def __init__(self, console: Console, jobs: Sequence[Job]) -> None:
        self.console, self.jobs = console, jobs
        self.finished, self.started = 0, time.perf_counter()

    def __call__(self, event: Event) -> None:
        if event.done:
            self.finished += 1
            seconds = time.perf_counter() - self.started
            place = f"[{self.finished}/{len(self.jobs)}, {seconds:.0f} s]"
            self.console.print(
                f"{place} {self.jobs[event.job].title}: {event.top1:.2f} % top-1", markup=False, highlight=False
            )
