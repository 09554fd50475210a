"""The main job in one command: a teacher, students by several methods and seeds, a table and a page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config.method import METHODS, WRAPPERS, MethodSpec
from ..config.run import Run
from ..recipes import placed
from ..rows import Logits, Progress
from ..runs.folder import RunFolder
from .display import display
from .jobs import Job, Options, run_jobs
from .teachers import trained_teacher

if TYPE_CHECKING:
    from rich.console import Console


def compare(
    recipe: str,
    out: Path,
    console: Console,
    *,
    seeds: int = 5,
    epochs: int | None = None,
    root: str | None = None,
    validation: bool = False,
    methods: Sequence[str] = (),
    workers: int | None = None,
    options: Options | None = None,
) -> Path:
    """Train the recipe's teacher and students by several methods, and compare them.

    Args:
        recipe: data set.
        out: folder of the teacher, of every run and of ``report.html``.
        console: where progress and the table go.
        seeds: runs per method.
        epochs: length of a student's run; ``None`` = the recipe's.
        root: folder of the data set, for recipes that have one.
        validation: keep a part of the training images apart and measure on it.
        methods: as on the command line; ``("all",)`` is every method, and every wrapper over dkd; none = the recipe's.
        workers: processes; ``None`` = one per CPU core, at most 4. The numbers do not depend on it.
        options: what to do with folders that exist; by default finished runs with the same settings are kept.

    Returns:
        The page.

    Raises:
        ValueError: an unknown recipe or method, or a folder that holds runs with other settings.
    """
    from ..report import print_table, write_page

    started = time.perf_counter()
    found, options = placed(recipe, root, validation=validation), options or Options(resume=True)
    if tuple(methods) == ("all",):
        methods, left_out = every_method()
        for name, why in left_out.items():
            console.print(f"left out: {name} ({why})", markup=False, highlight=False)
    specs = [MethodSpec.parse(name) for name in methods or found.methods]
    length = {} if epochs is None else {"epochs": epochs}
    if twice := [str(spec) for spec in specs if specs.count(spec) > 1]:
        raise ValueError(f"{twice[0]} is named twice; name every method once")

    def drafted() -> list[Run]:
        return [found.student(spec, found.teacher().student, **length) for spec in specs]

    with_teacher = trained_teacher(found.teacher(), out / "teacher", console, options, found.expected, drafted)
    jobs = student_jobs(specs, partial(found.student, teacher=with_teacher, **length), seeds, out)
    reused = sum(RunFolder(job.folder).finished for job in jobs) if options.resume else 0
    if reused:
        console.print(f"{reused} of {len(jobs)} runs are already in {out}; --overwrite trains them again.")
    with display(console, jobs) as listen:
        run_jobs(jobs, options, listen, workers or min(4, os.cpu_count() or 1))
    folders = [job.folder for job in jobs]
    print_table(folders, console)
    page = out / "report.html"
    write_page(folders, page, title=found.title)
    seconds = time.perf_counter() - started
    console.print(f"{page}  ({seconds:.0f} s in all)", markup=False, highlight=False, soft_wrap=True)
    return page


def every_method() -> tuple[list[str], dict[str, str]]:
    """All methods by name and all wrappers over dkd, as far as images and one teacher are enough for them.

    Returns:
        Those that are, and for the others why not.

    Example:
        >>> able, unable = every_method()
        >>> "dkd+deepkd" in able, "dkd+mixture_of_teachers" in unable
        (True, True)
    """
    names = [*METHODS, *(f"dkd+{name}" for name in WRAPPERS if name not in METHODS)]
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4, 20, 10, generator=generator)
    target = torch.arange(20) % 10
    rows = Logits(z[0], z[1], target, strong=Logits(z[2], z[3], target))
    unable = {}
    for name in names:
        try:
            MethodSpec.parse(name).build().components(rows, Progress())
        except ValueError as error:
            unable[name] = str(error)
    return [name for name in names if name not in unable], unable


def student_jobs(specs: Sequence[MethodSpec], student: Callable[..., Run], seeds: int, out: Path) -> list[Job]:
    """Every method with seeds 0, 1, ...; all first seeds come first, so an interrupted study is balanced.

    Args:
        specs: methods.
        student: function of a method and a seed that returns the run.
        seeds: how many.
        out: folder of all of them.
    """
    return [
        Job(f"{spec.title}, seed {seed}", student(spec, seed=seed), out / folder_name(spec) / f"seed-{seed}")
        for seed in range(seeds)
        for spec in specs
    ]


def file_name(text: str) -> str:
    """A name as part of a file name.

    Example:
        >>> file_name("timm:resnet18")
        'timm_resnet18'
    """
    return "".join(c if c.isalnum() or c in "+=.-_" else "_" for c in text)


def folder_name(method: MethodSpec) -> str:
    """A method's name as a folder: letters, digits and ``+ = . -`` only.

    Example:
        >>> folder_name(MethodSpec.parse("dkd(beta=2)+deepkd(rule=published-code)"))
        'dkd_beta=2_+deepkd_rule=published-code'
    """
    return file_name(str(method).replace("'", "").replace(", ", ",")).strip("_")
