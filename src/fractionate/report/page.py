"""One self-contained HTML page: no script, no font, no image from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fractionate._files import expanded, write_atomically
from fractionate._terminal import one_line
from fractionate.report.dots import accuracy_panel
from fractionate.report.examples import Shown, shown
from fractionate.report.figures import figures, row_inks
from fractionate.report.pictures import Gallery, gallery
from fractionate.report.runs import RunRecord, read_runs
from fractionate.report.table import Row, Table, table, teachers
from fractionate.report.words import LEVEL_TEXT, finding, gap, listing, measured, number, spread

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def write_page(
    run_folders: Sequence[Path | str],
    out: Path | str,
    title: str = "Distillation report",
    baseline: str | None = None,
) -> Path:
    """Write the report of some runs as one HTML file, readable offline, in light and in dark.

    Args:
        run_folders: run folders or parents of them, as in `read_runs`.
        out: the file; its folder is made if missing. It is replaced in one step, so a reader never
            sees half a page.
        title: name of the page.
        baseline: as in `table`.

    Returns:
        ``out``.

    Raises:
        ValueError: as `read_runs` and `table`; nothing is written then.
        OSError: the file cannot be written; one that was there is unchanged.
    """
    page, out = render(table(read_runs(run_folders), baseline), title), expanded(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot write {out}: {(error.strerror or str(error)).lower()}") from error
    write_atomically(out, page)
    return out


def render(result: Table, title: str) -> str:
    """The HTML text of a table, its figures and its provenance."""
    title = one_line(title)
    sections = [_section(name, rows) for name, rows in result.settings.items()]
    template = environment().get_template("page.html.j2")
    return template.render(
        title=title,
        sections=sections,
        result=result,
        empty=finding(())[0],
        level=LEVEL_TEXT,
        places=_places(result),
    )


def accuracy_svg(rows: Sequence[Row], narrow: bool = False) -> str:
    """The first figure of a page as an SVG file of its own, in light and in dark.

    Args:
        rows: of one setting, in the order in which they are drawn.
        narrow: for screens of 400 pixels.
    """
    panel = accuracy_panel(rows, row_inks(rows), narrow)
    return environment().get_template("panel.svg.j2").render(p=panel)


def environment() -> Environment:
    """The templates of all pages, with what they are filled with."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, spread=spread, gap=gap, listing=listing)
    environment.globals.update(teachers=teachers, changes=changes)
    return environment


@dataclass(frozen=True)
class Section:
    """Everything the page says about one setting."""

    name: str
    sentences: list[str]
    facts: list[tuple[str, str]]
    rows: tuple[Row, ...]
    figures: list[object]
    shown: Shown | None = None
    gallery: Gallery | None = None


def _section(name: str, rows: tuple[Row, ...]) -> Section:
    return Section(name, finding(rows), _facts(rows), rows, list(figures(rows)), shown(rows), gallery(rows))


def _facts(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The numbers a reader wants before any other, as pairs of name and value."""
    runs = [s for row in rows for s in row.group.summaries]
    facts = [("data", _distinct(s.dataset for s in runs))]
    student, params = _distinct(s.student for s in runs), {s.params for s in runs if s.params}
    if len(params) == 1:
        facts.append(("student", f"{student}, {number(min(params), 0)} parameters".lstrip(", ")))
    for teacher in teachers(rows):
        size = f"{number(teacher.params, 0)} parameters" if teacher.params else ""
        score = measured(teacher.score, rows[0].headline) if teacher.score else ""
        facts.append(("teacher", ", ".join(part for part in (teacher.name, size, score) if part)))
    counts = sorted({row.n for row in rows})
    seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    facts.append(("seeds per method", seeds))
    facts.append(("epochs", _distinct(str(s.epochs) for s in runs if s.epochs)))
    facts.append(("device", _distinct(s.device for s in runs)))
    return [(key, value) for key, value in facts if value]


def _distinct(values: Iterable[str | None]) -> str:
    found = dict.fromkeys(value for value in values if value)
    return ", ".join(found)


def _places(result: Table) -> dict[Path, str]:
    """Run folder -> its path below the folder that all runs share."""
    runs = [run for row in result.rows for run in row.group.runs] + list(result.unfinished)
    folders = [run.folder.absolute() for run in runs]
    if not folders:
        return {}
    shared = Path(os.path.commonpath([folder.parent for folder in folders]))
    return {
        run.folder: one_line(folder.relative_to(shared).as_posix()) for run, folder in zip(runs, folders, strict=True)
    }


def changes(runs: Sequence[RunRecord]) -> list[str]:
    """What sets every run's config apart from the first one's, a line per run.

    Example:
        >>> changes([])
        []
    """
    lines = []
    for run in runs[1:]:
        old, new = runs[0].settings, run.settings
        paths = [p for p in dict.fromkeys([*old, *new]) if old.get(p) != new.get(p)]
        told = [f"{p}: {old.get(p, 'absent')} → {new.get(p, 'absent')}" for p in paths]
        lines.append(f"seed {run.facts.seed}  {', '.join(told) or 'nothing'}")
    return lines
