"""Pictures, classes and times of runs, out of their ``examples.json``, as the page shows them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fractionate._terminal import one_line
from fractionate.report.groups import LABELS_ALONE
from fractionate.report.summary import RunFolderError, parse_object, read_text
from fractionate.report.table import Row
from fractionate.report.words import number

EXAMPLES, LONGEST = "examples.json", 4_000_000  # bytes; eight pictures have about 200,000
PNG = b"\x89PNG\r\n\x1a\n"
CHANGES = 5  # classes that gained most, and as many that lost most
PICTURES = 8
Size = tuple[str, str, float | None, int | None, float | None]


@dataclass(frozen=True)
class Answer:
    """What a network says about a picture, and whether that is right."""

    name: str
    share: float
    right: bool

    @property
    def words(self) -> str:
        """With its probability."""
        return f"{self.name}, {number(100 * self.share, 0)} %"


@dataclass(frozen=True)
class Picture:
    """A test image with both answers; ``png`` is base64 of a PNG file."""

    png: str
    label: str
    student: Answer
    teacher: Answer | None


@dataclass(frozen=True)
class Examples:
    """What one run left for pages.

    ``count`` holds the test images of every class, ``student`` and ``teacher`` how many of them each got right. ``ms``
    is the time of one picture, one at a time, for student and teacher; pictures and times are those of a first seed.
    """

    classes: tuple[str, ...]
    count: tuple[int, ...]
    student: tuple[int, ...]
    teacher: tuple[int, ...] | None
    pictures: tuple[Picture, ...]
    differ: int | None
    ms: tuple[float | None, float | None]
    device: str


@dataclass(frozen=True)
class Change:
    """How a class fares with one method, against another network, in percent right."""

    name: str
    images: int
    before: float
    after: float

    @property
    def points(self) -> float:
        """The gain."""
        return self.after - self.before


@dataclass(frozen=True)
class Shown:
    """What the page says below the numbers of a setting.

    ``row`` is the method that is shown, ``against`` what its classes are compared with, ``sizes`` a line per network:
    role, name, headline, parameters, milliseconds.
    """

    row: Row
    seed: int
    examples: Examples
    against: str
    changes: tuple[Change, ...]
    sizes: tuple[Size, ...]


def read_examples(folder: Path) -> Examples | None:
    """What a run left; ``None`` where it left nothing.

    Raises:
        RunFolderError: (a ValueError) a damaged file.
    """
    file = folder / EXAMPLES
    if not file.is_file():
        return None
    raw = parse_object(file, read_text(file, LONGEST))
    try:
        return _checked(raw)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, binascii.Error) as error:
        raise RunFolderError(file, None, f"is not what a run leaves for pages ({type(error).__name__})") from None


def _checked(raw: dict[str, Any]) -> Examples:
    classes = tuple(one_line(str(name)) for name in raw["classes"])
    count, student = (tuple(int(n) for n in raw[key]) for key in ("count", "student"))
    teacher = None if raw["teacher"] is None else tuple(int(n) for n in raw["teacher"])
    if any(len(one) != len(classes) for one in (count, student, teacher or count)):
        raise ValueError("lists of different lengths")
    ms = raw.get("ms") or {}
    times = [None if ms.get(who) is None else float(ms[who]) for who in ("student", "teacher")]
    return Examples(
        classes,
        count,
        student,
        teacher,
        tuple(_picture(one) for one in raw["pictures"][:PICTURES]),
        None if raw.get("differ") is None else int(raw["differ"]),
        (times[0], times[1]),
        one_line(str(raw.get("device", ""))),
    )


def _picture(raw: dict[str, Any]) -> Picture:
    data = base64.b64decode(raw["png"], validate=True)
    if not data.startswith(PNG):
        raise ValueError("no PNG")
    label = one_line(str(raw["label"]))
    teacher = None if raw["teacher"] is None else _answer(raw["teacher"], label)
    return Picture(base64.b64encode(data).decode(), label, _answer(raw["student"], label), teacher)


def _answer(raw: Sequence[Any], label: str) -> Answer:
    name = one_line(str(raw[0]))
    return Answer(name, float(raw[1]), name == label)


def shown(rows: Sequence[Row]) -> Shown | None:
    """What is shown of a setting: of its best method that has pictures, beside labels alone or the teacher."""
    found = {row.label: _all(row) for row in rows}
    able = [row for row in rows if found[row.label] and _first(found[row.label]) is not None]
    if not able:
        return None
    sign = 1 if able[0].headline.higher else -1
    taught = [row for row in able if row.group.summaries[0].method.lower() not in LABELS_ALONE] or able
    row = max(taught, key=lambda one: sign * one.last.mean)
    at = _first(found[row.label])
    assert at is not None
    base = next((one for one in rows if one.is_baseline and one is not row and found[one.label]), None)
    mine = found[row.label]
    if base is not None:
        against, before = base.label, _share(found[base.label])
    elif mine[0].teacher is not None:
        against, before = "the teacher", _of_teacher(mine)
    else:
        against, before = "", []
    examples = mine[at]
    return Shown(
        row,
        row.group.seeds[at],
        examples,
        against,
        _most(examples, before, _share(mine)) if before else (),
        _sizes(row, examples),
    )


def _all(row: Row) -> list[Examples]:
    """Of every run of a row; nothing unless all have left something about the same classes."""
    found = [read_examples(run.folder) for run in row.group.runs]
    whole = [one for one in found if one is not None]
    return whole if len(whole) == len(found) and len({one.classes for one in whole}) == 1 else []


def _first(found: Sequence[Examples]) -> int | None:
    return next((i for i, one in enumerate(found) if one.ms[0] is not None), None)


def _share(found: Sequence[Examples]) -> list[float]:
    """Of every class, how much is right, in percent over all seeds."""
    sums = [sum(one.student[k] for one in found) for k in range(len(found[0].classes))]
    return [100 * n / max(1, len(found) * images) for n, images in zip(sums, found[0].count, strict=True)]


def _of_teacher(found: Sequence[Examples]) -> list[float]:
    right = found[0].teacher or ()
    return [100 * n / max(1, images) for n, images in zip(right, found[0].count, strict=True)]


def _most(examples: Examples, before: Sequence[float], after: Sequence[float]) -> tuple[Change, ...]:
    """The classes that gained most, then those that lost most; classes without a change are left out."""
    each = [Change(*one) for one in zip(examples.classes, examples.count, before, after, strict=True)]
    gained = sorted((one for one in each if one.points > 0), key=lambda one: -one.points)[:CHANGES]
    lost = sorted((one for one in each if one.points < 0), key=lambda one: one.points)[:CHANGES]
    return (*gained, *reversed(lost))


def _sizes(row: Row, examples: Examples) -> tuple[Size, ...]:
    facts = row.group.summaries[0]
    student = ("student", facts.student or "", row.last.mean, row.params, examples.ms[0])
    if examples.teacher is None:
        return (student,)
    right = 100 * sum(examples.teacher) / max(1, sum(examples.count))
    return student, ("teacher", facts.teacher or "", right, row.teacher_params, examples.ms[1])
