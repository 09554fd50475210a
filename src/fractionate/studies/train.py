"""Students of one recipe, one paper's row or one config, with several seeds; runs that go on from their folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config.files import override, read_config
from ..config.method import MethodSpec
from ..config.run import Network, Run
from ..models import create, is_own_code
from ..papers.draft import lasting
from ..papers.recipes import paper
from ..recipes import placed
from ..recipes.teachers import alone_top1, teacher_run
from ..runs.folder import CONFIG, SUMMARY
from .compare import file_name, student_jobs
from .display import display
from .jobs import Job, Options, run_jobs
from .teachers import measured_teacher, trained_teacher

if TYPE_CHECKING:
    from rich.console import Console

    from .jobs import Options

# Changes of the students' run that hold for the teacher's training too: which images, where, and on what.
SHARED = (
    "data.name",
    "data.root",
    "data.size",
    "data.skip_broken",
    "data.evaluate_on",
    "device",
    "threads",
    "precision",
    "channels_last",
)
OF_A_FOLDER = ("data.batch_size",)  # a folder may hold fewer images than the usual batch
NETWORK = ("teacher.stem", "teacher.published_bn")  # said of the teacher, they hold while it is trained


@dataclass(frozen=True)
class Choice:
    """What a user says about a recipe.

    Args:
        recipe: data set.
        method: as ``MethodSpec.parse`` reads it.
        teacher: another network as the teacher.
        teacher_checkpoint: its weights, so that it is not trained.
        teacher_epochs: length of its training; ``None`` = the recipe's.
        student: another network as the student.
        epochs: length of a student's run; ``None`` = the recipe's.
        root: folder of the data set; ``None`` = the usual places.
        validation: keep a part of the training images apart and measure on it, to choose settings.
        changes: ``field=value`` of the students' run; those in :data:`SHARED` and :data:`NETWORK` (and
            :data:`OF_A_FOLDER`) hold for the teacher's own training too.
    """

    recipe: str
    method: str = "kd"
    teacher: str | None = None
    teacher_checkpoint: Path | None = None
    teacher_epochs: int | None = None
    student: str | None = None
    epochs: int | None = None
    root: str | None = None
    validation: bool = False
    changes: Sequence[str] = ()


def train_recipe(
    choice: Choice,
    out: Path,
    console: Console,
    *,
    seeds: int = 1,
    workers: int = 1,
    options: Options | None = None,
) -> list[Path]:
    """Train the recipe's teacher unless it is there already, then students.

    Args:
        choice: recipe, method and networks.
        out: folder of the teacher and of all runs; a pair of networks that was named has a folder of its own in it.
        console: where progress goes.
        seeds: students per method.
        workers: processes.
        options: what to do with folders that exist.

    Returns:
        The run folders.

    Raises:
        ValueError: an unknown name, or a folder that is taken.
    """
    found = placed(choice.recipe, choice.root, validation=choice.validation)
    options, spec = options or Options(), MethodSpec.parse(choice.method)
    teacher_run = found.teacher(**_given(name=choice.teacher, epochs=choice.teacher_epochs))
    teacher_run = override(teacher_run, for_teacher(choice.changes, teacher_run.data.name))
    usual = teacher_run.data.name == found.teacher().data.name
    expected = found.expected if usual else lambda network: None
    make = partial(_student, found.student, choice)
    drafted = make(spec, teacher=replace(teacher_run.student, checkpoint=_text(choice.teacher_checkpoint)))
    _check_exists(drafted.student)
    teacher = drafted.teacher
    if teacher and drafted.method.distils and (teacher.checkpoint or teacher.pretrained):
        measured_teacher(teacher, drafted, console, expected)
    elif drafted.method.distils:
        if teacher and teacher.name != teacher_run.student.name:
            raise ValueError(f"the teacher is trained first: name it by --teacher {teacher.name}, not by a field")
        folder = out / ("teacher" if choice.teacher is None else f"teacher-{file_name(choice.teacher)}")
        teacher = trained_teacher(teacher_run, folder, console, options, expected, lambda: [drafted])
    named = choice.teacher or choice.student
    pair = out / f"{file_name(teacher_run.student.name)}__{file_name(drafted.student.name)}" if named else out
    jobs = student_jobs([spec], partial(make, teacher=teacher), seeds, pair)
    return _run(jobs, console, workers, options)


def train_paper(
    choice: Choice,
    out: Path,
    console: Console,
    *,
    seeds: int = 1,
    workers: int = 1,
    options: Options | None = None,
) -> list[Path]:
    """Train what a paper's recipe says, its teacher first unless there are weights.

    Args:
        choice: id of the recipe as ``recipe``; folder, teacher's weights, lengths, validation and ``changes``. Networks
            and method are the recipe's and change as ``field=value``.
        out: folder of the teacher and of all runs.
        console: where progress goes.
        seeds: how many.
        workers: processes.
        options: what to do with folders that exist.

    Returns:
        The run folders.

    Raises:
        ValueError: an unknown recipe, or one that is not runnable or leaves something open; says why or what.
    """
    recipe, options = paper(choice.recipe), options or Options()
    changes = [] if choice.root is None else [f"data.root={choice.root}"]
    changes += ["data.evaluate_on=validation"] if choice.validation else []
    changes += choice.changes
    run = recipe.run(changes, choice.epochs)
    if run.teacher and choice.teacher_checkpoint:
        run = replace(run, teacher=replace(run.teacher, checkpoint=str(choice.teacher_checkpoint)))
    own = run.teacher is not None and run.teacher.name == recipe.row.teacher
    if run.method.distils and run.teacher and (run.teacher.checkpoint or run.teacher.pretrained):
        measured_teacher(run.teacher, run, console, lambda network: recipe.teacher_top1 if own else None)
    elif run.method.distils and run.teacher:
        alone = teacher_run(recipe if own else run.teacher.name)
        alone = override(lasting(alone, choice.teacher_epochs or alone.epochs), for_teacher(changes))
        accuracy = recipe.teacher_top1 if own else alone_top1(run.teacher.name)
        folder = out / f"teacher-{file_name(run.teacher.name)}"
        drafted = run
        teacher = trained_teacher(alone, folder, console, options, lambda network: accuracy, lambda: [drafted])
        run = replace(run, teacher=teacher)
    runs = [replace(run, seed=run.seed + i) for i in range(seeds)]
    jobs = [Job(f"{r.method.title}, seed {r.seed}", r, out / f"seed-{r.seed}") for r in runs]
    return _run(jobs, console, workers, options)


def train_config(
    run: Run, out: Path, console: Console, *, seeds: int | None = None, workers: int = 1, options: Options | None = None
) -> list[Path]:
    """Train what a config says.

    Args:
        run: complete config.
        out: the run folder; with ``seeds``, the folder of one run folder per seed.
        console: where progress goes.
        seeds: repeat with this many seeds, counted from the config's own.
        workers: processes.
        options: what to do with folders that exist.

    Returns:
        The run folders.
    """
    jobs = [Job(run.method.title, run, out)]
    if seeds is not None:
        runs = [replace(run, seed=run.seed + i) for i in range(seeds)]
        jobs = [Job(f"{r.method.title}, seed {r.seed}", r, out / f"seed-{r.seed}") for r in runs]
    return _run(jobs, console, workers, options or Options())


def for_teacher(changes: Iterable[str], images: str = "") -> list[str]:
    """The changes of a student's run that hold for the teacher's own training on these images.

    Example:
        >>> for_teacher(["device=cpu", "teacher.stem=small", "optimizer.lr=1"])
        ['device=cpu', 'student.stem=small']
    """
    said = [(change.partition("=")[0].strip(), change) for change in changes]
    shared = SHARED + OF_A_FOLDER * (images == "folder")
    network = [change.strip().replace("teacher", "student", 1) for path, change in said if path in NETWORK]
    return [*(change for path, change in said if path in shared), *network]


def _check_exists(network: Network) -> None:
    """Refuse what cannot be built before a teacher trains for it, without building it; code of one's own is run."""
    try:
        with torch.device("cpu" if is_own_code(network.name) else "meta"):
            create(network.name, num_classes=2, stem=network.stem, published_bn=network.published_bn)
    except RuntimeError:  # a network that computes with its weights while it is built: it exists
        return


