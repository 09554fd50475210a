"""The main job in one command: a teacher, students by several methods and seeds, a table and a page."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..recipes import find
from ..runs.folder import RunFolder
from .chosen import Choice, chosen_jobs
from .display import display
from .jobs import Options, run_jobs
from .shipped import show
from .units import said, together
from .usual import (
    controls,
    drafted,
    every_method,
    methods_of,
    refuse_taken,
    refuse_twice,
    say_guesses,
    say_settled,
    say_weights,
)

if TYPE_CHECKING:
    from rich.console import Console


def compare(
    choice: Choice | str,
    out: Path,
    console: Console,
    *,
    seeds: int = 5,
    epochs: int | None = None,
    methods: Sequence[str] = (),
    workers: int | None = None,
    options: Options | None = None,
    with_controls: bool = False,
    at_once: int | None = None,
) -> Path:
    """Train a recipe's teacher, or take yours, and students by several methods, and compare them.

    Args:
        choice: recipe by name; or with networks, weights of the teacher, images and settings that hold for all runs
            (``method`` is not looked at).
        out: folder of the teacher and of every run; ``report.html`` lies beside the runs.
        console: where progress and the table go.
        seeds: runs per method.
        epochs: length of a student's run; ``None`` = what ``choice`` says, else the recipe's.
        methods: as on the command line; ``("all",)`` is every method, and every wrapper over dkd; none = the recipe's.
        workers: processes; ``None`` = one per CPU core, at most 4. The numbers do not depend on it.
        options: what to do with folders that exist; by default finished runs with the same settings are kept.
        with_controls: train the controls of DeepKD's and DOT's streams too (``studies.usual.controls``).
        at_once: at most so many runs side by side in one process, where they have the same batches and teacher;
            ``None`` = as many as pay. On a CPU no number but those of time depends on it.

    Returns:
        The page.

    Raises:
        ValueError: an unknown recipe, network or method, or a folder that holds runs with other settings.
    """
    from ..report import print_table, write_page

    refuse_taken(out)
    started = time.perf_counter()
    chosen = Choice(choice) if isinstance(choice, str) else choice
    chosen = chosen if epochs is None else replace(chosen, epochs=epochs)
    found, options = find(chosen.recipe), options or Options(resume=True)
    if tuple(methods) == ("all",):
        methods, left_out = every_method()
        for name, why in left_out.items():
            console.print(f"left out: {name} ({why})", markup=False, highlight=False)
    specs = methods_of(chosen, methods or found.methods, console)
    refuse_twice(methods or found.methods, specs)
    if missing := controls(specs, lambda spec: drafted(chosen, spec)):
        if with_controls:
            specs += missing
        else:
            names = ", ".join(str(spec) for spec in missing)
            console.print(f"left out: the controls {names}; --controls trains them too", markup=False, highlight=False)
    jobs, pair = chosen_jobs(chosen, specs, seeds, out, console, options, always=True)
    reused = sum(RunFolder(job.folder).finished for job in jobs) if options.resume else 0
    if reused:
        console.print(f"{reused} of {len(jobs)} runs are already in {out}; --overwrite trains anew.", markup=False)
    say_weights((job.run for job in jobs), console)
    workers = workers or min(4, os.cpu_count() or 1)
    units = together(jobs, at_once, workers, resume=options.resume and not options.overwrite)
    for line in said(jobs, units):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    with display(console, jobs) as listen:
        run_jobs(jobs, options, listen, workers, units)
    say_settled(jobs, console)
    say_guesses(jobs, console)
    folders = [job.folder for job in jobs]
    print_table(folders, console)
    show(folders, console)
    page = pair / "report.html"
    write_page(folders, page, title=found.title)
    seconds = time.perf_counter() - started
    console.print(f"{page}  ({seconds:.0f} s in all)", markup=False, highlight=False, soft_wrap=True)
    return page
