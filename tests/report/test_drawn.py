"""A drawing is read as a reader reads it, by its axes: every mark stands at the number that it is said to show."""

import math
import re
from dataclasses import replace

import pytest

from fractionate.report import panels, read_runs, table
from fractionate.report.chart import Frame, Scale, extent, shortened, tick_text, x_axis, y_axis
from fractionate.report.dots import accuracy_panel
from fractionate.report.figures import row_inks
from fractionate.report.panels import Axes, Series, curves_panel, reliability_panel, series, shared_axes
from fractionate.report.table import teachers
from fractionate.report.tuning import Arm, Try, Tuning, _figure, _ranked, pareto
from tests.report.synthetic import write_run, write_study

MINUS = "\N{MINUS SIGN}"
NARROW = [pytest.param(False, id="wide"), pytest.param(True, id="narrow")]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    methods = ("labels", "kd", "dkd", "dkd+deepkd")
    return table(read_runs(write_study(tmp_path_factory.mktemp("runs"), methods, seeds=3))).rows


def values(marks, tag):
    return [mark for mark in marks if mark.tag == tag]


def said(mark):
    return float(mark.text.replace(MINUS, "-"))


def reader(marks, way="x", low=-math.inf, high=math.inf):
    """What turns a pixel into a number: the straight line through the first and the last label of an axis."""
    ticks = [m for m in values(marks, "text") if m.attributes["class"] == "tick" and re.fullmatch(r"[\d.−e]+", m.text)]
    ticks = [m for m in ticks if low <= m.attributes["x"] <= high]
    if way == "x":
        bottom = max(m.attributes["y"] for m in ticks)
        ticks = [m for m in ticks if m.attributes["y"] == bottom]
        places = [(m.attributes["x"], said(m)) for m in ticks]
    else:
        places = [(m.attributes["y"] - 4, said(m)) for m in ticks]
    (p, a), (q, b) = min(places), max(places)
    return lambda pixel: a + (pixel - p) * (b - a) / (q - p)


def accuracy(rows, narrow):
    """A panel's marks above and below (or left and right of) the border of its two parts, and readers of both."""
    panel = accuracy_panel(rows, row_inks(rows), narrow)
    if narrow:
        border = next(m.attributes["y"] for m in values(panel.marks, "text") if m.attributes["class"] == "label") + 6
        parts = [[m for m in panel.marks if (low(m) <= border) is first] for first in (True, False)]
    else:
        parts = [[m for m in panel.marks if (left(m) < 0.54 * 1040) is first] for first in (True, False)]
    return panel, parts, [reader(part) for part in parts]


def left(mark):
    return next(mark.attributes[key] for key in ("cx", "x1", "x") if key in mark.attributes)


def low(mark):
    return next(mark.attributes[key] for key in ("cy", "y1", "y") if key in mark.attributes)


@pytest.mark.parametrize("narrow", NARROW)
def test_every_seed_is_a_dot_at_its_accuracy_in_the_band_of_its_row(rows, narrow):
    _, parts, (read, _) = accuracy(rows, narrow)
    height = 54 if narrow else 46
    dots = [m for m in values(parts[0], "circle") if "ring" in m.attributes["class"]]
    assert len(dots) == sum(row.n for row in rows)
    for i, row in enumerate(rows):
        mine = [m for m in dots if m.attributes["class"].split()[2:] == row_inks(rows)[row.label].split()]
        assert [read(m.attributes["cx"]) for m in mine] == pytest.approx(row.last.values, abs=0.02)
        middle = 46 + height * (i + 1) - (18 if narrow else height / 2)
        assert [m.attributes["cy"] - middle for m in mine] == pytest.approx([-6, 0, 6])


@pytest.mark.parametrize("narrow", NARROW)
def test_the_line_is_the_mean_and_the_bar_a_standard_deviation_to_either_side(rows, narrow):
    _, parts, (read, _) = accuracy(rows, narrow)
    lines = [m for m in values(parts[0], "line") if m.attributes["class"].startswith("mean")]
    bars = values(parts[0], "rect")
    for row, line, bar in zip(rows, lines, bars, strict=True):
        assert line.attributes["x1"] == line.attributes["x2"]
        assert line.attributes["y2"] - line.attributes["y1"] == pytest.approx(bar.attributes["height"])
        assert bar.attributes["height"] == 26
        assert line.attributes["y1"] == bar.attributes["y"]
        ends = [bar.attributes["x"], bar.attributes["x"] + bar.attributes["width"]]
        found = [read(x) for x in (line.attributes["x1"], *ends)]
        mean, std = row.last.mean, row.last.std
        assert found == pytest.approx([mean, mean - std, mean + std], abs=0.02)


