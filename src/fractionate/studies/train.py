"""Students of one recipe, one paper's row or one config, with several seeds; runs that go on from their folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.files import override, read_config
from ..config.method import MethodSpec
from ..config.run import Network, Run
from ..runs.folder import CONFIG, SUMMARY
from .chosen import Choice, chosen_jobs, file_name, for_teacher
from .display import display
from .jobs import Job, Options, run_jobs
from .teachers import fine_tuned_teacher, measured_teacher, settled_teacher, trained_teacher
from .usual import methods_of, say_guesses, say_settled, say_weights

if TYPE_CHECKING:
    from rich.console import Console

    from .jobs import Options


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
    options = options or Options()
    jobs, _ = chosen_jobs(choice, methods_of(choice, [choice.method], console), seeds, out, console, options)
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
    from ..papers import paper

    recipe, options = paper(choice.recipe), options or Options()
    changes = [] if choice.root is None else [f"data.root={choice.root}"]
    changes += ["data.evaluate_on=validation"] if choice.validation else []
    changes += choice.changes
    run = recipe.run(changes, choice.epochs)
    if run.teacher and choice.teacher_checkpoint:
        run = replace(run, teacher=replace(run.teacher, checkpoint=str(choice.teacher_checkpoint)))
    if run.method.distils and run.teacher:
        run = replace(run, teacher=_taught(run, choice, changes, out, console, options))
    runs = [replace(run, seed=run.seed + i) for i in range(seeds)]
    jobs = [Job(f"{r.method.title}, seed {r.seed}", r, out / f"seed-{r.seed}") for r in runs]
    return _run(jobs, console, workers, options)


def _taught(run: Run, choice: Choice, changes: Sequence[str], out: Path, console: Console, options: Options) -> Network:
    """The teacher of a paper's run with its weights: given, fine-tuned, or trained."""
    from ..papers import paper
    from ..papers.draft import lasting
    from ..recipes.teachers import alone_top1, teacher_run

    recipe, teacher = paper(choice.recipe), run.teacher
    assert teacher is not None
    own = teacher.name == recipe.row.teacher
    folder = out / f"teacher-{file_name(teacher.name)}"
    if teacher.pretrained:
        alone = replace(run, student=Network(teacher.name, stem=teacher.stem), teacher=None, method=MethodSpec("ce"))
        alone = replace(alone, combine="none", ema=None)
        there, length = folder.with_name(f"{folder.name}-fine-tuned"), choice.teacher_epochs
        if tuned := fine_tuned_teacher(teacher, alone, there, console, options, epochs=length, students=[run]):
            return tuned
    if teacher.checkpoint or teacher.pretrained:
        teacher = settled_teacher(teacher, run)
        return measured_teacher(teacher, run, console, lambda network: recipe.teacher_top1 if own else None)
    alone = teacher_run(recipe if own else teacher.name)
    alone = override(lasting(alone, choice.teacher_epochs or alone.epochs), for_teacher(changes))
    accuracy = recipe.teacher_top1 if own else alone_top1(teacher.name)
    return trained_teacher(alone, folder, console, options, lambda network: accuracy, lambda: [run])


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


def _run(jobs: list[Job], console: Console, workers: int, options: Options) -> list[Path]:
    say_weights((job.run for job in jobs), console)
    with display(console, jobs) as listen:
        run_jobs(jobs, options, listen, workers)
    say_settled(jobs, console)
    say_guesses(jobs, console)
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
