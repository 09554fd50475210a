"""The teacher of a study: trained once, kept with its accuracy, and shown before anything learns from it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .._headlines import headline, headline_of
from .._terminal import in_bytes, in_time, one_line
from ..config.files import differences
from ..config.run import Network, Run
from ..models import OtherHead, is_own_code
from ..probe.sample import Thinned
from ..recipes.folder import fine_tuning
from ..runs.folder import RunFolder
from ..runs.taught import in_words, training_of
from ..tasks import measure_with
from ..train.build import prepare, task_of
from ..train.checks import BEFORE_A_TEACHER, check_training
from ..train.device import fixed_threads, place
from ..train.health import check_weights
from ..train.networks import build, build_for, build_teacher, check_auxiliary
from ..train.pixels import settled
from ..train.sources import sources
from .display import display
from .jobs import Event, Job, Listener, Options, run_jobs
from .usual import guessed, knows_nothing

if TYPE_CHECKING:
    from rich.console import Console

FEW = 64  # test images


def check_students(runs: Sequence[Run]) -> None:
    """Try every student's run on a few images, with a teacher as it is before its training.

    Args:
        runs: of students, all on the same images.

    Raises:
        ValueError: settings, networks, batches or a method that do not fit each other or the data, as
            :func:`fractionate.train.checks.check_training` says it.
    """
    if not runs:
        return
    for run in runs:
        check_auxiliary(run)
    train, test = sources(runs[0].data, runs[0].seed, place(runs[0].device))
    few = Thinned(test, max(1, test.count // FEW))
    for run in runs:
        made = train if run.data == runs[0].data else sources(run.data, run.seed, place(run.device))[0]
        training = prepare(replace(run, teacher_table="off"), train=made, test=few)
        check_training(training, needs=BEFORE_A_TEACHER)


SLACK = 1.0  # points below the expected accuracy that are still within the spread of seeds
# Fields in which a teacher that is there may differ from the one asked for: where and on what it was trained.
MAY_DIFFER = (
    "data.root",
    "data.cache",
    "data.workers",
    "device",
    "threads",
    "precision",
    "channels_last",
    "save_every",
)


ENOUGH, LONG = 2.0, 30.0  # seconds of steps that tell the rest, and from which a rest is worth telling


class Foretold:
    """A listener that says once, after a job's first steps, how long the job takes and how much memory.

    Args:
        listen: gets every event too.
        console: where it is said.
        what: name of the job.
        clock: seconds.
    """

    def __init__(
        self, listen: Listener, console: Console, what: str, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.listen, self.console, self.what, self.clock = listen, console, what, clock
        self.first: tuple[float, float] | None = None  # epochs done, and when
        self.said = False

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        self.listen(event)
        if self.said or not event.images_per_s:
            return
        now = self.clock()
        if self.first is None:
            self.first = (event.epoch, now)
        elif now - self.first[1] >= ENOUGH and event.epoch > self.first[0]:
            self.said = True
            seconds = (now - self.first[1]) / (event.epoch - self.first[0]) * (event.epochs - event.epoch)
            if seconds >= LONG:
                told = f"{self.what} takes about {in_time(seconds)} ({event.images_per_s:,.0f} images/s{_memory()})"
                self.console.print(told, markup=False, highlight=False, soft_wrap=True)


def _memory() -> str:
    """How much memory this process has taken so far, in words; empty where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    return f", {in_bytes(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)} of memory"


def trained_teacher(
    run: Run,
    folder: Path,
    console: Console,
    options: Options,
    expected: Callable[[Network], float | None] = lambda network: None,
    students: Callable[[], Sequence[Run]] = tuple,
) -> Network:
    """The teacher that ``run`` trains, from its folder if it is there; prints how good it is.

    Args:
        run: the teacher's own training.
        folder: its run folder; a finished run that is there is used as it is if only fields of :data:`MAY_DIFFER`
            differ.
        console: where progress and accuracy go.
        options: what to do with a folder that holds another run.
        expected: value of the headline that such a network ought to reach.
        students: what is going to learn from it; looked at before it is trained.

    Returns:
        The network with its weights.

    Raises:
        ValueError: the folder holds another run (says what differs), or a student could not learn from such a teacher.
    """
    there = RunFolder(folder)
    other: list[str] = []
    if there.finished:
        kept = there.config()
        other = [path for path in differences(kept, run) if path not in MAY_DIFFER]
        if other and not options.overwrite:
            raise ValueError(
                f"{folder} holds a finished run with another {', '.join(other)}: choose another folder for this "
                f"teacher (--out), or replace the one that is there (--overwrite)"
            )
    if there.finished and not other:
        run, options = kept, replace(options, overwrite=False, resume=True)
    check_students(students())
    job = Job(f"teacher {run.student.name}", run, folder)
    with display(console, [job], "teacher", ends=False) as listen:
        run_jobs([job], options, Foretold(listen, console, f"the teacher {run.student.name}"))
    facts = there.summary()
    key = headline_of(facts)
    score, part = (key, facts[f"last_{key}"]), run.data.evaluate_on
    _show(run.student, score, facts["params"], part, expected(run.student), console)
    if knows_nothing(run.task.name, facts):
        _warn("train it longer (--teacher-epochs N), or at another rate", console)
    return replace(run.student, checkpoint=str(there.student))


