"""The table on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fractionate.report.runs import read_runs
from fractionate.report.table import Row, Table, table, teachers
from fractionate.report.words import LEVEL_TEXT, NONE, gap, headline, number, spread

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

INK = {"above": "green", "below": "red", "within": "", "unknown": ""}


@dataclass(frozen=True)
class Column:
    """One column: its head and the text and style of every row's cell."""

    head: str
    cells: tuple[str, ...]
    styles: tuple[str, ...] = ()


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
    tops = tuple(spread(teacher.top1) for teacher in teachers(rows))
    blank = (NONE,) * len(tops)
    columns = [
        Column("seeds", (*(str(row.n) for row in rows), *blank)),
        Column("top-1 %,\nlast epoch", (*(spread(row.last) for row in rows), *tops),
               ("bold",) * len(rows)),
        Column("top-1 %,\nbest epoch", (*(spread(row.best) for row in rows), *blank)),
    ]  # fmt: skip
    reference = next((row.label for row in rows if row.is_baseline), None)
    if reference is not None:
        cells = (*(gap(row.difference) for row in rows), *blank)
        styles = tuple(INK[row.difference.verdict] if row.difference else "" for row in rows)
        columns.append(Column(f"difference to {reference},\n{LEVEL_TEXT} interval", cells, styles))
    return columns


def _cost_columns(rows: Sequence[Row]) -> list[Column]:
    sizes = tuple(number(teacher.params, 0) for teacher in teachers(rows))
    blank = (NONE,) * len(sizes)
    passes = (number(row.backward_passes, 0) for row in rows)
    return [
        Column("parameters", (*(number(row.params, 0) for row in rows), *sizes)),
        Column("agreement\nwith teacher %", (*(spread(row.agreement, 1) for row in rows), *blank)),
        Column("ECE %", (*(spread(row.ece, 1, scale=100) for row in rows), *blank)),
        Column("seconds", (*(spread(row.seconds, 1) for row in rows), *blank)),
        Column("backward\npasses", (*passes, *blank)),
    ]


def _rich_table(setting: str, rows: Sequence[Row], columns: Sequence[Column]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    caption = "mean ± sample std over seeds; differences are paired by seed"
    view = RichTable(title=Text(setting), caption=caption, box=box.SIMPLE_HEAD)
    view.add_column("method", overflow="fold")
    for column in columns:
        view.add_column(Text(column.head), justify="right", no_wrap=True)
    names = [Text(row.label) for row in rows]
    names += [Text(f"teacher {teacher.name}".rstrip()) for teacher in teachers(rows)]
    for i, name in enumerate(names):
        styles = [column.styles[i] if i < len(column.styles) else "" for column in columns]
        cells = [Text(c.cells[i], style) for c, style in zip(columns, styles, strict=True)]
        view.add_row(name, *cells)
    return view
