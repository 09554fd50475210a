"""Scales and marks: a chart is a list of marks that the template writes as SVG elements."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fractionate._headlines import Headline

Point = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """One SVG element. ``tip`` becomes its tooltip; the template escapes every part."""

    tag: Literal["path", "line", "circle", "rect", "text"]
    attributes: dict[str, str | float]
    text: str = ""
    tip: str = ""


@dataclass(frozen=True)
class Scale:
    """Data -> pixels: ``low`` lands on ``start`` and ``high`` on ``stop``.

    Example:
        >>> Scale(0, 10, 0, 100)(5), Scale(1, 100, 0, 100, log=True)(10)
        (50.0, 50.0)
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        part = (value - low) / (high - low)
        return round(self.start + part * (self.stop - self.start), 2)

    def holds(self, value: float) -> bool:
        """Whether the value can be drawn at all."""
        return math.isfinite(value) and (value > 0 or not self.log)

    def ticks(self, count: int = 5) -> list[float]:
        """About ``count`` round values inside the range.

        Example:
            >>> Scale(0, 10, 0, 1).ticks(), Scale(0.01, 30, 0, 1, log=True).ticks()
            ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [0.01, 0.1, 1.0, 10.0])
        """
        if self.log:
            return self._log_ticks(count)
        step = _round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]

    def _log_ticks(self, count: int) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        every = max(1, math.ceil(len(decades) / (count + 1)))
        for digits in ((1,), (1, 3), (1, 2, 5)):
            ticks = [d * 10.0**decade for decade in decades[::every] for d in digits]
            inside = [t for t in ticks if self.low * (1 - 1e-9) <= t <= self.high * (1 + 1e-9)]
            if len(inside) > 2:
                return inside
        return replace(self, log=False).ticks(count)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))


def extent(values: Iterable[float], pad: float = 0.06, log: bool = False) -> Point:
    """Smallest and largest finite value, padded; a range of width 1 (a decade) around a single one.

    Example:
        >>> extent([1.0, 3.0, float("nan")], pad=0.5), extent([2.0]), extent([])
        ((0.0, 4.0), (1.5, 2.5), (0.0, 1.0))
    """
    known = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if not known:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = min(known), max(known)
    if log:
        room = max((high / low) ** pad, 1.1 if high > low else math.sqrt(10))
        return low / room, high * room
    room = (high - low) * pad if high > low else 0.5
    return low - room, high + room


def shortened(label: str, room: float) -> str:
    """A label cut to about ``room`` pixels of the bold text that names a row, a line or a panel.

    Example:
        >>> shortened("dkd+deepkd", 100), shortened("dkd+deepkd", 50)
        ('dkd+deepkd', 'dkd+d…')
    """
    fits = max(2, int(room / 8.2))
    return label if len(label) <= fits else f"{label[: fits - 1]}…"


def tick_text(value: float) -> str:
    """A tick label: plain digits, powers of ten beyond four of them.

    Example:
        >>> tick_text(0.25), tick_text(-2.0), tick_text(1e-5), tick_text(240.0)
        ('0.25', '−2', '1e−5', '240')
    """
    large = value != 0 and not 1e-3 <= abs(value) < 1e5
    text = f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e") if large else f"{value:g}"
    return text.replace("-", "\N{MINUS SIGN}")


def path(points: Iterable[Point], x: Scale, y: Scale) -> str:
    """SVG path data of a line; a value that cannot be drawn breaks it.

    Example:
        >>> path([(0, 0), (1, 1)], Scale(0, 1, 0, 10), Scale(0, 1, 10, 0))
        'M0.0 10.0L10.0 0.0'
    """
    data, pen = [], "M"
    for a, b in points:
        if x.holds(a) and y.holds(b):
            data.append(f"{pen}{x(a)} {y(b)}")
            pen = "L"
        else:
            pen = "M"
    return "".join(data)


def band(lower: Sequence[Point], upper: Sequence[Point], x: Scale, y: Scale) -> str:
    """SVG path data of the area between two lines; empty if they cannot be drawn."""
    edge = path([*upper, *reversed(lower)], x, y)
    return f"{edge}Z" if edge.count("M") == 1 else ""


@dataclass(frozen=True)
class Frame:
    """The plotting area of a panel: its edges are where the two scales start and stop."""

    x: Scale
    y: Scale

    @property
    def left(self) -> float:
        """Left edge in pixels."""
        return self.x.start

    @property
    def right(self) -> float:
        """Right edge in pixels."""
        return self.x.stop

    @property
    def top(self) -> float:
        """Top edge in pixels (y grows upwards, so its scale stops here)."""
        return self.y.stop

    @property
    def bottom(self) -> float:
        """Bottom edge in pixels."""
        return self.y.start


@dataclass(frozen=True)
class Panel:
    """One drawing: ``marks`` around and above the plot, ``plot`` cut off at the edges of ``frame``.

    ``summary`` is the text alternative for readers who do not see the drawing.
    """

    width: float
    height: float
    title: str
    summary: str
    frame: Frame
    marks: tuple[Mark, ...]
    plot: tuple[Mark, ...]


def unit(metric: Headline) -> str:
    """``, %`` for the end of an axis' label; nothing for a metric without a unit."""
    return f", {metric.unit}" if metric.unit else ""


def text(x: float, y: float, words: str, kind: str = "tick", anchor: str = "middle") -> Mark:
    """A line of text whose baseline point is (x, y)."""
    return Mark("text", {"x": x, "y": y, "class": kind, "text-anchor": anchor}, text=words)


def rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> Mark:
    """A straight line."""
    return Mark("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": kind})


def x_axis(frame: Frame, label: str, count: int = 5, grid: bool = False, whole: bool = False) -> list[Mark]:
    """Tick labels below the frame (``whole`` numbers only if asked), and a label below them."""
    marks = []
    for tick in frame.x.ticks(count):
        if whole and tick % 1:
            continue
        at = frame.x(tick)
        top = frame.top if grid else frame.bottom
        marks.append(rule(at, top, at, frame.bottom + 4, "grid"))
        marks.append(text(at, frame.bottom + 17, tick_text(tick)))
    middle = (frame.left + frame.right) / 2
    marks.append(rule(frame.left, frame.bottom, frame.right, frame.bottom, "axis"))
    return [*marks, text(middle, frame.bottom + 34, label, "label")]


def y_axis(frame: Frame, label: str, count: int = 5) -> list[Mark]:
    """Horizontal grid lines with tick labels on the left, and a label above the frame."""
    marks = []
    for tick in frame.y.ticks(count):
        at = frame.y(tick)
        marks.append(rule(frame.left, at, frame.right, at, "grid"))
        marks.append(text(frame.left - 7, at + 4, tick_text(tick), anchor="end"))
    return [*marks, text(frame.left, frame.top - 9, label, "label", "start")]
