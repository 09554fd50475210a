"""The teacher of a study: trained once, kept with its accuracy, and shown before anything learns from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..train import Network, Run, RunFolder
from .display import display
from .jobs import Job, Options, run_jobs

if TYPE_CHECKING:
    from rich.console import Console

SLACK = 1.0  # points below the expected accuracy that are still within the spread of seeds


def trained_teacher(
    run: Run,
    folder: Path,
    console: Console,
    options: Options,
    expected: Callable[[Network], float | None] = lambda network: None,
) -> Network:
    """The teacher that ``run`` trains, from its folder if it is there; prints how good it is.

    Args:
        run: the teacher's own training.
        folder: its run folder; one that holds the same finished run is used as it is.
        console: where progress and accuracy go.
        options: what to do with a folder that holds another run.
        expected: top-1 % that such a network ought to reach.

    Returns:
        The network with its weights.

    Raises:
        ValueError: the folder holds another run.
    """
    there = RunFolder(folder)
    if there.finished and there.config() == run:
        options = replace(options, overwrite=False, resume=True)
    job = Job(f"teacher {run.student.name}", run, folder)
    with display(console, [job], "teacher", lines=False) as listen:
        run_jobs([job], options, listen)
    facts = there.summary()
    wanted = expected(run.student)
    console.print(
        f"teacher {run.student.name}: {facts['last_top1']:.2f} % top-1 on the {run.data.evaluate_on} images"
        f"{'' if wanted is None else f' (expected {wanted:g})'}, {facts['params']:,} parameters",
        highlight=False,
    )
    if wanted is not None and facts["last_top1"] < wanted - SLACK:
        console.print(f"[yellow]that is below the expected {wanted:g} %: students will learn less from it")
    return replace(run.student, checkpoint=str(there.student))
