"""Accuracy of every seed, and beside it the paired difference to the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fractionate.report.chart import Frame, Mark, Panel, Scale, extent, rule, shortened, text, x_axis
from fractionate.report.table import Row, teachers
from fractionate.report.words import LEVEL_TEXT, PERCENT, gap, number, spread

WIDTH, ROW, HEAD, FOOT = 1040.0, 46.0, 46.0, 44.0
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
    marks += x_axis(accuracy, "test accuracy at the last epoch, %", grid=True)
    marks += _reference_lines(accuracy, rows, baseline)
    for i, row in enumerate(rows):
        marks += _seeds(accuracy, row, _centre(i), inks[row.label])
        marks.append(text(middle + 14, _centre(i) + 4, spread(row.last), "value", "start"))
    if baseline:
        marks += _differences(rows, baseline, inks, split, bottom)
    told = [f"{row.label} {spread(row.last)}" for row in rows]
    summary = f"Test accuracy at the last epoch in percent, mean and std: {'; '.join(told)}."
    return Panel(WIDTH, bottom + FOOT, "", summary, accuracy, tuple(marks), ())


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
    tops = [teacher.top1.mean for teacher in teachers(rows) if teacher.top1]
    near = [top for top in tops if low - REACH * (high - low) < top < high + REACH * (high - low)]
    low, high = extent([*values, *near])
    return Frame(Scale(low, high, left, right), Scale(0, 1, bottom, HEAD))


def _reference_lines(frame: Frame, rows: Sequence[Row], baseline: Row | None) -> list[Mark]:
    marks = []
    if baseline and math.isfinite(baseline.last.mean):
        at = frame.x(baseline.last.mean)
        marks.append(rule(at, frame.top, at, frame.bottom, "reference"))
    for teacher in teachers(rows):
        if teacher.top1 is None:
            continue
        name, top1 = f"teacher {number(teacher.top1.mean)}", teacher.top1.mean
        if frame.x.low <= top1 <= frame.x.high:
            at = frame.x(top1)
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
            tip = f"{row.label}, seed {seed}: {number(value)}{PERCENT}"
            marks.append(Mark("circle", {**place, "class": f"dot ring {ink}"}, tip=tip))
    return marks


def _differences(rows: Sequence[Row], baseline: Row, inks: dict[str, str], left: float, bottom: float) -> list[Mark]:
    known = [row.difference for row in rows if row.difference is not None]
    ends = [v for d in known for v in (d.mean, d.low, d.high) if v is not None]
    right = WIDTH - _room([gap(row.difference) for row in rows])
    frame = Frame(Scale(*extent([*ends, 0.0]), left, right), Scale(0, 1, bottom, HEAD))
    label = f"difference to {shortened(baseline.label, 120)}, points ({LEVEL_TEXT} interval)"
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
    tip = f"{row.label}: {gap(found)} points"
    return [*marks, Mark("circle", {**place, "class": f"{kind} {ink}"}, tip=tip)]