def _student(recipe: Callable[..., Run], choice: Choice, method: MethodSpec, teacher: Network, seed: int = 0) -> Run:
    run = recipe(method, teacher, seed=seed, **_given(name=choice.student, epochs=choice.epochs))
    return override(run, choice.changes)


def _given(**values: str | int | None) -> dict[str, str | int]:
    return {name: value for name, value in values.items() if value is not None}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _run(jobs: list[Job], console: Console, workers: int, options: Options) -> list[Path]:
    with display(console, jobs) as listen:
        run_jobs(jobs, options, listen, workers)
    for job in jobs:
        console.print(str(job.folder), markup=False, highlight=False, soft_wrap=True)
    return [job.folder for job in jobs]


SHOWN = 3


def resume_run(folder: Path, changes: Sequence[str], console: Console, options: Options, workers: int = 1) -> None:
    """Go on with the run that a folder holds, under the config that lies there.

    Args:
        folder: run folder.
        changes: ``field=value``; applied from here on and recorded in the summary, or refused.
        console: where progress goes.
        options: with ``resume`` on.
        workers: processes.

    Raises:
        ValueError: no run there; a change that cannot be made under way.
    """
    if not (folder / CONFIG).is_file():
        raise ValueError(_no_run(folder))
    train_config(override(read_config(folder / CONFIG), changes), folder, console, workers=workers, options=options)


def _no_run(folder: Path) -> str:
    if not folder.exists():
        return f"there is no folder {folder}; name the folder of the run that shall go on"
    below = sorted(p.parent for p in folder.rglob(CONFIG)) if folder.is_dir() else []
    if not below:
        return f"{folder} holds no run (no {CONFIG}); name the folder of the run that shall go on"
    unfinished = [str(p) for p in below if not (p / SUMMARY).is_file()]
    names = f": {', '.join(unfinished[:SHOWN])}{' ...' if len(unfinished) > SHOWN else ''}" if unfinished else ""
    return (
        f"{folder} is a folder of runs ({len(below)}, unfinished {len(unfinished)}{names}); name one, or repeat the "
        f"command that began them with --resume, which also trains those that have not begun"
    )
