"""The panels of a report: every seed with its difference to the baseline, and curves over epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fractionate.report.chart import (
    Frame,
    Mark,
    Panel,
    Point,
    Scale,
    band,
    extent,
    path,
    rule,
    shortened,
    text,
    x_axis,
    y_axis,
)
from fractionate.report.groups import Group
from fractionate.report.summary import Headline
from fractionate.report.table import Row, teachers
from fractionate.report.words import LEVEL_TEXT, Estimate, gap, measured, number, spread

WIDTH, ROW, HEAD, FOOT = 1040.0, 46.0, 46.0, 44.0
POINTS = 600
"""A line has up to twice as many points: more than a screen shows."""
REACH = 1.0
"""The teacher is drawn if it lies within this multiple of the students' range beyond them."""


def accuracy_panel(rows: Sequence[Row], inks: dict[str, str]) -> Panel:
    """One line of dots per method; with a baseline, its interval of differences on the right."""
    bottom = HEAD + ROW * len(rows)
    labels = min(220.0, 16 + 8.2 * max(len(row.label) for row in rows))
    baseline = next((row for row in rows if row.is_baseline), None)
    split = 0.54 * WIDTH if baseline else WIDTH
    middle = split - _room([spread(row.last) for row in rows])
    accuracy = _accuracy_frame(rows, labels, middle, bottom)
    marks = [text(0, _centre(i) + 4, shortened(row.label, labels - 14), f"name {inks[row.label]}", "start")
             for i, row in enumerate(rows)]  # fmt: skip
    marks += [rule(0, HEAD + ROW * i, WIDTH, HEAD + ROW * i, "row") for i in range(1, len(rows))]
    metric = rows[0].headline
    marks += x_axis(accuracy, f"test {metric.name} at the last epoch{unit(metric)}", grid=True)
    marks += _reference_lines(accuracy, rows, baseline)
    for i, row in enumerate(rows):
        marks += _seeds(accuracy, row, _centre(i), inks[row.label])
        marks.append(text(middle + 14, _centre(i) + 4, spread(row.last), "value", "start"))
    if baseline:
        marks += _differences(rows, baseline, inks, split, bottom)
    told = [f"{row.label} {spread(row.last)}" for row in rows]
    summary = f"Test {metric.name} at the last epoch{unit(metric)}; mean and std: {'; '.join(told)}."
    return Panel(WIDTH, bottom + FOOT, "", summary, accuracy, tuple(marks), ())


def unit(metric: Headline) -> str:
    """``, %`` for the end of an axis' label; nothing for a metric without a unit."""
    return f", {metric.unit}" if metric.unit else ""


def _centre(index: int) -> float:
    return HEAD + ROW * (index + 0.5)


def _room(words: Sequence[str]) -> float:
    """Pixels that the longest of some values needs."""
    return 24 + 7.3 * max(map(len, words))


def _accuracy_frame(rows: Sequence[Row], left: float, right: float, bottom: float) -> Frame:
    values = [v for row in rows for v in row.last.values]
    for row in rows:
        values += [row.last.mean - (row.last.std or 0), row.last.mean + (row.last.std or 0)]
    low, high = extent(values)
    tops = [teacher.score.mean for teacher in teachers(rows) if teacher.score]
    near = [top for top in tops if low - REACH * (high - low) < top < high + REACH * (high - low)]
    low, high = extent([*values, *near])
    return Frame(Scale(low, high, left, right), Scale(0, 1, bottom, HEAD))


def _reference_lines(frame: Frame, rows: Sequence[Row], baseline: Row | None) -> list[Mark]:
    marks = []
    if baseline and math.isfinite(baseline.last.mean):
        at = frame.x(baseline.last.mean)
        marks.append(rule(at, frame.top, at, frame.bottom, "reference"))
    for teacher in teachers(rows):
        if teacher.score is None:
            continue
        name, score = f"teacher {number(teacher.score.mean)}", teacher.score.mean
        if frame.x.low <= score <= frame.x.high:
            at = frame.x(score)
            marks.append(rule(at, frame.top - 4, at, frame.bottom, "teacher"))
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


def _differences(rows: Sequence[Row], baseline: Row, inks: dict[str, str], left: float, bottom: float) -> list[Mark]:
    known = [row.difference for row in rows if row.difference is not None]
    ends = [v for d in known for v in (d.mean, d.low, d.high) if v is not None]
    right = WIDTH - _room([gap(row.difference) for row in rows])
    frame = Frame(Scale(*extent([*ends, 0.0]), left, right), Scale(0, 1, bottom, HEAD))
    label = f"difference to {shortened(baseline.label, 120)}, {baseline.headline.of} ({LEVEL_TEXT} interval)"
    marks = x_axis(frame, label, 4, grid=True)
    marks.append(rule(frame.x(0), frame.top, frame.x(0), frame.bottom, "reference"))
    for i, row in enumerate(rows):
        at = _centre(i) + 4
        if row.is_baseline:
            marks.append(text(frame.right + 14, at, "baseline", "tick", "start"))
        else:
            marks += _interval(frame, row, _centre(i), inks[row.label])
            marks.append(text(frame.right + 14, at, gap(row.difference), "value", "start"))
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


@dataclass(frozen=True)
class Series:
    """Mean over seeds per epoch; ``low`` and ``high`` are one sample std away, empty for one seed."""

    label: str
    ink: str
    n: int
    mean: tuple[Point, ...]
    low: tuple[Point, ...]
    high: tuple[Point, ...]

    @property
    def values(self) -> list[float]:
        """Everything that the axis should hold."""
        return [v for line in (self.mean, self.low, self.high) for _, v in line]


