"""Every seed of every method, and the paired difference to the baseline: side by side, or one below the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fractionate.report.chart import Frame, Mark, Panel, Scale, extent, rule, shortened, text, unit, x_axis
from fractionate.report.table import Row, teachers
from fractionate.report.words import LEVEL_TEXT, gap, measured, number, spread

HEAD, FOOT = 46.0, 44.0
WIDE, NARROW, NAMES_NARROW = 1040.0, 400.0, 230.0
REACH = 1.0
"""The teacher is drawn if it lies within this multiple of the students' range beyond them."""


@dataclass(frozen=True)
class Block:
    """Where the rows of one quantity stand: marks from ``left`` to ``right``, words beside them or (narrow) above.

    ``split``: whether a name is too long for one line.
    """

    left: float
    right: float
    top: float
    count: int
    narrow: bool
    split: bool = False

    @property
    def row(self) -> float:
        """Height of a row; names of two lines need more where the marks are below them."""
        return (68.0 if self.split else 54.0) if self.narrow else 46.0

    @property
    def bottom(self) -> float:
        """Where the axis is."""
        return self.top + self.row * self.count

    def frame(self, low: float, high: float) -> Frame:
        """The plotting area."""
        return Frame(Scale(low, high, self.left, self.right), Scale(0, 1, self.bottom, self.top))

    def centre(self, index: int) -> float:
        """Height of the marks of a row."""
        return self.top + self.row * (index + 1) - 18 if self.narrow else self.top + self.row * (index + 0.5)

    def named(self, index: int, row: Row, ink: str) -> list[Mark]:
        """The name of a row; arguments that do not fit beside it are below it."""
        room, y = NAMES_NARROW if self.narrow else self.left - 14, self._words(index)
        name, args = _halves(row.label, room)
        if not args:
            return [text(0, y, shortened(name, room), f"name {ink}", "start")]
        up = 0 if self.narrow else 7
        below = text(0, y - up + 14, shortened(args, room * 1.25), "tick", "start")  # in a smaller type
        return [text(0, y - up, shortened(name, room), f"name {ink}", "start"), below]

    def valued(self, index: int, words: str, kind: str = "value") -> Mark:
        """What is written of a row."""
        if self.narrow:
            return text(NARROW, self._words(index), words, kind, "end")
        return text(self.right + 14, self._words(index), words, kind, "start")

    def lines(self) -> list[Mark]:
        """Between the rows."""
        end = NARROW if self.narrow else WIDE
        return [rule(0, y, end, y, "row") for y in (self.top + self.row * i for i in range(1, self.count))]

    def upright(self, at: float, kind: str, over: float = 0.0) -> list[Mark]:
        """A line through all rows, which leaves out the words where they are above the marks."""
        spans = [(self.top - over, self.top if self.narrow else self.bottom)]
        if self.narrow:
            spans += [(self.centre(i) - 14, self.top + self.row * (i + 1)) for i in range(self.count)]
        return [rule(at, start, at, end, kind) for start, end in spans if start < end]

    def _words(self, index: int) -> float:
        return self.top + self.row * index + 18 if self.narrow else self.centre(index) + 4


def _halves(label: str, room: float) -> tuple[str, str]:
    """A name and its arguments in brackets, if both do not fit into a line."""
    if shortened(label, room) == label or " (" not in label:
        return label, ""
    name, _, args = label.partition(" (")
    return name, args.removesuffix(")")


def accuracy_panel(rows: Sequence[Row], inks: dict[str, str], narrow: bool = False) -> Panel:
    """One line of dots per method and, with a baseline, its interval of differences.

    Args:
        rows: of one setting.
        inks: label -> classes of its colour.
        narrow: 400 pixels wide, the differences below; else 1040, on the right.
    """
    baseline = next((row for row in rows if row.is_baseline), None)
    block, other = _blocks(rows, narrow, baseline is not None)
    frame = block.frame(*_range(rows))
    metric = rows[0].headline
    marks = block.lines()
    marks += x_axis(frame, f"test {metric.name} at the last epoch{unit(metric)}", grid=True)
    marks += _reference_lines(block, frame, rows, baseline)
    for i, row in enumerate(rows):
        marks += block.named(i, row, inks[row.label])
        marks += _seeds(frame, row, block.centre(i), inks[row.label])
        marks.append(block.valued(i, spread(row.last)))
    if baseline:
        marks += _differences(rows, baseline, inks, other)
    if narrow:
        marks = [replace(mark, tip="") for mark in marks]  # where no pointer can rest on a mark
    told = [f"{row.label} {spread(row.last)}" for row in rows]
    summary = f"Test {metric.name} at the last epoch{unit(metric)}; mean and std: {'; '.join(told)}."
    height = (other if narrow and baseline else block).bottom + FOOT
    return Panel(NARROW if narrow else WIDE, height, "", summary, frame, tuple(marks), ())


