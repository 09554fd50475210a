"""Schedules over the epochs of a run: where they begin, where they end, and what lies between."""

from __future__ import annotations

import itertools

import pytest

from fractionate import Progress, schedules
from fractionate.schedules import Schedule, cosine, phases, ramp, round_count, times, warmup


def along(schedule: Schedule, epochs: int) -> list[float]:
    return [schedule(Progress(epoch=e, epochs=epochs)) for e in range(1, epochs + 1)]


@pytest.mark.parametrize("make", [ramp, cosine])
@pytest.mark.parametrize("length", [None, 5])
def test_a_curve_leads_from_its_start_through_the_mean_to_its_end(make: type[Schedule], length: int | None) -> None:
    curve = along(make(0.2, 0.8, length), 9)
    last = (length or 9) - 1
    assert curve[0] == pytest.approx(0.2, abs=1e-15)
    assert curve[last // 2] == pytest.approx(0.5, abs=1e-15)
    assert curve[last:] == pytest.approx([0.8] * (9 - last), abs=1e-15)
    assert all(a <= b for a, b in itertools.pairwise(curve))
    assert [x + y for x, y in zip(curve[: last + 1], curve[last::-1], strict=True)] == pytest.approx([1.0] * (last + 1))


@pytest.mark.parametrize("make", [ramp, cosine])
def test_two_epochs_are_the_start_and_the_end_and_one_is_the_end(make: type[Schedule]) -> None:
    assert along(make(0.2, 0.8), 2) == pytest.approx([0.2, 0.8], abs=1e-15)
    assert along(make(0.2, 0.8), 1) == pytest.approx([0.8], abs=1e-15)


def test_a_ramp_is_even_and_a_cosine_is_flat_at_both_ends() -> None:
    steps = [[b - a for a, b in itertools.pairwise(c)] for c in (along(ramp(0, 1), 9), along(cosine(0, 1), 9))]
    assert steps[0] == pytest.approx([1 / 8] * 8)
    assert steps[1][0] == pytest.approx(steps[1][-1])
    assert steps[1][0] < min(steps[1][1:-1])


def test_a_ramp_waits_counts_steps_and_ends_with_the_run() -> None:
    assert along(ramp(0, 1, after=2), 5) == [0, 0, 0, 0.5, 1]
    assert along(ramp(0, 1, epochs=1, after=2), 4) == [0, 0, 1, 1]
    steps = ramp(2.0, 4.0, steps=5, after=10)
    assert [steps(Progress(step=i)) for i in (0, 10, 12, 14, 99)] == [2.0, 2.0, 3.0, 4.0, 4.0]
    assert steps(Progress.end()) == 4.0
    for wrong in ({"epochs": 0}, {"steps": 0}, {"after": -1}, {"epochs": 2, "steps": 3}):
        with pytest.raises(ValueError, match="ramp: "):
            ramp(0, 1, **wrong)


@pytest.mark.parametrize("make", [ramp, cosine])
def test_a_curve_of_one_epoch_stands_at_its_end(make: type[Schedule]) -> None:
    assert along(make(0.2, 0.8), 1) == [0.8]
    assert along(make(0.2, 0.8, 1), 3) == pytest.approx([0.8] * 3)


@pytest.mark.parametrize(("epochs", "first"), [(240, 20), (120, 20), (20, 20), (19, 2), (12, 1), (6, 1), (18, 2)])
def test_a_warm_up_keeps_its_share_of_a_published_run_where_a_run_is_shorter(epochs: int, first: int) -> None:
    curve = along(warmup(8.0, epochs=20), epochs)
    assert curve[:first] == pytest.approx([8.0 * e / first for e in range(1, first + 1)])
    assert set(curve[first:]) <= {8.0}


@pytest.mark.parametrize("epochs", [0, 0.5, 1])
def test_a_warm_up_of_at_most_one_epoch_is_none(epochs: float) -> None:
    assert along(warmup(3.0, epochs), 4) == [3.0] * 4


def test_a_factor_multiplies_a_schedule_everywhere() -> None:
    assert along(times(ramp(0, 1), 4.0), 5) == [0, 1, 2, 3, 4]


def test_a_mask_grows_holds_and_grows_to_all_without_a_jump() -> None:
    curve = along(phases(plateau=0.5, start=0.1, grow_until=0.25, hold_until=0.75), 1001)
    assert curve[0] == pytest.approx(0.1)
    assert curve[250:750] == pytest.approx([0.5] * 500)
    assert curve[-1] == pytest.approx(1.0)
    steps = [b - a for a, b in itertools.pairwise(curve)]
    assert steps[:249] == pytest.approx([0.4 / 250] * 249, rel=1e-2)
    assert steps[751:] == pytest.approx([0.5 / 250] * 249, rel=1e-2)
    assert max(steps) < 0.003


@pytest.mark.parametrize(("count", "kept"), [(0, 2), (2.49, 2), (2.5, 3), (9.5, 10), (10.4, 10), (99, 10)])
def test_a_count_is_rounded_half_up_and_lies_between_two_and_all(count: float, kept: int) -> None:
    assert round_count(count, 10) == kept


@pytest.mark.parametrize(
    "wrong",
    [
        {"plateau": 0.04},
        {"plateau": 1.1},
        {"plateau": 0.5, "start": 0.0},
        {"plateau": 0.5, "grow_until": 0.0},
        {"plateau": 0.5, "grow_until": 0.8},
        {"plateau": 0.5, "hold_until": 1.0},
        {"plateau": 0.5, "granularity": "hour"},
    ],
)
def test_phases_that_cannot_be_are_refused(wrong: dict[str, object], unchecked: None) -> None:
    with pytest.raises(ValueError, match="phases: "):
        phases(**wrong)


def test_phases_may_touch_and_a_plateau_may_be_everything() -> None:
    assert along(phases(plateau=1.0, start=1.0, grow_until=0.5, hold_until=0.5), 3) == [1.0] * 3


def test_a_number_is_a_constant_schedule_and_a_schedule_stays() -> None:
    same = ramp(0, 1)
    assert schedules.as_schedule(same) is same
    assert along(schedules.as_schedule(2), 2) == [2.0, 2.0]
