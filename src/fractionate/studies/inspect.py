"""Small programs that look at what is there: the list of methods, the metrics of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..methods.catalog import METHODS, WRAPPERS, describe
from ..models import load_checkpoint
from ..train import Evaluation, RunFolder, prepare
from ..train.evaluate import evaluate

if TYPE_CHECKING:
    from rich.console import Console


def print_methods(console: Console) -> None:
    """Every method and wrapper: what it is, its defaults, its cost, what it needs, where it comes from."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True, title="--method NAME, NAME(option=value) or NAME+WRAPPER")
    table.add_column("name")
    table.add_column("what it does, defaults, source", ratio=1)
    table.add_column("components")
    table.add_column("backward passes", justify="right", max_width=8)
    for name in [*METHODS, *WRAPPERS]:
        d = describe(name)
        options = ", ".join(f"{k}={v!r}" for k, v in d.defaults.items())
        text = Text(d.title)
        for part, style in ((d.formula, "bold"), (options, "cyan"), (d.source, "dim")):
            text.append(f"\n{part}" if part else "", style)
        if d.needs:
            text.append(f"\nneeds {', '.join(d.needs)}", "yellow")
        table.add_row(
            name, text, "\n".join(d.components) or "those of\nthe method", str(d.backward_passes or "one per shift")
        )
    console.print(table)


def evaluate_run(folder: Path, console: Console) -> Evaluation:
    """Load a run's student and measure it again on the images it was tested on.

    Raises:
        ValueError: no finished run, or weights that do not fit.
    """
    from rich.table import Table

    target = RunFolder(folder)
    facts, run = target.summary(), target.config()
    training = prepare(run)
    load_checkpoint(training.student, target.student)
    found = evaluate(training.student, training.test, training.teacher_top1)
    table = Table(title=f"{facts['name']}: {run.student.name}, {facts['params']:,} parameters")
    for head in ("top-1 %", "top-5 %", "loss", "agreement %", "ECE %"):
        table.add_column(head, justify="right")
    agreement = "-" if found.agreement is None else f"{found.agreement:.2f}"
    ece = f"{100 * found.calibration.ece:.2f}"
    table.add_row(f"{found.top1:.2f}", f"{found.top5:.2f}", f"{found.loss:.4f}", agreement, ece)
    console.print(table)
    return found