@pytest.mark.parametrize("narrow", NARROW)
def test_an_interval_is_drawn_from_its_low_to_its_high_end_and_filled_where_it_excludes_zero(rows, narrow):
    _, parts, (_, read) = accuracy(rows, narrow)
    dots = values(parts[1], "circle")
    bars = [m for m in values(parts[1], "line") if m.attributes["class"].startswith("bar")]
    others = [row for row in rows if not row.is_baseline]
    for i, (row, dot) in enumerate(zip(others, dots, strict=True)):
        across, first, second = bars[3 * i : 3 * i + 3]
        gap = row.difference
        ends = [across.attributes["x1"], across.attributes["x2"]]
        assert [read(x) for x in (dot.attributes["cx"], *ends)] == pytest.approx(
            [gap.mean, gap.low, gap.high], abs=0.05
        )
        assert [first.attributes["x1"], second.attributes["x2"]] == ends
        assert dot.attributes["cy"] == across.attributes["y1"] == across.attributes["y2"]
        assert first.attributes["y2"] - first.attributes["y1"] == 10
        assert ("hollow" in dot.attributes["class"]) is (gap.verdict == "within")


def test_the_baseline_s_line_stands_at_its_mean_and_zero_at_zero(rows):
    _, parts, readers = accuracy(rows, False)
    for part, read, value in zip(parts, readers, (rows[0].last.mean, 0.0), strict=True):
        (line,) = [m for m in values(part, "line") if m.attributes["class"] == "reference"]
        assert read(line.attributes["x1"]) == pytest.approx(value, abs=0.03)
        assert line.attributes["x1"] == line.attributes["x2"]


@pytest.mark.parametrize("narrow", NARROW)
def test_arguments_that_do_not_fit_beside_a_name_are_below_it_and_no_line_crosses_words(rows, narrow):
    group = replace(rows[-1].group, label="dkd+deepkd (normalize_gain: true)")
    long = [*rows[:-1], replace(rows[-1], group=group)]
    marks = accuracy_panel(long, dict.fromkeys((row.label for row in long), "ink"), narrow).marks
    words = {m.text: m.attributes["y"] for m in values(marks, "text")}
    assert 10 <= words["normalize_gain: true"] - words["dkd+deepkd"] <= 15
    rows_of = [m for m in values(marks, "text") if m.attributes["class"].split()[0] in ("name", "value")]
    uprights = [m.attributes for m in values(marks, "line") if m.attributes["class"] in ("reference", "teacher")]
    for y in (m.attributes["y"] for m in rows_of if narrow):
        assert not [at for at in uprights if at["y1"] < y + 2 and at["y2"] > y - 9]


@pytest.mark.parametrize("narrow", NARROW)
def test_nothing_stands_outside_of_a_drawing_and_no_word_on_another(rows, narrow):
    panel = accuracy_panel(rows, row_inks(rows), narrow)
    assert panel.width == (400 if narrow else 1040)
    boxes = []
    for mark in panel.marks:
        at = mark.attributes
        xs = [at[key] for key in ("x", "x1", "x2", "cx") if key in at]
        ys = [at[key] for key in ("y", "y1", "y2", "cy") if key in at]
        assert all(0 <= x <= panel.width for x in xs)
        assert all(0 <= y <= panel.height for y in ys)
        if mark.tag == "text":
            wide = 7.0 * len(mark.text)
            shift = {"start": 0, "middle": wide / 2, "end": wide}[at["text-anchor"]]
            boxes.append((at["x"] - shift, at["x"] - shift + wide, at["y"], mark.text))
    for i, (a, b, y, words) in enumerate(boxes):
        for c, d, other, more in boxes[:i]:
            assert abs(y - other) >= 10 or b <= c or d <= a, (words, more)


