"""The table on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fractionate.report.runs import read_runs
from fractionate.report.table import Row, Table, table, teachers
from fractionate.report.words import LEVEL_TEXT, PERCENT, gap, headline, number, spread

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

INK = {"above": "green", "below": "red", "within": "", "unknown": ""}


@dataclass(frozen=True)
class Column:
    """One column: its head and the text and style of every row's cell."""

    head: str
    cells: list[str]
    styles: list[str] | None = None


def print_table(
    run_folders: Sequence[Path | str], console: Console | None = None, baseline: str | None = None
) -> Table:
    """Print the rows of every setting (data set and student), then the finding in words.

    Args:
        run_folders: run folders or parents of them, as in `read_runs`.
        console: where to print; by default standard output.
        baseline: as in `table`.

    Returns:
        The table that was printed.

    Raises:
        ValueError: as `read_runs` and `table`.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    result = table(read_runs(run_folders), baseline)
    for setting, rows in result.settings.items():
        for view in _views(console, setting, rows):
            console.print(view)
        for teacher in teachers(rows):
            size, top1 = number(teacher.params, 0), spread(teacher.top1)
            console.print(Text(f"Teacher {teacher.name}: {size} parameters, top-1 {top1}{PERCENT}"))
        for sentence in headline(rows):
            console.print(Text(sentence))
    for note in result.notes:
        console.print(Text(note, style="yellow"))
    for run in result.unfinished:
        last = run.epochs[-1]["epoch"] if run.epochs else 0
        console.print(Text(f"Unfinished, not counted: {run.folder} (epoch {last:.0f})", "yellow"))
    if not result.rows:
        console.print(Text(headline(())[0]))
    return result


def _views(console: Console, setting: str, rows: Sequence[Row]) -> list[RichTable]:
    """One table where the terminal is wide enough, else accuracies and costs apart."""
    from rich.measure import Measurement

    accuracy, costs = _accuracy_columns(rows), _cost_columns(rows)
    whole = _rich_table(setting, rows, accuracy + costs)
    needs = Measurement.get(console, console.options.update(max_width=1000), whole).maximum
    if needs <= console.width:
        return [whole]
    return [_rich_table(setting, rows, part) for part in (accuracy, costs)]


def _accuracy_columns(rows: Sequence[Row]) -> list[Column]:
    columns = [
        Column("seeds", [str(row.n) for row in rows]),
        Column("top-1 %,\nlast epoch", [spread(row.last) for row in rows], ["bold"] * len(rows)),
        Column("top-1 %,\nbest epoch", [spread(row.best) for row in rows]),
    ]
    reference = next((row.label for row in rows if row.is_baseline), None)
    if reference is not None:
        cells = ["baseline" if row.is_baseline else gap(row.difference) for row in rows]
        styles = [INK[row.difference.verdict] if row.difference else "" for row in rows]
        columns.append(Column(f"difference to\n{reference},\n{LEVEL_TEXT} interval", cells, styles))
    return columns


def _cost_columns(rows: Sequence[Row]) -> list[Column]:
    return [
        Column("parameters", [number(row.params, 0) for row in rows]),
        Column("agreement\nwith teacher %", [spread(row.agreement, 1) for row in rows]),
        Column("ECE %", [spread(row.ece, 1, scale=100) for row in rows]),
        Column("seconds", [spread(row.seconds, 1) for row in rows]),
        Column("backward\npasses", [number(row.backward_passes, 0) for row in rows]),
    ]


def _rich_table(setting: str, rows: Sequence[Row], columns: Sequence[Column]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    caption = Text("mean ± sample std over seeds; differences are paired by seed", "dim")
    view = RichTable(title=Text(setting), caption=caption, box=box.SIMPLE_HEAD)
    view.add_column("method", overflow="fold")
    for column in columns:
        view.add_column(Text(column.head), justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        cells = [Text(c.cells[i], c.styles[i] if c.styles else "") for c in columns]
        view.add_row(Text(row.label), *cells)
    return view
