"""The small panels of a report: curves over epochs, and reliability diagrams."""

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
from fractionate.report.summary import Calibration
from fractionate.report.table import Row
from fractionate.report.words import PERCENT, Estimate, number, spread

POINTS = 600
"""A line has up to twice as many points: more than a screen shows."""


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
class Figure:
    """Panels under one title; ``legend`` pairs names with inks.

    ``wide`` gives each panel a full row; where the screen has less room than that, ``narrow`` takes their place.
    """

    key: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    legend: tuple[tuple[str, str], ...] = ()
    wide: bool = False
    narrow: tuple[Panel, ...] = ()


@dataclass(frozen=True)
class Axes:
    """What the panels of one figure share, so that they can be compared."""

    x: Point
    y: Point
    log: bool
    label: str
    x_label: str = "epoch"
    x_log: bool = False


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
    x = Scale(*axes.x, 46.0, right, axes.x_log)
    frame = Frame(x, Scale(*axes.y, height - 44.0, 46.0 if title else 30.0, axes.log))
    marks = [text(0, 16, shortened(title, width), "title", "start")] if title else []
    marks += y_axis(frame, axes.label, 6 if wide else 4)
    marks += x_axis(frame, axes.x_label, 8 if wide else 4, whole=True)
    if axes.y[0] < 0 < axes.y[1]:
        marks.append(rule(frame.left, frame.y(0), frame.right, frame.y(0), "zero"))
    if wide:
        marks += end_labels(frame, lines)
    plot = [_area(frame, line) for line in lines] + [_line(frame, line) for line in lines]
    return Panel(width, height, title, _summary(title, lines, axes.x_label), frame, tuple(marks), tuple(plot))


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


def _summary(title: str, lines: Sequence[Series], at: str) -> str:
    ends = [f"{line.label} from {number(line.mean[0][1], 3)} in {at} {line.mean[0][0]:.0f} "
            f"to {number(line.mean[-1][1], 3)} in {at} {line.mean[-1][0]:.0f}"
            for line in lines]  # fmt: skip
    return f"{title}: {'; '.join(ends)}." if title else f"{'; '.join(ends)}."


def pooled(bins: Sequence[Calibration]) -> Calibration:
    """Bins of all seeds together, every image counted once.

    Example:
        >>> pooled([Calibration((0.8,), (1.0,), (1,)), Calibration((0.9,), (0.5,), (3,))]).accuracy
        (0.625,)
    """
    counts = tuple(map(math.fsum, zip(*(b.count for b in bins), strict=True)))

    def weighted(columns: Sequence[Sequence[float]]) -> tuple[float, ...]:
        sums = [math.fsum(v * n for v, n in zip(cells, weights, strict=True))
                for cells, weights in zip(zip(*columns, strict=True),
                                          zip(*(b.count for b in bins), strict=True),
                                          strict=True)]  # fmt: skip
        return tuple(s / n if n else 0.0 for s, n in zip(sums, counts, strict=True))

    return Calibration(weighted([b.confidence for b in bins]), weighted([b.accuracy for b in bins]), counts)


def reliability_panel(row: Row, ink: str) -> Panel | None:
    """Dots on the diagonal mean that confidence tells the truth; None if a seed has no bins."""
    bins = [s.calibration for s in row.group.summaries if s.calibration is not None]
    if len(bins) != row.n or len({len(b.count) for b in bins}) != 1:
        return None
    all_bins = pooled(bins)
    total = math.fsum(all_bins.count)
    if total <= 0:
        return None
    frame = Frame(Scale(0, 1, 46, 328), Scale(0, 1, 212, 46))
    strip = Frame(frame.x, Scale(0, max(all_bins.count) / total, 252, 224))
    marks = [text(0, 16, shortened(row.label, 210), "title", "start"), *y_axis(frame, "accuracy", 4)]
    marks.append(text(328, 16, f"ECE {spread(row.ece, 1, scale=100)}{PERCENT}", "value", "end"))
    marks += x_axis(strip, "confidence", 4)
    marks.append(text(39, strip.bottom - 6, "share", anchor="end"))
    marks.append(rule(frame.left, frame.bottom, frame.right, frame.top, "reference"))
    used = [b for b in zip(all_bins.confidence, all_bins.accuracy, all_bins.count, strict=True)
            if b[2] > 0]  # fmt: skip
    line = path([(confidence, accuracy) for confidence, accuracy, _ in used], frame.x, frame.y)
    marks.append(Mark("path", {"d": line, "class": f"line thin {ink}"}))
    for confidence, accuracy, count in used:
        marks += _bin(frame, strip, (confidence, accuracy, count / total), ink)
    seen = f"{row.label}: expected calibration error {spread(row.ece, 1, scale=100)} percent"
    return Panel(340, 294, row.label, f"{seen}, {len(used)} bins in use.", frame, tuple(marks), ())


def _bin(frame: Frame, strip: Frame, values: tuple[float, float, float], ink: str) -> list[Mark]:
    confidence, accuracy, share = values
    x = frame.x(confidence)
    place: dict[str, str | float] = {"cx": x, "cy": frame.y(accuracy)}
    tip = (
        f"confidence {number(confidence)}, accuracy {number(accuracy)}, {number(100 * share, 1)}{PERCENT} of the images"
    )
    radius = round(2.2 + 5.0 * math.sqrt(share), 2)
    dot = Mark("circle", {**place, "r": radius, "class": f"dot ring {ink}"}, tip=tip)
    return [dot, rule(x, strip.bottom, x, strip.y(share), f"bar wide {ink}")]
