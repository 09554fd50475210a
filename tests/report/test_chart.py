import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractionate.report.chart import Frame, Scale, band, extent, path
from fractionate.report.panels import Series, end_labels, late_range, pooled
from fractionate.report.summary import Calibration

reals = st.floats(-1e6, 1e6)
positive = st.floats(1e-6, 1e6)


@given(st.lists(reals, min_size=1), st.booleans())
def test_an_extent_holds_every_value_and_has_a_width(values, log):
    low, high = extent(values, log=log)
    assert low < high
    assert all(low <= v <= high for v in values if not log or v > 0)


@given(reals, st.floats(1e-3, 1e6))
def test_ticks_lie_inside_and_rise(low, width):
    scale = Scale(low, low + width, 0, 100)
    ticks = scale.ticks()
    assert all(-1e-6 <= scale(t) <= 100 + 1e-6 for t in ticks)
    assert 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))


@given(positive, st.floats(1.05, 1e9))
def test_log_ticks_lie_inside_and_there_are_enough_to_read(low, ratio):
    scale = Scale(low, low * ratio, 0, 100, log=True)
    ticks = scale.ticks()
    assert all(-1e-6 <= scale(t) <= 100 + 1e-6 for t in ticks)
    assert 2 <= len(ticks) <= 10


def test_lines_break_at_values_that_cannot_be_drawn():
    scale = Scale(0, 4, 0, 4)
    points = [(0, 1.0), (1, 2.0), (2, math.nan), (3, 2.0), (4, 1.0)]
    assert path(points, scale, scale) == "M0.0 1.0L1.0 2.0M3.0 2.0L4.0 1.0"
    assert path([(1, -1.0)], scale, Scale(1, 10, 0, 1, log=True)) == ""
    assert band(points, points, scale, scale) == ""


def line(label, values):
    points = tuple((epoch, value) for epoch, value in enumerate(values, start=1))
    return Series(label, "k1", 1, points, (), ())


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_names_at_the_ends_of_lines_never_cover_each_other(ends):
    frame = Frame(Scale(1, 2, 0, 100), Scale(0, 100, 400, 0))
    marks = end_labels(frame, [line(str(i), [0.0, end]) for i, end in enumerate(ends)])
    places = sorted(mark.attributes["y"] for mark in marks if mark.tag == "text")
    assert len(places) == len(ends)
    assert all(b - a >= 15 - 1e-6 for a, b in itertools.pairwise(places))
    assert places[-1] <= 404 + 1e-6


def test_a_learning_curve_leaves_out_early_epochs_only_if_that_helps():
    steep = [10.0, 60.0, *[90.0 + 0.5 * e for e in range(8)]]
    low, high = late_range([line("steep", steep)])
    assert 89 < low <= min(steep[2:])
    assert high >= max(steep)
    gentle = [89.0, 89.5, *[90.0 + 0.5 * e for e in range(8)]]
    assert late_range([line("gentle", gentle)])[0] <= min(gentle)


def test_pooled_bins_count_every_image_once():
    one = Calibration((0.6, 0.9), (0.5, 1.0), (10, 30))
    two = Calibration((0.7, 0.0), (0.8, 0.0), (30, 0))
    both = pooled([one, two])
    assert both.count == (40, 30)
    assert both.accuracy == pytest.approx(((0.5 * 10 + 0.8 * 30) / 40, 1.0))
    assert both.confidence == pytest.approx(((0.6 * 10 + 0.7 * 30) / 40, 0.9))
