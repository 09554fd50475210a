"""The picture of a study on the page of results; `python docs/results.py` writes it beside the page.

Left every seed as a dot and the mean as a line, right the paired difference to the baseline with its interval: filled
where it excludes zero, hollow where it does not. The best mean stands on top.
"""

import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from draw import LINE, REST, TARGET, picture, text

from fractionate.report.chart import Scale, extent
from fractionate.report.table import Row
from fractionate.report.words import gap, spread

WIDTH, ROW, TOP = 990, 34, 18
NAMES, ACCURACY, VALUES, GAPS, ENDS = 16, (296, 476), 492, (610, 776), 792  # left edges, or both, in pixels


def chart(rows: Sequence[Row], title: str) -> str:
    """The picture, as SVG.

    Args:
        rows: of one setting, one of them the baseline.
        title: what a reader hears who does not see it.
    """
    rows = sorted(rows, key=lambda row: -row.last.mean)
    floor = TOP + ROW * len(rows)
    tops = Scale(*extent([v for row in rows for v in row.last.values]), *ACCURACY)
    known = [row.difference for row in rows if row.difference]
    ends = [v for d in known for v in (d.mean, d.low, d.high) if v is not None]
    gaps = Scale(*extent([*ends, 0.0]), *GAPS)
    parts = [*_axis(tops, floor, "top-1 %, last epoch"), *_axis(gaps, floor, _against(rows))]
    parts.append(_line(gaps(0), TOP, gaps(0), floor, LINE, 1.5))
    for i, row in enumerate(rows):
        parts += _row(row, TOP + ROW * (i + 0.5), tops, gaps)
    return picture(WIDTH, floor + 62, escape(title, quote=True), parts)


def _against(rows: Sequence[Row]) -> str:
    baseline = next((row.label for row in rows if row.is_baseline), "the baseline")
    return f"points against {escape(baseline)}"


def _axis(scale: Scale, floor: float, label: str) -> Iterator[str]:
    """Grid, numbers and what they are."""
    for value in scale.ticks(4):
        yield _line(scale(value), TOP, scale(value), floor, LINE, 0.5)
        yield text(scale(value), floor + 18, f"{value:g}".replace("-", "−"), 12)
    yield text((scale.start + scale.stop) / 2, floor + 42, label, 13)


def _row(row: Row, y: float, tops: Scale, gaps: Scale) -> Iterator[str]:
    yield text(NAMES, y + 5, escape(row.label), 13, "start", "font-weight='600'")
    yield _line(tops(row.last.mean), y - 10, tops(row.last.mean), y + 10, TARGET, 2)
    yield from (_dot(tops(value), y, 3.5, "none", REST) for value in row.last.values)
    yield text(VALUES, y + 5, spread(row.last), 13, "start")
    if (found := row.difference) is None:
        yield text(ENDS, y + 5, "baseline", 13, "start")
        return
    if found.low is not None and found.high is not None:
        yield _line(gaps(found.low), y, gaps(found.high), y, REST, 2)
    filled = REST if found.verdict in ("above", "below") else "#ffffff"
    yield _dot(gaps(found.mean), y, 5, filled, REST)
    yield text(ENDS, y + 5, gap(found), 13, "start")


def _line(x1: float, y1: float, x2: float, y2: float, ink: str, width: float) -> str:
    ends = f"x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}'"
    return f"<line {ends} stroke='{ink}' stroke-width='{width:g}'/>"


def _dot(x: float, y: float, radius: float, fill: str, ink: str) -> str:
    return f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{radius:g}' fill='{fill}' stroke='{ink}' stroke-width='2'/>"