def _blocks(rows: Sequence[Row], narrow: bool, both: bool) -> tuple[Block, Block]:
    """Places of the accuracies and of the differences."""
    count = len(rows)
    if narrow:
        long = any(_halves(row.label, NAMES_NARROW)[1] for row in rows)
        first = Block(8, NARROW - 8, HEAD, count, True, long)
        return first, replace(first, top=first.bottom + FOOT + 18)
    names = min(250.0, 16 + 8.2 * max(len(row.label) for row in rows))
    split = 0.54 * WIDE if both else WIDE
    first = Block(names, split - _room([spread(row.last) for row in rows]), HEAD, count, False)
    return first, Block(split, WIDE - _room([gap(row.difference) for row in rows]), HEAD, count, False)


def _room(words: Sequence[str]) -> float:
    """Pixels that the longest of some values needs."""
    return 24 + 7.3 * max(map(len, words))


def _range(rows: Sequence[Row]) -> tuple[float, float]:
    values = [v for row in rows for v in row.last.values]
    for row in rows:
        values += [row.last.mean - (row.last.std or 0), row.last.mean + (row.last.std or 0)]
    low, high = extent(values)
    tops = [teacher.score.mean for teacher in teachers(rows) if teacher.score]
    near = [top for top in tops if low - REACH * (high - low) < top < high + REACH * (high - low)]
    return extent([*values, *near])


def _reference_lines(block: Block, frame: Frame, rows: Sequence[Row], baseline: Row | None) -> list[Mark]:
    marks: list[Mark] = []
    if baseline and math.isfinite(baseline.last.mean):
        marks += block.upright(frame.x(baseline.last.mean), "reference")
    for teacher in teachers(rows):
        if teacher.score is None:
            continue
        name, score = f"teacher {number(teacher.score.mean)}", teacher.score.mean
        if frame.x.low <= score <= frame.x.high:
            at = frame.x(score)
            marks += block.upright(at, "teacher", over=4)
            anchor = "end" if at > (frame.left + frame.right) / 2 else "start"
            marks.append(text(at, frame.top - 10, name, "tick", anchor))
        else:
            marks.append(text(frame.right, frame.top - 10, f"{name}, off this axis", "tick", "end"))
    return marks


def _seeds(frame: Frame, row: Row, centre: float, ink: str) -> list[Mark]:
    """The std as a bar, the mean as a line, every seed as a dot (in the order of the seeds)."""
    marks = []
    mean, std = row.last.mean, row.last.std
    if math.isfinite(mean):
        if std:
            low, high = frame.x(mean - std), frame.x(mean + std)
            box: dict[str, str | float] = {"x": low, "y": centre - 13, "width": high - low}
            marks.append(Mark("rect", {**box, "height": 26, "class": f"band {ink}"}))
        marks.append(rule(frame.x(mean), centre - 13, frame.x(mean), centre + 13, f"mean {ink}"))
    gap = min(6.0, 18.0 / max(1, row.n - 1))
    for i, (seed, value) in enumerate(zip(row.group.seeds, row.last.values, strict=True)):
        if math.isfinite(value):
            at = centre + (i - (row.n - 1) / 2) * gap
            place: dict[str, str | float] = {"cx": frame.x(value), "cy": at, "r": 3.4}
            tip = f"{row.label}, seed {seed}: {measured(value, row.headline)}"
            marks.append(Mark("circle", {**place, "class": f"dot ring {ink}"}, tip=tip))
    return marks


def _differences(rows: Sequence[Row], baseline: Row, inks: dict[str, str], block: Block) -> list[Mark]:
    known = [row.difference for row in rows if row.difference is not None]
    ends = [v for d in known for v in (d.mean, d.low, d.high) if v is not None]
    frame = block.frame(*extent([*ends, 0.0]))
    label = f"difference to {shortened(baseline.label, 120)}, {baseline.headline.of} ({LEVEL_TEXT} interval)"
    marks = x_axis(frame, label, 4, grid=True)
    marks += block.upright(frame.x(0), "reference")
    marks += block.lines() if block.narrow else []
    for i, row in enumerate(rows):
        marks += block.named(i, row, inks[row.label]) if block.narrow else []
        if row.is_baseline:
            marks.append(block.valued(i, "baseline", "tick"))
        else:
            marks += _interval(frame, row, block.centre(i), inks[row.label])
            marks.append(block.valued(i, gap(row.difference)))
    return marks


def _interval(frame: Frame, row: Row, y: float, ink: str) -> list[Mark]:
    """A filled dot where the interval excludes zero, a hollow one where it does not."""
    found = row.difference
    if found is None or not math.isfinite(found.mean):
        return []
    marks = []
    if found.low is not None and found.high is not None:
        low, high = frame.x(found.low), frame.x(found.high)
        marks.append(rule(low, y, high, y, f"bar {ink}"))
        marks += [rule(end, y - 5, end, y + 5, f"bar {ink}") for end in (low, high)]
    kind = "dot ring" if found.verdict in ("above", "below") else "dot hollow"
    place: dict[str, str | float] = {"cx": frame.x(found.mean), "cy": y, "r": 5}
    tip = f"{row.label}: {gap(found)} {row.headline.of}"
    return [*marks, Mark("circle", {**place, "class": f"{kind} {ink}"}, tip=tip)]
