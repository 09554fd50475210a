"""Reliability diagrams: accuracy against confidence, bins pooled over the seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fractionate.report.chart import Frame, Mark, Panel, Scale, path, rule, shortened, text, x_axis, y_axis
from fractionate.report.summary import Calibration
from fractionate.report.table import Row
from fractionate.report.words import PERCENT, number, spread


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
