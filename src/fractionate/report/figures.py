"""The figures of a page: which columns are drawn, how they are named and coloured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from fractionate.report.chart import unit
from fractionate.report.dots import accuracy_panel
from fractionate.report.observed import (
    each_window_once,
    last_seen,
    layer_figure,
    order_seen,
    range_seen,
    rank_figure,
    teacher_figure,
)
from fractionate.report.panels import (
    Axes,
    Figure,
    Series,
    curves_panel,
    late_range,
    reliability_panel,
    series,
    shared_axes,
)
from fractionate.report.table import Row
from fractionate.report.words import LEVEL_TEXT, number

HUES = 6
NEUTRAL = {"task": "k0", "loss": "k0 dash1"}
ORDER = ("kd", "target", "nontarget", "between", "top", "other")
"""Components that have the same hue in every report; others take the hues that are left."""
TEST, COMPONENT, GSNR, COSINE, COMBINE = "test_", "component/", "gsnr/", "cosine/", "combine/"
NORM, SHARE = "norm/", "share/"
FROM_ZERO = (COSINE, COMBINE, SHARE)
SEEN: dict[str, Callable[[Sequence[tuple[Row, Sequence[Series]]]], str]] = {
    GSNR: partial(order_seen, unit="window"),
    NORM: order_seen,
    SHARE: last_seen,
    COSINE: range_seen,
}
"""What says in a sentence what a figure shows."""


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Every figure that the rows of one setting have the columns for.

    Example:
        >>> figures([])
        []
    """
    if not rows:
        return []
    inks = row_inks(rows)
    drawn = [_accuracy(rows, inks), _learning_curves(rows, inks)]
    names = _named_inks([name for prefix in (COMPONENT, GSNR, COMBINE, NORM, SHARE) for name in _names(rows, prefix)])
    drawn.append(_per_method(rows, names, COMPONENT, *COMPONENT_WORDS, log=True))
    drawn.append(_per_method(rows, names, GSNR, *GSNR_WORDS, log=True))
    drawn.append(layer_figure(rows, _inks([f"layer {i}" for i in range(2 * HUES)]).values()))
    drawn.append(_per_method(rows, _inks(_names(rows, COSINE)), COSINE, *COSINE_WORDS, log=False))
    drawn.append(_per_method(rows, names, NORM, *NORM_WORDS, log=True))
    drawn.append(_per_method(rows, names, SHARE, *SHARE_WORDS, log=False))
    drawn.append(rank_figure(rows, names))
    drawn.append(_per_method(rows, names, COMBINE, *COMBINE_WORDS, log=False))
    drawn.append(teacher_figure(rows, tuple(_inks(("T 1", "T", "classes")).values())))
    drawn.append(_reliability(rows, inks))
    return [figure for figure in drawn if figure is not None and figure.panels]


def row_inks(rows: Sequence[Row]) -> dict[str, str]:
    """Label -> classes of its colour; the baseline is neutral."""
    inks = _inks([row.label for row in rows if not row.is_baseline])
    return inks | {row.label: "k0" for row in rows if row.is_baseline}


COMPONENT_WORDS = (
    "Loss components",
    "Mean over the steps of each epoch, without weight and warm-up; mean over seeds and a band of one "
    "sample std. One axis for all methods.",
    "loss, unweighted",
)
GSNR_WORDS = (
    "Gradient signal-to-noise ratio per stream",
    "|mean g|² / tr Var(g) over a window of steps, drawn at the epoch in which the window ended (of several the last), "
    "for the gradient of each stream (where a method has one stream, of each component): the higher, the more the "
    "minibatches agree on a direction. An observation; it sets nothing in training: it moves when the momenta move, so "
    "shares that followed it would chase themselves.",
    "GSNR",
)
COSINE_WORDS = (
    "Cosine between streams",
    "Between the gradients of two streams at the last step of each epoch: +1 the same direction, 0 "
    "orthogonal, −1 opposed.",
    "cosine",
)
NORM_WORDS = (
    "Size of the streams’ gradients",
    "Euclidean norm of each stream’s gradient over all weights at the last step of each epoch, loss weights included, "
    "momentum not.",
    "norm",
)
SHARE_WORDS = (
    "Share of the update",
    "Norm of each stream’s momentum buffer times its gain, of the sum over the streams, at the last step of each "
    "epoch: what each has to say in the move that is made.",
    "share",
)
COMBINE_WORDS = (
    "Weights of the streams' gradients",
    "What the rule that combines the streams multiplied each gradient by, at the last step of each epoch; 0 leaves a "
    "stream out. Rules on logarithms (min_norm_log) divide by the stream's loss, so weights need not add up to 1.",
    "weight",
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
        "Every dot is one seed (in the same vertical order in every row), the line its "
        "mean, the bar one sample standard deviation to either side."
    )
    if any(row.is_baseline for row in rows):
        caption += (
            f" Beside or below it: mean of the differences paired by seed, with its {LEVEL_TEXT} Student "
            "interval; a filled dot where it excludes zero, a hollow one where it does not."
        )
    title = f"{_capital(rows[0].headline.name)} at the last epoch"
    panel, narrow = (accuracy_panel(rows, inks, narrow) for narrow in (False, True))
    return Figure("accuracy", title, caption, (panel,), wide=True, narrow=(narrow,))


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
    panel, narrow = (curves_panel("", lines, axes, wide) for wide in (True, False))
    legend = tuple((line.label, line.ink) for line in lines)
    return Figure("curves", "Learning curves", caption, (panel,), legend, wide=True, narrow=(narrow,))


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
            per_row.append((row, each_window_once(lines) if prefix == GSNR else lines))
    if not per_row:
        return None
    axes = shared_axes([lines for _, lines in per_row], label, log, zero=prefix in FROM_ZERO)
    panels = tuple(curves_panel(row.label, lines, axes) for row, lines in per_row)
    legend = {line.label: line.ink for _, lines in per_row for line in lines}
    key = prefix.rstrip("/")
    seen = SEEN[prefix](per_row) if prefix in SEEN else ""
    return Figure(key, title, caption + _remarks(per_row, axes) + seen, panels, tuple(legend.items()))


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
