"""Curves over epochs: one mean line per method or component, with a band of one sample std."""

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
from fractionate.report.stats import Estimate
from fractionate.report.words import number


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
