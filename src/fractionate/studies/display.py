"""Progress of several runs: bars on a terminal, plain lines elsewhere, and the boards of others."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .._choices import choose
from .._headlines import headline
from ..config.files import to_plain
from ..config.run import Run
from ..train.device import fast_precision, place
from ..train.loop import Record

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from .jobs import Event, Job, Listener

Board = Literal["tensorboard", "wandb"]
Write = Callable[[Record], None]


@contextmanager
def boards(kinds: Sequence[Board], run: Run, folder: Path) -> Iterator[Write]:
    """A function that shows a record on every board; ``metrics.jsonl`` is written in any case.

    Args:
        kinds: which boards.
        run: its config is shown too.
        folder: the run folder; TensorBoard's files lie in ``tensorboard`` below it.

    Raises:
        ValueError: an unknown board.
        ImportError: its package is not installed.

    Example:
        >>> from fractionate.config.method import MethodSpec
        >>> from fractionate.config.run import Network
        >>> with boards((), Run(student=Network("convnet_4_8"), method=MethodSpec("ce")), Path(".")) as write:
        ...     callable(write)
        True
    """
    for kind in kinds:
        choose("board", kind, tuple(BOARDS))
        _check_installed(kind)
    opened: list[Opened] = []

    def write(record: Record) -> None:
        if not opened:  # not before the run folder is known to be free
            opened.extend(BOARDS[kind](run, folder) for kind in kinds)
        columns = {name: value for name, value in record.columns().items() if value is not None and name != "epoch"}
        for show, _ in opened:
            show(columns, record.epoch)

    try:
        yield write
    finally:
        for _, close in opened:
            close()


def _check_installed(kind: Board) -> None:
    if kind not in sys.modules and importlib.util.find_spec(kind) is None:
        extra = "boards" if kind == "tensorboard" else kind
        raise ImportError(
            f"the board {kind!r} needs a package that is not installed: pip install 'fractionate[{extra}]'"
        )


Opened = tuple[Callable[[dict[str, Any], int], None], Callable[[], None]]


def _tensorboard(run: Run, folder: Path) -> Opened:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def show(columns: dict[str, Any], epoch: int) -> None:
        for name, value in columns.items():
            writer.add_scalar(name, value, epoch)

    return show, writer.close


def _wandb(run: Run, folder: Path) -> Opened:
    import wandb

    name = f"{run.data.name}/{run.method.title}/seed-{run.seed}"
    started = wandb.init(project="fractionate", name=name, dir=str(folder), config=to_plain(run))
    return (lambda columns, epoch: started.log(columns, step=epoch)), started.finish


BOARDS: dict[Board, Callable[[Run, Path], Opened]] = {"tensorboard": _tensorboard, "wandb": _wandb}


EVERY = 60.0  # seconds between two lines about epochs, where there are no bars
SOON = 10.0  # seconds to the first one, which tells that all is well and how fast it goes
LEAST = 5.0  # seconds of steps, the first ones left out, from which an estimate is made


@contextmanager
def display(console: Console, jobs: Sequence[Job], title: str = "runs", *, ends: bool = True) -> Iterator[Listener]:
    """A listener for :func:`run_jobs` that shows how far the jobs are.

    Args:
        console: where to show it.
        jobs: all jobs.
        title: name of the bar that counts them.
        ends: whether to print a line for a finished job where bars cannot be shown.
    """
    for device in dict.fromkeys(job.run.device for job in jobs if job.run.precision == "auto"):
        chosen, why = fast_precision(place(device))
        console.print(f"precision=auto: {chosen}, because {why}", highlight=False, soft_wrap=True)
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
        self.scores: dict[int, str] = {}  # as last measured

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
        if event.score is not None:
            self.scores[event.job] = f"{headline(event.headline).value(event.score)}  "
        note = f"{self.scores.get(event.job, '')}{event.images_per_s:,.0f} images/s"
        self.progress.update(bar, completed=event.epoch, note=note)


class Lines:
    """A line when a job is done, a first one after seconds, and one about how far a job is after a minute of silence.

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
        self.scores: dict[int, str] = {}  # as last measured
        self.begun: float | None = None  # the first job, which processes that start have kept waiting
        self.first: tuple[float, float] | None = None  # when its first steps were taken, and how many epochs they were
        self.said, self.printed, self.ended = False, self.started, [self.started] * len(jobs)

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        title, now = self.jobs[event.job].title, self.clock()
        self.begun = now if self.begun is None else self.begun
        if event.done:
            self.reached[event.job] = event.epochs
            self.finished += 1
            if self.ends:
                self._say(now, f"{title}: {_scored(event)}")
            return
        self._see(event, now)
        if event.images_per_s:
            quiet_since = self.printed if event.score is not None else max(self.printed, self.ended[event.job])
            wait = EVERY if self.said else SOON
            if now - quiet_since >= wait and event.epoch < event.epochs:
                speed = f"{self.scores.get(event.job, '')}{event.images_per_s:,.0f} images/s"
                self._say(now, f"{title}: {_place(event)}, {speed}{self._remaining(now, event.score is not None)}")

    def _see(self, event: Event, now: float) -> None:
        """Count what was trained since the job's last event, or where it begins."""
        if event.images_per_s:
            self.trained += event.epoch - self.reached[event.job]
            self.first = (now, self.trained) if self.first is None else self.first
        self.reached[event.job] = event.epoch
        if event.score is not None:
            self.ended[event.job] = now
            self.scores[event.job] = f"{_scored(event)}, "

    def _say(self, now: float, text: str) -> None:
        self.said, self.printed = True, now
        place = f"[{self.finished}/{len(self.jobs)}, {now - self.started:.0f} s]"
        self.console.print(f"{place} {text}", markup=False, highlight=False, soft_wrap=True)

    def _remaining(self, now: float, whole: bool) -> str:
        """Time for the epochs that are left in all jobs, as fast as those after the first steps, which start slowly.

        Nothing where there are only such steps: an estimate from them would be far too long.
        """
        left = sum(job.until or job.run.epochs for job in self.jobs) - sum(self.reached)
        since, before = self.started if self.begun is None else self.begun, 0.0
        if self.first is not None and self.trained > self.first[1] and now - self.first[0] >= LEAST:
            since, before = self.first
        elif not whole:
            return ""
        seconds = (now - since) / (self.trained - before) * left
        hours, minutes = divmod(round(seconds / 60), 60)
        about = f"{hours} h {minutes:02} min" if hours else f"{max(1, minutes)} min"
        return f", about {about} left"


def _scored(event: Event) -> str:
    """The headline as measured."""
    metric = headline(event.headline)
    return f"{metric.value(event.score)} {metric.label}" if event.score is not None else f"no {metric.label}"


def _place(event: Event) -> str:
    epoch, part = divmod(event.epoch, 1)
    if not part:
        return f"epoch {epoch:.0f} of {event.epochs}"
    return f"{100 * part:.0f} % of epoch {epoch + 1:.0f} of {event.epochs}"
