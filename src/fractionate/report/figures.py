"""The figures of a page: which columns are drawn, how they are named and coloured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fractionate.report.chart import Frame, Mark, Panel, Scale, path, rule, shortened, text, x_axis, y_axis
from fractionate.report.panels import Axes, Series, accuracy_panel, curves_panel, late_range, series, shared_axes, unit
from fractionate.report.summary import Calibration
from fractionate.report.table import Row
from fractionate.report.words import LEVEL_TEXT, PERCENT, number, spread

HUES = 6
NEUTRAL = {"task": "k0", "loss": "k0 dash1"}
ORDER = ("kd", "target", "nontarget", "between", "top", "other")
"""Components that have the same hue in every report; others take the hues that are left."""
TEST, COMPONENT, GSNR, COSINE = "test_", "component/", "gsnr/", "cosine/"


@dataclass(frozen=True)
class Figure:
    """Panels under one title; ``legend`` pairs names with inks, ``wide`` gives each a full row."""

    key: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    legend: tuple[tuple[str, str], ...] = ()
    wide: bool = False


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Every figure that the rows of one setting have the columns for.

    Example:
        >>> figures([])
        []
    """
    if not rows:
        return []
    inks = _inks([row.label for row in rows if not row.is_baseline])
    inks |= {row.label: "k0" for row in rows if row.is_baseline}
    drawn = [_accuracy(rows, inks), _learning_curves(rows, inks)]
    names = _named_inks(_names(rows, COMPONENT) + _names(rows, GSNR))
    drawn.append(_per_method(rows, names, COMPONENT, *COMPONENT_WORDS, log=True))
    drawn.append(_per_method(rows, names, GSNR, *GSNR_WORDS, log=True))
    drawn.append(_per_method(rows, _inks(_names(rows, COSINE)), COSINE, *COSINE_WORDS, log=False))
    drawn.append(_reliability(rows, inks))
    return [figure for figure in drawn if figure is not None and figure.panels]


COMPONENT_WORDS = (
    "Loss components",
    "Mean over the steps of each epoch, without weight and warm-up; mean over seeds and a band of one "
    "sample std. One axis for all methods.",
    "loss, unweighted",
)
GSNR_WORDS = (
    "Gradient signal-to-noise ratio per stream",
    "|mean g|² / tr Var(g) over a window of steps, for the gradient of each stream (where a method has "
    "one stream, of each component): the higher, the more the minibatches agree on a direction. An "
    "observation; it sets nothing in training.",
    "GSNR",
)
COSINE_WORDS = (
    "Cosine between streams",
    "Between the gradients of two streams at the last step of each epoch: +1 the same direction, 0 "
    "orthogonal, −1 opposed.",
    "cosine",
)


def _inks(names: Iterable[str]) -> dict[str, str]:
    """An ink for every name: six hues told apart by colour-blind readers too, then dashed."""
    distinct = dict.fromkeys(names)
    return {
        name: f"k{1 + i % HUES}" + (f" dash{min(i // HUES, 2)}" if i >= HUES else "") for i, name in enumerate(distinct)
    }


def _named_inks(names: Sequence[str]) -> dict[str, str]:
    """Inks of components and streams."""
    hued = [name for name in names if name not in NEUTRAL]
    fixed = ORDER if set(ORDER) & set(hued) else ()
    inks = _inks([*fixed, *hued])
    return {name: NEUTRAL.get(name) or inks[name] for name in names}


def _names(rows: Sequence[Row], prefix: str) -> list[str]:
    """The columns with a prefix, without it, in the order in which they appear."""
    epochs = (epoch for row in rows for run in row.group.runs for epoch in run.epochs)
    found = dict.fromkeys(column for epoch in epochs for column in epoch)
    return [name.removeprefix(prefix) for name in found if name.startswith(prefix)]


def _accuracy(rows: Sequence[Row], inks: dict[str, str]) -> Figure:
    caption = (
        "Left: every dot is one seed (in the same vertical order in every row), the line its "
        "mean, the bar one sample standard deviation to either side."
    )
    if any(row.is_baseline for row in rows):
        caption += (
            f" Right: mean of the differences paired by seed, with its {LEVEL_TEXT} Student "
            "interval; a filled dot where it excludes zero, a hollow one where it does not."
        )
    panel = accuracy_panel(rows, inks)
    return Figure("accuracy", f"{_capital(rows[0].headline.name)} at the last epoch", caption, (panel,), wide=True)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _learning_curves(rows: Sequence[Row], inks: dict[str, str]) -> Figure | None:
    metric = rows[0].headline
    found = (series(row.group, TEST + metric.key, row.label, inks[row.label]) for row in rows)
    lines = [line for line in found if line is not None]
    if not lines:
        return None
    x = shared_axes([lines], "", log=False).x
    axes = Axes(x, late_range(lines), False, f"test {metric.name}{unit(metric)}")
    caption = "Mean over seeds after every epoch, with a band of one sample std."
    least = min(v for line in lines for v in line.values)
    if least < axes.y[0]:
        start, first = (number(v, 1) + unit(metric).replace(", ", "\N{NO-BREAK SPACE}") for v in (axes.y[0], least))
        caption += f" The axis starts at {start}; the first epochs, from {first}, lie below it."
    panel = curves_panel("", lines, axes, wide=True)
    return Figure("curves", "Learning curves", caption, (panel,), wide=True)


def _per_method(
    rows: Sequence[Row],
    inks: dict[str, str],
    prefix: str,
    title: str,
    caption: str,
    label: str,
    log: bool,
) -> Figure | None:
    """One panel per method that has columns with the prefix; the axes are shared."""
    per_row: list[tuple[Row, list[Series]]] = []
    for row in rows:
        found = (series(row.group, prefix + name, _plain(name), ink) for name, ink in inks.items())
        if lines := [line for line in found if line is not None]:
            per_row.append((row, lines))
    if not per_row:
        return None
    axes = shared_axes([lines for _, lines in per_row], label, log, zero=prefix == COSINE)
    panels = tuple(curves_panel(row.label, lines, axes) for row, lines in per_row)
    legend = {line.label: line.ink for _, lines in per_row for line in lines}
    key = prefix.rstrip("/")
    return Figure(key, title, caption + _remarks(per_row, axes), panels, tuple(legend.items()))


def _remarks(per_row: Sequence[tuple[Row, Sequence[Series]]], axes: Axes) -> str:
    """What a caption adds: the kind of axis, and that monitors watched some seeds only."""
    scale = " Logarithmic axis." if axes.log else ""
    counts = sorted({line.n for _, lines in per_row for line in lines})
    if all(line.n == row.n for row, lines in per_row for line in lines):
        return scale
    several = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"{scale} Recorded for {several} of the {max(row.n for row, _ in per_row)} seeds."


def _plain(name: str) -> str:
    return name.replace("|", " · ")


def _reliability(rows: Sequence[Row], inks: dict[str, str]) -> Figure:
    found = (reliability_panel(row, inks[row.label]) for row in rows)
    caption = (
        "Accuracy against mean confidence per bin of the student at the last epoch, test images "
        "of all seeds pooled; the larger the dot, the more images (bars: their share). Below the "
        "diagonal a student is overconfident. ECE: expected calibration error, mean ± sample "
        "std over seeds."
    )
    panels = tuple(panel for panel in found if panel is not None)
    return Figure("calibration", "Calibration", caption, panels)


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