def series(group: Group, column: str, label: str, ink: str) -> Series | None:
    """One column over the epochs that its seeds share; None if no seed has such a column.

    Monitors may watch some seeds only; `Series.n` is the number of seeds that have the column.
    """
    columns = [found for run in group.runs if (found := run.column(column))]
    epochs = sorted(set.intersection(*(set(c) for c in columns))) if columns else []
    if not epochs:
        return None
    epochs = [*epochs[: -1 : max(1, len(epochs) // POINTS)], epochs[-1]]
    per_epoch = [(e, Estimate(tuple(c[e] for c in columns))) for e in epochs]
    mean = tuple((e, value.mean) for e, value in per_epoch)
    if len(columns) < 2:
        return Series(label, ink, 1, mean, (), ())
    low = tuple((e, value.mean - (value.std or 0.0)) for e, value in per_epoch)
    high = tuple((e, value.mean + (value.std or 0.0)) for e, value in per_epoch)
    return Series(label, ink, len(columns), mean, low, high)


@dataclass(frozen=True)
class Axes:
    """What the panels of one figure share, so that they can be compared."""

    x: Point
    y: Point
    log: bool
    label: str


def shared_axes(panels: Sequence[Sequence[Series]], label: str, log: bool, zero: bool = False) -> Axes:
    """Axes that hold every mean line; logarithmic if wished and every mean is positive."""
    lines = [line for panel in panels for line in panel]
    epochs = [e for line in lines for e, _ in line.mean]
    means = [v for line in lines for _, v in line.mean if math.isfinite(v)]
    log = log and all(v > 0 for v in means)
    values = means if log else [v for line in lines for v in line.values]
    values = [*values, 0.0] if zero else values
    first, last = min(epochs, default=0), max(epochs, default=1)
    return Axes((first, last if last > first else first + 1), extent(values, log=log), log, label)


def late_range(lines: Sequence[Series]) -> Point:
    """The range of the means without their first quarter, unless all would fit almost as well."""
    last = max((e for line in lines for e, _ in line.mean), default=0)
    low, high = extent(v for line in lines for e, v in line.mean if e >= last / 4)
    least, most = extent(v for line in lines for v in line.values)
    return (least if least > low - 0.35 * (high - low) else low), max(high, most)


def curves_panel(title: str, lines: Sequence[Series], axes: Axes, wide: bool = False) -> Panel:
    """All lines in one frame; a wide panel names them at their ends instead of in a legend."""
    width, height = (1040.0, 400.0) if wide else (340.0, 236.0)
    right = width - (150.0 if wide else 12.0)
    x = Scale(*axes.x, 46.0, right)
    frame = Frame(x, Scale(*axes.y, height - 44.0, 46.0 if title else 30.0, axes.log))
    marks = [text(0, 16, shortened(title, width), "title", "start")] if title else []
    marks += y_axis(frame, axes.label, 6 if wide else 4)
    marks += x_axis(frame, "epoch", 8 if wide else 4, whole=True)
    if axes.y[0] < 0 < axes.y[1]:
        marks.append(rule(frame.left, frame.y(0), frame.right, frame.y(0), "zero"))
    if wide:
        marks += end_labels(frame, lines)
    plot = [_area(frame, line) for line in lines] + [_line(frame, line) for line in lines]
    return Panel(width, height, title, _summary(title, lines), frame, tuple(marks), tuple(plot))


def _line(frame: Frame, line: Series) -> Mark:
    data = path(line.mean, frame.x, frame.y)
    if len(line.mean) == 1 and frame.y.holds(line.mean[0][1]):
        at, value = line.mean[0]
        where: dict[str, str | float] = {"cx": frame.x(at), "cy": frame.y(value), "r": 3}
        return Mark("circle", {**where, "class": f"dot {line.ink}"}, tip=line.label)
    return Mark("path", {"d": data, "class": f"line {line.ink}"}, tip=line.label)


def _area(frame: Frame, line: Series) -> Mark:
    floor = frame.y.low if frame.y.log else -math.inf  # a band may reach below zero, a log axis not
    low = [(e, max(v, floor)) for e, v in line.low]
    data = band(low, line.high, frame.x, frame.y)
    return Mark("path", {"d": data, "class": f"band {line.ink}"})


def end_labels(frame: Frame, lines: Sequence[Series], height: float = 15.0) -> list[Mark]:
    """Names right of the lines' ends, moved apart until none covers another."""
    ends = [(frame.y(line.mean[-1][1]), line) for line in lines
            if frame.y.holds(line.mean[-1][1])]  # fmt: skip
    ends.sort(key=lambda end: end[0])
    places: list[float] = []
    for wanted, _ in ends:
        places.append(max(wanted, places[-1] + height) if places else wanted)
    overflow = (places[-1] - frame.bottom) if places else 0.0
    if overflow > 0:
        for i in reversed(range(len(places))):
            limit = frame.bottom if i == len(places) - 1 else places[i + 1] - height
            places[i] = min(places[i], limit)
    marks = []
    for (end, line), place in zip(ends, places, strict=True):
        at = frame.x(line.mean[-1][0])
        if at > frame.right - 40:  # a line that ends early would be crossed out by its leader
            marks.append(rule(at + 3, end, frame.right + 14, place, f"leader {line.ink}"))
        name = shortened(line.label, 130)
        marks.append(text(frame.right + 18, place + 4, name, f"name {line.ink}", "start"))
    return marks


def _summary(title: str, lines: Sequence[Series]) -> str:
    ends = [f"{line.label} from {number(line.mean[0][1], 3)} in epoch {line.mean[0][0]:.0f} "
            f"to {number(line.mean[-1][1], 3)} in epoch {line.mean[-1][0]:.0f}"
            for line in lines]  # fmt: skip
    return f"{title}: {'; '.join(ends)}." if title else f"{'; '.join(ends)}."
