"""What was observed of gradient streams: a sentence that says what is seen, and the figures by layer and by rank."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace

from fractionate.report.chart import Panel, Point
from fractionate.report.panels import Axes, Figure, Series, curves_panel, series, shared_axes
from fractionate.report.table import Row
from fractionate.report.words import Estimate, number

LAYER, RANK = "layer/", "rank/"
TOLD = 4  # methods that a sentence speaks of
LAYER_WORDS = (
    "Gradient signal-to-noise ratio per layer",
    "As above, for the gradient of each layer (a module right below the network) in one stream; one panel per stream.",
)
RANK_WORDS = (
    "Gradient at the logits by the teacher’s rank",
    "Mean absolute gradient of each stream at the student’s logit of the class that the teacher ranks so, at the last "
    "epoch, on one batch; weights included, momentum not. Ranks beyond 5 are averaged in growing groups. Both axes are "
    "logarithmic.",
)
TEACHER_WORDS = (
    "What the teacher knows of the training images",
    "The probability that the teacher gives to the label, and how many classes it considers (exp of the entropy at "
    "T 1), over a sample of the training images without augmentation. Every line is sorted by itself.",
)

Found = Sequence[tuple[Row, Sequence[Series]]]


def order_seen(found: Found, unit: str = "epoch") -> str:
    """Which line lies above which most often, per method, and how often; and where no order dominates.

    Args:
        found: methods with their lines.
        unit: what a point of a line is: an epoch or a window.

    Example:
        >>> order_seen([])
        ''
    """
    told = ((row, lines, _common(lines)) for row, lines in found[:TOLD])
    said = [
        f"{row.label}, {_most_often([line.label for line in lines], values, unit)}"
        for row, lines, values in told
        if len(lines) > 1 and values
    ]
    return f" Seen here: {'; '.join(said)}." if said else ""


def _most_often(names: Sequence[str], values: Sequence[Sequence[float]], unit: str) -> str:
    """The order of the names that most points have; more than half of them, or it is said that none dominates."""
    orders = Counter(tuple(sorted(range(len(names)), key=lambda i: -v[i])) for v in values)
    (order, held), *others = orders.most_common(2)
    named, share = " above ".join(names[i] for i in order), f"{held} of {len(values)} {unit}s"
    if len(values) == 1:
        return f"{named} in the only {unit}"
    if 2 * held > len(values):
        return f"{named} in {share}"
    if held in dict(others).values():
        return f"no order dominates: {len(orders)} orders, none in more than {share}"
    return f"no order dominates: most often {named}, in {share}"


def range_seen(found: Found) -> str:
    """The line that goes lowest, per method, and how low.

    Example:
        >>> range_seen([])
        ''
    """
    said = []
    for row, lines in found[:TOLD]:
        finite = [(v, line.label) for line in lines for _, v in line.mean if math.isfinite(v)]
        if finite:
            low, name = min(finite)
            high, _ = max(finite)
            said.append(f"{row.label}, from {number(low, 2)} ({name}) to {number(high, 2)}")
    return f" Seen here: {'; '.join(said)}." if said else ""


def last_seen(found: Found) -> str:
    """The largest line at the last epoch, per method.

    Example:
        >>> last_seen([])
        ''
    """
    said = []
    for row, lines in found[:TOLD]:
        ends = [(line.mean[-1][1], line.label) for line in lines if math.isfinite(line.mean[-1][1])]
        if ends:
            value, name = max(ends)
            said.append(f"{row.label}, {name} with {number(value, 2)} at the last epoch")
    return f" Seen here: the largest is in {'; in '.join(said)}." if said else ""


def each_window_once(lines: Sequence[Series]) -> list[Series]:
    """Lines of signal-to-noise ratios with every window at the epoch in which it ended, and nowhere else.

    Older folders repeat a window until the next one has ended. In them a window that lasts n epochs follows n - 1
    points of one that was only begun.
    """
    maps = [dict(line.mean) for line in lines]
    epochs = sorted({epoch for points in maps for epoch in points})

    def told(epoch: float) -> list[float | None]:
        return [points.get(epoch) for points in maps]

    begun = max((len(list(same)) for _, same in itertools.groupby(epochs, told)), default=1) - 1
    kept = {next(same) for _, same in itertools.groupby(epochs[begun:], told)}
    found = (
        replace(line, mean=_at(line.mean, kept), low=_at(line.low, kept), high=_at(line.high, kept)) for line in lines
    )
    return [line for line in found if line.mean]


def _at(points: Iterable[Point], epochs: Set[float]) -> tuple[Point, ...]:
    return tuple(point for point in points if point[0] in epochs)


def _common(lines: Sequence[Series]) -> list[tuple[float, ...]]:
    """The lines' values at the epochs that all have, where all are finite."""
    maps = [dict(line.mean) for line in lines]
    epochs = sorted(set.intersection(*map(set, maps))) if maps else []
    rows = [tuple(m[e] for m in maps) for e in epochs]
    return [row for row in rows if all(map(math.isfinite, row))]


