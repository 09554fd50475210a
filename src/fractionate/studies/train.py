"""``fractionate train``: students of one recipe or one config, with several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..models import create
from ..recipes import find
from ..train import MethodSpec, Network, Run, RunFolder, override
from .demo import student_jobs, trained_teacher
from .display import display
from .jobs import Job, Options, run_jobs

if TYPE_CHECKING:
    from rich.console import Console


def train_recipe(
    recipe: str,
    method: str,
    out: Path,
    console: Console,
    *,
    seeds: int = 1,
    teacher: str | None = None,
    student: str | None = None,
    changes: Sequence[str] = (),
    workers: int = 1,
    options: Options | None = None,
) -> list[Path]:
    """Train the recipe's teacher unless it is there already, then students.

    Args:
        recipe: data set.
        method: as ``MethodSpec.parse`` reads it.
        out: folder of the teacher and of all runs.
        console: where progress goes.
        seeds: students per method.
        teacher: another network as the teacher; ``teacher.checkpoint=FILE`` among the changes brings a trained one.
        student: another network as the student.
        changes: ``field=value`` of the students' run.
        workers: processes.
        options: what to do with folders that exist.

    Returns:
        The run folders.

    Raises:
        ValueError: an unknown name, or a folder that is taken.
    """
    found, options, spec = find(recipe), options or Options(), MethodSpec.parse(method)
    teacher_run = found.teacher(**({"name": teacher} if teacher else {}))
    make = partial(_student, found.student, student, changes)
    drafted = make(spec, teacher=teacher_run.student)
    with torch.device("meta"):  # what cannot be is found before the teacher trains, without building it
        create(drafted.student.name, num_classes=2)
    with_teacher = drafted.teacher
    if drafted.method.distils and not (with_teacher and with_teacher.checkpoint):
        at_hand = RunFolder(out / "teacher")
        same = at_hand.finished and at_hand.config() == teacher_run  # then it is used again, whatever else is replaced
        with_teacher = trained_teacher(teacher_run, at_hand.path, console, Options(resume=True) if same else options)
    jobs = student_jobs([spec], partial(make, teacher=with_teacher), seeds, out)
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


def _student(
    recipe: object, name: str | None, changes: Sequence[str], method: MethodSpec, teacher: Network, seed: int = 0
) -> Run:
    assert callable(recipe)
    run: Run = recipe(method, teacher, seed=seed, **({"name": name} if name else {}))
    return override(run, changes)


def _run(jobs: list[Job], console: Console, workers: int, options: Options) -> list[Path]:
    with display(console, jobs) as listen:
        run_jobs(jobs, options, listen, workers)
    for job in jobs:
        console.print(str(job.folder), markup=False, highlight=False, soft_wrap=True)
    return [job.folder for job in jobs]
