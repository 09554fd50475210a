"""A study's record -> its answer in sentences, a table on a terminal, and one page. Reads files only."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fractionate._files import write_atomically
from fractionate._headlines import Headline, headline
from fractionate._terminal import one_line, printable
from fractionate.report.figures import figures
from fractionate.report.groups import Group
from fractionate.report.page import environment
from fractionate.report.panels import Figure
from fractionate.report.runs import read_runs
from fractionate.report.summary import RunFolderError, read_text
from fractionate.report.table import Row, row_of
from fractionate.report.words import (
    LEVEL_TEXT,
    Difference,
    Estimate,
    gap,
    number,
    paired_difference,
    spread,
    untaught,
)

if TYPE_CHECKING:
    from rich.console import Console

RECORD, LONGEST, SCHEMA = "study.json", 50_000_000, 1
APART = {
    "above": "{left} ends above {right}: {gap} {of}",
    "below": "{left} ends below {right}: {gap} {of}",
    "within": "{left} and {right} cannot be told apart: {gap} {of}",
    "unknown": "{left} and {right} cannot be judged by {seeds}: {gap} {of}",
}


@dataclass(frozen=True)
class StudyArm:
    """One arm as it was recorded: ``values`` are the headline seed by seed, ``tried`` those of the validation part."""

    name: str
    method: str
    changes: tuple[str, ...]
    teacher: str
    epochs: int
    passes: float | None
    value: str
    pilot: float
    tried: Mapping[str, Estimate]
    columns: Mapping[str, Estimate]
    folders: tuple[str, ...]
    git: str | None

    @property
    def values(self) -> Estimate:
        """The headline at the last epoch, one value per seed."""
        return self.columns[""]


@dataclass(frozen=True)
class Answer:
    """One comparison: its sentence, and the paired difference."""

    left: str
    right: str
    difference: Difference
    of: str

    @property
    def sentence(self) -> str:
        """The difference in words, with its interval."""
        if not all(map(math.isfinite, self.difference.values)):
            return f"{self.left} and {self.right} cannot be judged: not measured, maybe in too short a run"
        words = APART[self.difference.verdict]
        n = len(self.difference.values)
        seeds = "one seed" if n == 1 else f"{n} seeds that differ by the same"
        told = gap(self.difference, self.digits)
        return words.format(left=self.left, right=self.right, gap=told, of=self.of, seeds=seeds).strip()

    @property
    def digits(self) -> int:
        """Digits after the point, more for small quantities."""
        largest = max((abs(v) for v in self.difference.values if math.isfinite(v)), default=1.0)
        return 2 if self.of or largest >= 1 else 4


@dataclass(frozen=True)
class StudyRecord:
    """What a study found, out of its ``study.json``."""

    raw: Mapping[str, Any]
    arms: tuple[StudyArm, ...]
    answers: tuple[Answer, ...]
    headline: Headline

    @property
    def sentences(self) -> list[str]:
        """The answer: a sentence per comparison and per pair of choices, and which choices lie at an edge."""
        names = {arm.name: arm for arm in self.arms}
        pilots = [_pilot(names[whole], names[part]) for whole, part in self.raw["pilots"]]
        return [*pilots, *(f"{one.sentence}." for one in self.answers), *_edges(self.arms), *self._behind]

    @property
    def _behind(self) -> list[str]:
        """Which teachers are no better than a student that learns from labels alone."""
        alone = [arm for arm in self.arms if arm.method == "ce" and math.isfinite(arm.values.mean)]
        metric, higher = self.headline, self.headline.higher
        best = (max if higher else min)(alone, key=lambda arm: arm.values.mean, default=None)
        if best is None:
            return []
        named = ((f"The teacher {t['name']}" if t["name"] else "The teacher", t["test"]) for t in self.raw["teachers"])
        return [one for who in named for one in untaught(*who, best.name, best.values.mean, metric)]


def read_study(folder: Path) -> StudyRecord:
    """Read the record of a study.

    Args:
        folder: that the study wrote into, or its ``study.json``.

    Raises:
        RunFolderError: (a ValueError) there is none, or it is broken.
    """
    file = folder / RECORD if folder.is_dir() else folder
    if not file.is_file():
        raise RunFolderError(file, None, "no such file: a study that has ended leaves it")
    try:
        raw = json.loads(read_text(file, LONGEST))
        if raw["schema"] != SCHEMA:
            raise RunFolderError(file, None, f"has schema {raw['schema']}, this version reads {SCHEMA}")
        arms = tuple(_arm(one) for one in raw["arms"])
        metric = headline(raw["arms"][0]["headline"])
        answers = tuple(_answer(one, arms, metric) for one in raw["contrasts"])
        return StudyRecord(raw, arms, answers, metric)
    except (KeyError, TypeError, IndexError, AttributeError, json.JSONDecodeError) as error:
        raise RunFolderError(file, None, f"broken record of a study: {one_line(error)}") from None


def _arm(raw: Mapping[str, Any]) -> StudyArm:
    return StudyArm(
        name=raw["name"],
        method=raw["method"],
        changes=tuple(raw["changes"]),
        teacher=raw["teacher"],
        epochs=raw["epochs"],
        passes=raw["passes"],
        value=raw["value"],
        pilot=raw["pilot"],
        tried={value: Estimate(tuple(scores)) for value, scores in raw["tried"].items()},
        columns={name: Estimate(tuple(values)) for name, values in raw["values"].items()},
        folders=tuple(raw["folders"]),
        git=raw["git"],
    )


def _answer(raw: Mapping[str, Any], arms: Sequence[StudyArm], metric: Headline) -> Answer:
    names = {arm.name: arm for arm in arms}

    def total(terms: Sequence[Sequence[str]]) -> list[float]:
        rows = [names[arm].columns[column].values for arm, column in terms]
        return [math.fsum(values) for values in zip(*rows, strict=True)]

    plain = all(not column for _, column in (*raw["plus"], *raw["minus"]))
    difference = paired_difference(total(raw["plus"]), total(raw["minus"]))
    return Answer(raw["left"], raw["right"], difference, metric.of if plain else "")


def _pilot(whole: StudyArm, part: StudyArm) -> str:
    """How far apart two choices are, in steps of the grid."""
    grid = list(whole.tried)
    steps = abs(grid.index(whole.value) - grid.index(part.value))
    apart = "the same value" if not steps else "one step of the grid apart" if steps == 1 else f"{steps} steps apart"
    share = f"{100 * part.pilot:g} % of the training images choose {part.value}"
    return f"{share}, all of them {whole.value}: {apart}."


def _edges(arms: Iterable[StudyArm]) -> list[str]:
    """Which arms chose the least or the largest value that was tried, a sentence per value."""
    found: dict[tuple[str, ...], list[str]] = {}
    for arm in arms:
        try:
            grid = sorted(arm.tried, key=float)
        except ValueError:  # names, no numbers
            continue
        if len(grid) > 1 and arm.value in (grid[0], grid[-1]):
            found.setdefault((arm.value, *grid), []).append(arm.name)
    return [
        f"{value} was chosen at the edge of {', '.join(grid)} by {'; '.join(names)}: a better value may lie beyond."
        for (value, *grid), names in found.items()
    ]


def rows_of(record: StudyRecord, folder: Path) -> list[Row]:
    """Rows for figures out of the run folders, each arm under its own name; empty where the folders are gone."""
    kept = [(arm, [folder / name for name in arm.folders]) for arm in record.arms]
    if not all(path.is_dir() for _, paths in kept for path in paths):
        return []
    groups = [Group(arm.name, record.raw["name"], tuple(read_runs(paths))) for arm, paths in kept]
    return [row_of(group, groups[0]) for group in groups]


def print_study(folder: Path, console: Console) -> StudyRecord:
    """Print the answer, and a row per arm.

    Args:
        folder: that the study wrote into.
        console: where.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    record = read_study(folder)
    view = Table(title=record.raw["name"], box=box.SIMPLE_HEAD)
    heads = ("arm", "teacher", "chosen", f"{record.headline.head}, last epoch", "backward\npasses")
    for i, head in enumerate(heads):
        view.add_column(head, justify="right" if i > 1 else "left", overflow="fold")
    for arm in record.arms:
        cells = (arm.name, arm.teacher, arm.value, spread(arm.values), number(arm.passes, 0))
        view.add_row(*(Text(printable(cell, console.encoding)) for cell in cells))
    console.print(view)
    for sentence in record.sentences:
        console.print(Text(printable(sentence, console.encoding)))
    return record


def write_study(folder: Path, out: Path) -> Path:
    """Write the page of a study.

    Args:
        folder: that the study wrote into.
        out: the file; it is replaced in one step.

    Raises:
        RunFolderError: (a ValueError) as :func:`read_study`.
    """
    record = read_study(folder)
    rows = rows_of(record, folder)
    drawn: list[Figure] = figures(rows)
    page = (
        environment()
        .get_template("study.html.j2")
        .render(record=record, raw=record.raw, figures=drawn, level=LEVEL_TEXT, text=printable)
    )
    write_atomically(out, page)
    return out
