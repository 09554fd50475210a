"""Progress of several runs: live bars on a terminal, plain lines now and then anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .jobs import Event, Job, Listener

EVERY = 60.0  # seconds between two lines about epochs, where there are no bars

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


@contextmanager
def display(console: Console, jobs: Sequence[Job], title: str = "runs", *, ends: bool = True) -> Iterator[Listener]:
    """A listener for :func:`run_jobs` that shows how far the jobs are.

    Args:
        console: where to show it.
        jobs: all jobs.
        title: name of the bar that counts them.
        ends: whether to print a line for a finished job where bars cannot be shown.
    """
    if not console.is_terminal:
        yield Lines(console, jobs, ends=ends)
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


class _Bars:
    """One bar for all jobs and one for each that is running."""

    def __init__(self, progress: Progress, jobs: Sequence[Job], title: str) -> None:
        self.progress, self.jobs = progress, jobs
        self.all = progress.add_task(f"[bold]{title}", total=len(jobs), note="")
        self.running: dict[int, TaskID] = {}
        self.top1: dict[int, str] = {}  # as last measured

    def __call__(self, event: Event) -> None:
        job = self.jobs[event.job]
        if event.done:
            if event.job in self.running:
                self.progress.remove_task(self.running.pop(event.job))
            self.progress.advance(self.all)
            return
        if event.job not in self.running:
            self.running[event.job] = self.progress.add_task(job.title, total=event.epochs, note="")
        bar = self.running[event.job]
        if not event.images_per_s:  # where it begins; no progress, which would tell a wrong speed
            self.progress.reset(bar, completed=event.epoch)  # type: ignore[arg-type]  # floats are shown too
            return
        if event.top1 is not None:
            self.top1[event.job] = f"{event.top1:.2f} %  "
        note = f"{self.top1.get(event.job, '')}{event.images_per_s:,.0f} images/s"
        self.progress.update(bar, completed=event.epoch, note=note)


class Lines:
    """A line when a job is done, and one about how far a job is when there was none for a minute.

    Accuracy is measured at the end of an epoch, so that is where a line is, unless the epoch is longer than a minute.

    Args:
        console: where they go.
        jobs: all jobs.
        ends: whether a finished job has a line of its own.
        clock: seconds.
    """

    def __init__(
        self,
        console: Console,
        jobs: Sequence[Job],
        *,
        ends: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.console, self.jobs, self.ends, self.clock = console, jobs, ends, clock
        self.finished, self.trained, self.started = 0, 0.0, clock()
        self.reached = [0.0] * len(jobs)  # epochs
        self.top1: dict[int, str] = {}  # as last measured
        self.printed, self.ended = self.started, [self.started] * len(jobs)

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        title, now = self.jobs[event.job].title, self.clock()
        if event.done:
            self.reached[event.job] = event.epochs
            self.finished += 1
            if self.ends:
                self._say(now, f"{title}: {event.top1:.2f} % top-1")
            return
        self._see(event, now)
        if event.images_per_s:
            quiet_since = self.printed if event.top1 is not None else max(self.printed, self.ended[event.job])
            if now - quiet_since >= EVERY and event.epoch < event.epochs:
                speed = f"{self.top1.get(event.job, '')}{event.images_per_s:,.0f} images/s"
                self._say(now, f"{title}: {_place(event)}, {speed}, {self._remaining(now)} left")

    def _see(self, event: Event, now: float) -> None:
        """Count what was trained since the job's last event, or where it begins."""
        if event.images_per_s:
            self.trained += event.epoch - self.reached[event.job]
        self.reached[event.job] = event.epoch
        if event.top1 is not None:
            self.ended[event.job] = now
            self.top1[event.job] = f"{event.top1:.2f} % top-1, "

    def _say(self, now: float, text: str) -> None:
        self.printed = now
        place = f"[{self.finished}/{len(self.jobs)}, {now - self.started:.0f} s]"
        self.console.print(f"{place} {text}", markup=False, highlight=False, soft_wrap=True)

    def _remaining(self, now: float) -> str:
        """Time for the epochs that are left in all jobs, as fast as those so far."""
        left = sum(job.run.epochs for job in self.jobs) - sum(self.reached)
        seconds = (now - self.started) / self.trained * left
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"about {hours} h {minutes:02} min" if hours else f"about {max(1, minutes)} min"


def _place(event: Event) -> str:
    epoch, part = divmod(event.epoch, 1)
    if not part:
        return f"epoch {epoch:.0f} of {event.epochs}"
    return f"{100 * part:.0f} % of epoch {epoch + 1:.0f} of {event.epochs}"