@pytest.mark.parametrize(
    ("score", "words", "where"),
    [(98.7, "teacher 98.70", "on"), (250.0, "teacher 250.00, off this axis", "off"), (-90.0, "off this axis", "off")],
)
def test_a_teacher_near_the_students_is_on_the_axis_and_any_other_beside_it(tmp_path, score, words, where):
    folders = [
        write_run(tmp_path / f"{m}{s}", m, s, 2, last_top1=v + s, teacher_top1=score)
        for m, v in (("labels", 90.0), ("kd", 97.0))
        for s in (0, 1)
    ]
    found = table(read_runs(folders)).rows
    _, parts, (read, _) = accuracy(found, False)
    lines = [m for m in values(parts[0], "line") if m.attributes["class"] == "teacher"]
    assert any(words in m.text for m in values(parts[0], "text"))
    assert len(lines) == (where == "on")
    assert all(read(m.attributes["x1"]) == pytest.approx(score, abs=0.05) for m in lines)
    assert [one.score.mean for one in teachers(found)] == [score]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (([0.0, 100.0],), (-6.0, 106.0)),
        (([5.0, 5.0],), (4.5, 5.5)),
        (([math.inf, 2.0, 3.0], 0.5), (1.5, 3.5)),
        (([1.0, 100.0], 0.5, True), (0.1, 1000.0)),
        (([1.0, 1.1], 0.06, True), (1 / 1.1, 1.21)),
        (([10.0], 0.06, True), (math.sqrt(10), 10 * math.sqrt(10))),
        (([0.0, -1.0], 0.06, True), (1.0, 10.0)),
    ],
)
def test_an_axis_reaches_beyond_its_values_by_its_share(given, expected):
    assert extent(*given) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0"), (1e-3, "0.001"), (9e-4, "9e−4"), (99_999.0, "99999"), (1e5, "1e5"), (-0.25, "−0.25")],
)
def test_a_label_of_an_axis_is_digits_where_these_are_few(value, words):
    assert tick_text(value) == words


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (Scale(0, 1, 0, 1), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Scale(90.1, 93.9, 0, 1), [91.0, 92.0, 93.0]),
        (Scale(0, 12.5, 0, 1), [0.0, 2.5, 5.0, 7.5, 10.0, 12.5]),
        (Scale(-1, 1, 0, 1), [-1.0, -0.5, 0.0, 0.5, 1.0]),
        (Scale(2, 30, 0, 1, log=True), [3.0, 10.0, 30.0]),
        (Scale(1, 9, 0, 1, log=True), [1.0, 2.0, 5.0]),
        (Scale(2, 4, 0, 1, log=True), [2.0, 2.5, 3.0, 3.5, 4.0]),
        (Scale(1e-9, 1e9, 0, 1, log=True), [1e-9, 1e-5, 1e-1, 1e3, 1e7]),
    ],
)
def test_labels_stand_at_round_numbers(scale, ticks):
    assert scale.ticks() == pytest.approx(ticks)


def test_a_name_is_cut_to_the_room_that_there_is():
    assert [shortened("dkd+deepkd", room) for room in (82, 81, 17, 0)] == ["dkd+deepkd", "dkd+deep…", "d…", "d…"]


@pytest.mark.parametrize("grid", [False, True])
def test_an_axis_has_its_lines_at_its_labels(grid):
    frame = Frame(Scale(0, 5, 46, 328), Scale(0, 10, 200, 40))
    marks = x_axis(frame, "epoch", 20, grid=grid, whole=True)
    labels = [m for m in values(marks, "text") if m.attributes["class"] == "tick"]
    assert [m.text for m in labels] == ["0", "1", "2", "3", "4", "5"]
    ticks = [m for m in values(marks, "line") if m.attributes["class"] == "grid"]
    assert [m.attributes["x1"] for m in ticks] == [m.attributes["x"] for m in labels] == [frame.x(i) for i in range(6)]
    assert {(m.attributes["y1"], m.attributes["y2"]) for m in ticks} == {(40 if grid else 200, 204)}
    (name,) = [m for m in marks if m.text == "epoch"]
    assert (name.attributes["x"], name.attributes["y"]) == (187, 234)
    (line,) = [m for m in marks if m.attributes["class"] == "axis"]
    assert [line.attributes[key] for key in ("x1", "y1", "x2", "y2")] == [46, 200, 328, 200]
    up = y_axis(frame, "loss", 5)
    lines, numbers = values(up, "line"), [m for m in values(up, "text") if m.attributes["class"] == "tick"]
    assert [m.attributes["y1"] for m in lines] == [frame.y(said(m)) for m in numbers]
    assert {(m.attributes["x1"], m.attributes["x2"]) for m in lines} == {(46, 328)}
    assert {(m.attributes["x"], m.attributes["y"] - frame.y(said(m))) for m in numbers} == {(39, 4)}