def fine_tuned_teacher(
    teacher: Network,
    alone: Run,
    folder: Path,
    console: Console,
    options: Options,
    *,
    epochs: int | None = None,
    students: Sequence[Run] = (),
) -> Network | None:
    """A teacher out of pretrained weights for other classes or of an encoder, trained once and kept as others are.

    Args:
        teacher: ``pretrained``, perhaps with the file of the library's weights.
        alone: how such a network is trained from nothing on these images.
        folder: of the teacher's run.
        console, options: as for :func:`trained_teacher`.
        epochs: length; ``None`` leaves it to :func:`fractionate.recipes.folder.fine_tuning`, of masks and boxes to
            ``alone``: all behind their encoders is new, so that the whole training is theirs.
        students: what is going to learn from it.

    Returns:
        The network with its weights; ``None`` where the last layer fits, so that it is used as it is.

    Raises:
        ValueError: the weights are not at hand or do not fit, or as :func:`trained_teacher`.
    """
    train = sources(alone.data, alone.seed, place(alone.device))[0]
    try:
        build(teacher, train.num_classes, classes=train.classes)
        return None
    except OtherHead as error:
        scenes = alone.task.name != "classification"
        run = _on_scenes(alone, teacher, epochs) if scenes else fine_tuning(alone, teacher, train.count, epochs)
        what = "is trained first, beginning with them" if scenes else "gets a new last layer and is fine-tuned first"
        how = f"{run.optimizer.name} at {run.optimizer.lr:g}, {run.epochs} epochs, kept in {folder}"
        console.print(f"{one_line(error)}: the teacher {what} ({how})", markup=False, highlight=False, soft_wrap=True)
    own = scenes or is_own_code(teacher.name)  # these say it themselves
    way = teacher.preprocessing or (None if own else "library")
    blank = Network(teacher.name, stem=run.student.stem, preprocessing=way)
    return trained_teacher(
        run, folder, console, options, students=lambda: [replace(one, teacher=blank) for one in students]
    )


def _on_scenes(alone: Run, teacher: Network, epochs: int | None) -> Run:
    """Their own training, begun with these weights."""
    from ..papers.draft import lasting

    begun = replace(teacher, stem=alone.student.stem, published_bn=alone.student.published_bn)
    return replace(lasting(alone, epochs or alone.epochs), student=begun)


def settled_teacher(teacher: Network, run: Run) -> Network:
    """A teacher with weights that says how it wants its pixels, if that had to be tried: once, for all its students.

    Raises:
        ValueError: weights that do not fit, or trying does not tell.
    """
    train, test = sources(run.data, run.seed, place(run.device))
    return settled(
        build_teacher(teacher, test.num_classes, test.classes).to(place(run.device)), teacher, train, test, "teacher"
    )


def measured_teacher(
    teacher: Network, run: Run, console: Console, expected: Callable[[Network], float | None] = lambda network: None
) -> Network:
    """A teacher that has its weights already; prints how good it is on the images the students are tested on.

    Args:
        teacher: network with a checkpoint, or pretrained.
        run: of a student.
        console: where the accuracy goes.
        expected: as for :func:`trained_teacher`.

    Returns:
        The same network.

    Raises:
        ValueError: weights that do not fit or are not finite.
    """
    check_auxiliary(replace(run, teacher=teacher))
    train, test = sources(run.data, run.seed, place(run.device))
    net = build_for(teacher, train, test, "teacher").to(place(run.device))
    check_weights("teacher", net)
    with fixed_threads(run.threads):
        found = measure_with(task_of(run, test.classes).metrics(), net, test).result()
    size = sum(p.numel() for p in net.parameters())
    _show(teacher, (found.headline, found.score), size, run.data.evaluate_on, expected(teacher), console)
    if teacher.checkpoint and (how := in_words(training_of(teacher.checkpoint))):
        console.print(f"it was {how}", markup=False, highlight=False, soft_wrap=True)
    if found.score < guessed(run.task.name, getattr(found, "shares", {}), test.num_classes):
        known = f"do these weights know these {test.num_classes} classes?"
        _warn(f"{known} A library's pretrained network has a new, untrained last layer for them", console)
    return teacher


def _warn(remedy: str, console: Console) -> None:
    console.print(f"that is no more than guessing gives: {remedy}", style="yellow", soft_wrap=True)


def _show(
    teacher: Network, score: tuple[str, float], params: int, part: str, wanted: float | None, console: Console
) -> None:
    metric, value = headline(score[0]), score[1]
    console.print(
        f"teacher {teacher.name}: {metric.value(value)} {metric.label} on the {part} images"
        f"{'' if wanted is None else f' (expected {wanted:g})'}, {params:,} parameters",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if wanted is not None and value < wanted - SLACK:
        console.print(
            f"that is below the expected {wanted:g} {metric.unit}: students will learn less from it",
            style="yellow",
            soft_wrap=True,
        )
