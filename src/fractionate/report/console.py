"""The table on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fractionate._terminal import one_line, printable
from fractionate.report.runs import read_runs
from fractionate.report.table import Row, Table, table, teachers, without_control
from fractionate.report.weights import control_note
from fractionate.report.words import LEVEL_TEXT, NONE, finding, gap, measured, number, spread

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

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

    console = console or Console()
    result = table(read_runs(run_folders), baseline)
    for setting, rows in result.settings.items():
        for view in _views(console, setting, rows):
            console.print(view)
        for teacher in teachers(rows):
            size, score = number(teacher.params, 0), measured(teacher.score, rows[0].headline)
            say = f"Teacher {teacher.name}: {size} parameters, {rows[0].headline.label} {score}"
            console.print(_text(console, say))
        for sentence in finding(rows):
            console.print(_text(console, sentence))
        if note := control_note(without_control(rows)):
            console.print(_text(console, note, "yellow"))
    for note in result.notes:
        console.print(_text(console, note, "yellow"))
    for run in result.unfinished:
        last = run.epochs[-1]["epoch"] if run.epochs else 0
        console.print(_text(console, f"Unfinished, not counted: {one_line(run.folder)} (epoch {last:.0f})", "yellow"))
    if not result.rows:
        console.print(_text(console, finding(())[0]))
    return result


def _views(console: Console, setting: str, rows: Sequence[Row]) -> list[RichTable]:
    """One table where the terminal is wide enough, else accuracies and costs apart."""
    from rich.measure import Measurement

    accuracy, costs = _accuracy_columns(rows), _cost_columns(rows)
    whole = _rich_table(console, setting, rows, accuracy + costs)
    needs = Measurement.get(console, console.options.update(max_width=1000), whole).maximum
    if needs <= console.width:
        return [whole]
    return [_rich_table(console, setting, rows, part) for part in (accuracy, costs)]


def _accuracy_columns(rows: Sequence[Row]) -> list[Column]:
    metric = rows[0].headline
    columns = [
        Column("seeds", [str(row.n) for row in rows]),
        Column(f"{metric.head},\nlast epoch", [spread(row.last) for row in rows], ["bold"] * len(rows)),
        Column(f"{metric.head},\nbest epoch", [spread(row.best) for row in rows]),
    ]
    reference = next((row.label for row in rows if row.is_baseline), None)
    if reference is not None:
        cells = ["baseline" if row.is_baseline else gap(row.difference) for row in rows]
        styles = [INK[row.difference.verdict] if row.difference else "" for row in rows]
        columns.append(Column(f"difference to\n{reference},\n{LEVEL_TEXT} interval", cells, styles))
    return columns


def _cost_columns(rows: Sequence[Row]) -> list[Column]:
    columns = [
        Column("parameters", [number(row.params, 0) for row in rows]),
        Column("agreement\nwith teacher %", [spread(row.agreement, 1) for row in rows]),
        Column("ECE %", [spread(row.ece, 1, scale=100) for row in rows]),
        Column("seconds", [spread(row.seconds, 1) for row in rows]),
        Column("backward\npasses", [number(row.backward_passes, 0) for row in rows]),
    ]
    return [column for column in columns if set(column.cells) != {NONE}]


def _rich_table(console: Console, setting: str, rows: Sequence[Row], columns: Sequence[Column]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable

    caption = _text(console, "mean ± sample std over seeds; differences are paired by seed", "dim")
    view = RichTable(title=_text(console, setting), caption=caption, box=box.SIMPLE_HEAD)
    view.add_column("method", overflow="fold")
    for column in columns:
        view.add_column(_text(console, column.head), justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        cells = [_text(console, c.cells[i], c.styles[i] if c.styles else "") for c in columns]
        view.add_row(_text(console, row.label), *cells)
    return view


def _text(console: Console, words: str, style: str = "") -> Text:
    """Text as the console can show it, never read as markup."""
    from rich.text import Text

    return Text(printable(words, console.encoding), style)