def line(label, points, low=(), high=()):
    return Series(label, "k1", 2 if low else 1, tuple(points), tuple(low), tuple(high))


@pytest.mark.parametrize(("low", "high", "zero"), [(-1.0, 1.0, True), (0.0, 1.0, False), (-1.0, 0.0, False)])
def test_a_curve_passes_its_points_and_zero_is_marked_where_it_lies_inside(low, high, zero):
    points = [(1, low), (2, (low + high) / 2), (3, high)]
    panel = curves_panel("t", [line("kd", points)], Axes((1, 3), (low, high), False, "y"))
    (curve,) = [m for m in panel.plot if m.attributes["class"].startswith("line")]
    pixels = [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", curve.attributes["d"])]
    assert pixels == [(panel.frame.x(e), panel.frame.y(v)) for e, v in points]
    assert [panel.frame.left, panel.frame.right, panel.frame.top, panel.frame.bottom] == [46, 328, 46, 192]
    assert any(m.attributes["class"] == "zero" for m in panel.marks) is zero
    assert f"kd from {low:.3f} in epoch 1 to {high:.3f} in epoch 3." in panel.summary.replace(MINUS, "-")


def test_a_band_ends_at_the_floor_of_a_logarithmic_axis_and_one_epoch_is_a_dot():
    axes = Axes((1, 2), (0.1, 10.0), True, "y")
    both = line("kd", [(1, 1.0), (2, 2.0)], [(1, -5.0), (2, 0.5)], [(1, 3.0), (2, 4.0)])
    panel = curves_panel("", [both], axes)
    (area,) = [m for m in panel.plot if m.attributes["class"].startswith("band")]
    corners = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", area.attributes["d"])]
    assert corners == [panel.frame.y(v) for v in (3.0, 4.0, 0.5, 0.1)]
    panel = curves_panel("", [line("kd", [(1, 1.0)])], axes)
    (dot,) = [m for m in panel.plot if m.tag == "circle"]
    assert (dot.attributes["cx"], dot.attributes["cy"]) == (panel.frame.x(1), panel.frame.y(1.0))


def test_axes_are_shared_by_all_panels_and_hold_what_they_must():
    one, two = line("a", [(1, 1.0), (3, 2.0)]), line("b", [(2, 4.0), (5, 8.0)], [(2, 0.5)], [(2, 16.0)])
    found = shared_axes([[one], [two]], "y", log=False)
    assert (found.x, found.y) == ((1, 5), pytest.approx(extent([0.5, 16.0])))
    assert shared_axes([[one]], "y", log=False, zero=True).y == pytest.approx(extent([0.0, 2.0]))
    assert shared_axes([[one], [two]], "y", log=True).y == pytest.approx(extent([1.0, 8.0], log=True))
    assert not shared_axes([[line("a", [(1, 0.0), (2, 1.0)])]], "y", log=True).log
    assert shared_axes([[line("a", [(4, 1.0)])]], "y", log=False).x == (4, 5)
    assert shared_axes([], "y", log=False).x == (0, 1)


def test_a_long_line_is_thinned_and_keeps_its_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(panels, "POINTS", 10)
    groups = table(read_runs([write_run(tmp_path / str(s), "kd", s, epochs=43) for s in (0, 1)])).rows
    found = series(groups[0].group, "test_top1", "kd", "k1")
    epochs = [e for e, _ in found.mean]
    assert epochs == [*range(1, 43, 4), 43]
    assert found.n == 2
    spread = [(h - m, m - l) for (_, l), (_, m), (_, h) in zip(found.low, found.mean, found.high, strict=True)]
    assert all(up == pytest.approx(down) and up > 0 for up, down in spread)


def test_a_reliability_diagram_shows_every_bin_in_use_at_its_numbers(tmp_path):
    bins = {"confidence": [0.25, None, 0.75], "accuracy": [0.5, None, 0.25], "count": [1, 0, 3]}
    rows = table(
        read_runs([write_run(tmp_path / str(s), "kd", s, 2, calibration=bins, ece=0.125) for s in (0, 1)])
    ).rows
    panel = reliability_panel(rows[0], "k1")
    dots = [(m.attributes["cx"], m.attributes["cy"], m.attributes["r"]) for m in values(panel.marks, "circle")]
    at = panel.frame
    assert dots == [
        (at.x(0.25), at.y(0.5), round(2.2 + 5 * math.sqrt(0.25), 2)),
        (at.x(0.75), at.y(0.25), round(2.2 + 5 * math.sqrt(0.75), 2)),
    ]
    bars = [m for m in values(panel.marks, "line") if m.attributes["class"].startswith("bar")]
    heights = [m.attributes["y1"] - m.attributes["y2"] for m in bars]
    assert heights == pytest.approx([28 / 3, 28], abs=0.01)
    assert [m.attributes["x1"] for m in bars] == [at.x(0.25), at.x(0.75)]
    (diagonal,) = [m for m in values(panel.marks, "line") if m.attributes["class"] == "reference"]
    assert [diagonal.attributes[k] for k in ("x1", "y1", "x2", "y2")] == [at.x(0), at.y(0), at.x(1), at.y(1)]
    assert any("ECE 12.5 ± 0.0" in m.text for m in panel.marks)
    assert "confidence 0.75, accuracy 0.25, 75.0" in values(panel.marks, "circle")[1].tip
    assert "12.5 ± 0.0 percent, 2 bins in use." in panel.summary


@pytest.mark.parametrize(
    "bins",
    [
        [{"confidence": [0.5], "accuracy": [0.5], "count": [1]}, None],
        [{"confidence": [0.5], "accuracy": [0.5], "count": [0]}] * 2,
        [{"confidence": [0.5] * n, "accuracy": [0.5] * n, "count": [1] * n} for n in (1, 2)],
    ],
)
def test_seeds_without_bins_or_with_others_have_no_reliability_diagram(tmp_path, bins):
    folders = [write_run(tmp_path / str(s), "kd", s, 2, calibration=one) for s, one in enumerate(bins)]
    assert reliability_panel(table(read_runs(folders)).rows[0], "k1") is None


TRIES = (
    Try("kd", True, 90.0, 9, 10.0, True),
    Try("best", False, 92.0, 9, 100.0, True),
    Try("on the floor", False, 88.0, 3, 5.0, False),
    Try("below it", False, 87.9, 3, 5.0, False),
    Try("failed", False, None, 0, 0.0, False, fault="it diverged"),
)


def test_a_search_is_drawn_at_seconds_and_scores_down_to_its_floor():
    found = Tuning("t", "top1", "kd", TRIES, (Arm("best", (92.0, 93.0), 1.0),), "kd", (), "", "")
    figure = _figure(found, pareto(TRIES))
    assert "1 students that were left behind lie below this axis." in figure.caption
    (wide,), (narrow,) = figure.panels, figure.narrow
    assert [(p.width, p.height) for p in (wide, narrow)] == [(1040.0, 420.0), (400.0, 360.0)]
    dots = {m.tip.partition(":")[0]: m for m in values(wide.plot, "circle")}
    assert list(dots) == ["on the floor", "kd", "best"]  # the whole ones on top
    for one in TRIES[:3]:
        at = dots[one.label].attributes
        assert (at["cx"], at["cy"]) == (wide.frame.x(one.seconds), wide.frame.y(one.score))
    assert [dots[name].attributes["class"] for name in dots] == ["dot hollow k0", "dot ring k2", "dot ring k1"]
    (front,) = values(wide.plot, "path")
    assert front.attributes["d"].count("L") == 1
    numbers = values(wide.plot, "text")
    places = [m.attributes["y"] - dots[name].attributes["cy"] for m, name in zip(numbers, ("kd", "best"), strict=True)]
    assert ([m.text for m in numbers], places) == (["1", "2"], pytest.approx([-9, 19]))
    assert "kd 90.00 % in 10.0 s; best 92.00 % in 100.0 s." in wide.summary


def test_tries_are_ranked_by_how_far_they_came_then_by_score():
    assert [t.label for t in _ranked(TRIES)] == ["best", "kd", "on the floor", "below it", "failed"]
