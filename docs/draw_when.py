"""The map of the results page as a picture: which method pays when. Written by python docs/results.py

Every tile is computed from the kept rows (which_method.py); a test compares the files with what this draws.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from draw import LINE, picture, text
from which_method import KINDS, PICTURE, TITLE, Column, columns, methods

from fractionate.report.words import Difference, number

ABOVE, BELOW, NEITHER = (26, 95, 180), (201, 84, 20), "#eceff2"  # blue and orange: apart for colour-blind eyes
FULL = 6.0  # points at which a tile has its whole colour
SHORT = (("+reweighted", ", as weights"), (", gain normalised", ", normalised"))
HEIGHT = 24  # of a row
NUMBER = 2.7  # width of a difference, in sizes of its type


@dataclass(frozen=True)
class Form:
    """Measures of a picture: its width, the room of a method's name, size of its type, whether kinds are stacked."""

    width: int
    names: int
    size: int
    stacked: bool

    def tile(self, columns: int, gaps: int = 0) -> float:
        """Width of a tile where so many share what the names leave."""
        return min(WIDEST, (self.width - self.names - EDGE - GAP * gaps) / columns)


WIDEST, GAP, EDGE = 44.0, 20, 12
WIDE = Form(940, 170, 12, False)
NARROW = Form(420, 158, 11, True)


def tile(x: float, y: float, wide: float, found: Difference, size: float) -> Iterator[str]:
    """One difference: blue above, orange below, the stronger the larger; grey where it cannot be told from none."""
    told = found.verdict in ("above", "below")
    share = min(1.0, 0.35 + 0.65 * abs(found.mean) / FULL)
    base = ABOVE if found.mean > 0 else BELOW
    fill = "#" + "".join(f"{round(255 + (c - 255) * share):02x}" for c in base) if told else NEITHER
    yield f"<rect x='{x + 1:g}' y='{y + 1:g}' width='{wide - 2:g}' height='{HEIGHT - 2}' rx='3' fill='{fill}'/>"
    words = f"{found.mean:+.{0 if abs(found.mean) >= 9.95 else 1}f}".replace("-", "−")
    words = "0.0" if words in ("+0.0", "−0.0") else words
    style = f"style='fill:{'#ffffff' if share > 0.62 else '#10233f'};font-weight:600'" if told else "opacity='0.75'"
    yield text(x + wide / 2, y + HEIGHT / 2 + 4, words, size, more=style)


def heads(x: float, y: float, wide: float, here: Sequence[Column], size: float) -> Iterator[str]:
    """Teacher's certainty and epochs over every column."""
    for i, column in enumerate(here):
        middle = x + wide * (i + 0.5)
        yield text(middle, y, number(column.label, 3).removeprefix("0"), size)
        yield text(middle, y + 14, str(column.epochs), size - 1, more="opacity='0.75'")


def short(name: str) -> str:
    """A method's name as it fits beside the tiles."""
    for long, brief in SHORT:
        name = name.replace(long, brief)
    return name


def block(
    x: float, y: float, wide: float, kind: str, here: Sequence[Column], rows: Sequence[str], form: Form
) -> Iterator[str]:
    """The settings of one kind of data."""
    size = form.size if wide > NUMBER * form.size else wide / NUMBER
    yield text(x, y, kind, form.size + 2, "start", "font-weight='600'")
    yield from heads(x, y + 22, wide, here, size)
    for row, name in enumerate(rows):
        top = y + 46 + HEIGHT * row
        end = x + wide * len(here)
        yield f"<path d='M{x:g} {top + HEIGHT / 2:g} H{end:g}' stroke='{LINE}' stroke-width='0.4'/>"
        for i, column in enumerate(here):
            if (found := column.difference(name)) is not None:
                yield from tile(x + wide * i, top, wide, found, size)


def names(rows: Sequence[str], y: float, form: Form) -> Iterator[str]:
    """What the heads and the rows are, at the left."""
    for words, top in (("p of the label", 22), ("epochs", 36)):
        yield text(form.names - 8, y + top, words, form.size - 1, "end", "opacity='0.75'")
    for row, name in enumerate(rows):
        yield text(form.names - 8, y + 46 + HEIGHT * (row + 0.5) + 4, short(name), form.size, "end")


def legend(y: float, form: Form) -> Iterator[str]:
    """What the colours and the heads mean."""
    said = (
        "points above (blue) or below (orange) kd; grey: cannot be told from kd by these seeds",
        "p of the label: what the teacher gives it on training images, on average; epochs: of the student",
    )
    parts = said if not form.stacked else [half for line in said for half in _halves(line)]
    for i, words in enumerate(parts):
        yield text(16, y + 18 * i, words, form.size, "start")


def _halves(line: str) -> list[str]:
    words = line.split()
    cut = next(i for i in range(len(words)) if len(" ".join(words[:i])) > len(line) / 2)
    return [" ".join(words[:cut]), " ".join(words[cut:])]


def drawn(every: Sequence[Column], form: Form) -> str:
    """The map in one of its two forms."""
    kinds = {kind: [column for column in every if column.kind == kind] for kind in KINDS}
    kinds = {kind: here for kind, here in kinds.items() if here}
    parts: list[str] = []
    y = 30.0
    if form.stacked:
        for kind, here in kinds.items():
            rows = methods(here)
            parts += [*block(form.names, y, form.tile(len(here)), kind, here, rows, form), *names(rows, y, form)]
            y += 46 + HEIGHT * len(rows) + 36
    else:
        rows, x, wide = methods(every), float(form.names), form.tile(len(every), len(kinds) - 1)
        parts += names(rows, y, form)
        for kind, here in kinds.items():
            parts += block(x, y, wide, kind, here, rows, form)
            x += wide * len(here) + GAP
        y += 46 + HEIGHT * len(rows) + 30
    lines = 4 if form.stacked else 2
    return picture(form.width, round(y + 18 * lines), TITLE, [*parts, *legend(y, form)])


def pictures(records: Path, runs: Path) -> dict[str, str]:
    """File name -> SVG, for wide and for narrow screens; nothing where fewer than two settings were measured."""
    every = columns(records, runs)
    forms = {f"{PICTURE}.svg": WIDE, f"{PICTURE}-narrow.svg": NARROW} if len(every) > 1 else {}
    return {name: drawn(every, form) for name, form in forms.items()}