def layer_figure(rows: Sequence[Row], inks: Iterable[str]) -> Figure | None:
    """One panel per method and stream, a line per layer; None without such columns."""
    palette = tuple(inks)
    panels_of: list[tuple[Row, str, list[Series]]] = []
    for row in rows:
        pairs = [name.removeprefix(LAYER).rpartition("|") for name in _columns([row]) if name.startswith(LAYER)]
        ink = {layer: palette[i % len(palette)] for i, layer in enumerate(dict.fromkeys(p[0] for p in pairs))}
        for stream in dict.fromkeys(p[2] for p in pairs):
            lines = [series(row.group, f"{LAYER}{layer}|{stream}", layer, hue) for layer, hue in ink.items()]
            if drawn := each_window_once([line for line in lines if line is not None]):
                panels_of.append((row, stream, drawn))
    if not panels_of:
        return None
    axes = shared_axes([lines for _, _, lines in panels_of], "GSNR", log=True)
    panels = [curves_panel(f"{row.label}: {stream}", lines, axes) for row, stream, lines in panels_of]
    legend = {line.label: line.ink for _, _, lines in panels_of for line in lines}
    largest = [
        (max((v, line.label) for line in lines for v in [line.mean[-1][1]]), row.label, stream)
        for row, stream, lines in panels_of
    ]
    told = "; ".join(f"{label}, {stream}: {name}" for (_, name), label, stream in largest[:TOLD])
    title, caption = LAYER_WORDS
    caption = f"{caption} Seen here: the layer with the largest ratio in the last window is, in {told}."
    return Figure("layer", title, caption, tuple(panels), tuple(legend.items()))


def rank_figure(rows: Sequence[Row], inks: Mapping[str, str]) -> Figure | None:
    """One panel per method, a line per stream over the teacher's ranks; None without such columns."""
    found = [(row, lines) for row in rows if (lines := _over_ranks(row, inks))]
    if not found:
        return None
    shared = shared_axes([lines for _, lines in found], "|gradient|", log=True)
    axes = Axes((1, max(2, shared.x[1])), shared.y, shared.log, shared.label, "teacher’s rank", x_log=True)
    panels: list[Panel] = [curves_panel(row.label, lines, axes) for row, lines in found]
    legend = {line.label: line.ink for _, lines in found for line in lines}
    told = [
        f"{row.label}, {line.label} {_times(line)}"
        for row, lines in found[:TOLD]
        for line in [max(lines, key=lambda each: each.mean[-1][1])]
        if line.mean[-1][1] > 0
    ]
    title, caption = RANK_WORDS
    seen = f" Seen here: rank 1 receives, against the last ranks, in {'; '.join(told)}." if told else ""
    return Figure("rank", title, caption + seen, tuple(panels), tuple(legend.items()))


def teacher_figure(rows: Sequence[Row], inks: Sequence[str]) -> Figure | None:
    """Confidence and multimodality of the rows' teacher over the images; None where no folder has them."""
    summaries = (summary for row in rows for summary in row.group.summaries)
    seen = next((s.sureness for s in summaries if s.sureness is not None and s.sureness.spread), None)
    if seen is None or seen.spread is None:
        return None
    found, at = seen.spread, "% of the images"
    names = {"label": "T 1", "label_soft": f"T {seen.temperature:g}"}
    sure = [_sorted(names[key], ink, found[key]) for key, ink in zip(names, inks, strict=False)]
    sure = sure[: 1 if seen.temperature == 1 else 2]
    modes, top = _sorted("classes considered", inks[2], found["modes"]), max(2.0, *found["modes"])
    panels = (
        curves_panel(f"Probability of the {seen.of}", sure, Axes((0, 100), (0, 1), False, "probability", at)),
        curves_panel("Classes considered", [modes], Axes((0, 100), (1, top), False, "classes", at)),
    )
    title, caption = TEACHER_WORDS
    said = " and ".join(f"{number(_median(line), 3)} at {line.label}" for line in sure)
    said += f" for the {seen.of}, {number(_median(modes), 1)} of {seen.classes} classes considered"
    legend = tuple((line.label, line.ink) for line in sure)
    return Figure("teacher", title, f"{caption} Seen here, the medians: {said}.", panels, legend)


def _sorted(label: str, ink: str, values: Sequence[float]) -> Series:
    """Values in equal parts of the images, from the least to the largest, as a line."""
    last = len(values) - 1
    return Series(label, ink, 1, tuple((100 * i / last, value) for i, value in enumerate(values)), (), ())


def _median(line: Series) -> float:
    return line.mean[len(line.mean) // 2][1]


def _times(line: Series) -> str:
    return f"{number(line.mean[0][1] / line.mean[-1][1], 1)} times as much"


def _over_ranks(row: Row, inks: Mapping[str, str]) -> list[Series]:
    """The last epoch's columns of a method as lines over the ranks, mean and std over the seeds that have them."""
    last = [run.epochs[-1] for run in row.group.runs if run.epochs]
    streams: dict[str, dict[int, list[float]]] = {}
    for epoch in last:
        for name, value in epoch.items():
            stream, _, rank = name.removeprefix(RANK).rpartition("|")
            if name.startswith(RANK) and rank.isdecimal() and math.isfinite(value):
                streams.setdefault(stream, {}).setdefault(int(rank), []).append(value)
    lines = []
    for stream, ranks in streams.items():
        per_rank = [(rank, Estimate(tuple(values))) for rank, values in sorted(ranks.items())]
        mean = tuple((float(rank), value.mean) for rank, value in per_rank)
        several = all(len(value.values) > 1 for _, value in per_rank)
        low, high = (
            tuple((float(rank), value.mean + sign * (value.std or 0.0)) for rank, value in per_rank) if several else ()
            for sign in (-1, 1)
        )
        lines.append(Series(stream, inks.get(stream, "k0"), len(per_rank[0][1].values), mean, low, high))
    return lines


def _columns(rows: Sequence[Row]) -> list[str]:
    epochs = (epoch for row in rows for run in row.group.runs for epoch in run.epochs)
    return list(dict.fromkeys(column for epoch in epochs for column in epoch))
