"""The benchmark of the exchange runs at toy size, and its clocks mean what they say."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from benchmarks import scaling
from benchmarks.communication import payload

EXCHANGED = {scaling.APART, scaling.WAITING, scaling.GRADIENTS, scaling.UPDATE, scaling.ONLY}


@pytest.mark.slow
def test_the_benchmark_of_the_exchange_leaves_a_row_per_contender_by_both_clocks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.csv"
    scaling.main(["--toy", "--csv", str(path)])
    printed = capsys.readouterr().out
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    cases: dict[str, set[str]] = {}
    for row in rows:
        cases.setdefault(row["case"], set()).add(row["contender"])
        assert float(row["ratio_low"]) <= float(row["ratio"]) <= float(row["ratio_high"])
        assert float(row["milliseconds"]) > 0
        assert (row["threads"], row["rounds"]) == ("1", "2")
    expected = {}
    for method in scaling.METHODS:
        case = f"{method}, resnet8, 2 processes, 4 images each, cpu"
        expected |= {case: EXCHANGED, f"{case}, processor time": EXCHANGED}
        for clock in (scaling.WALL, scaling.PROCESSOR):
            expected[f"{case}{clock}: scaling"] = {scaling.WHOLE, scaling.GRADIENTS, scaling.UPDATE}
    assert cases == expected
    row_of_gradients = payload(scaling.parameters("resnet8", 10), 1) / 1e6
    assert f"{2 * row_of_gradients:.2f} MB ({scaling.GRADIENTS}), {row_of_gradients:.2f} MB" in printed


def test_a_step_ends_with_the_last_process_and_all_their_work_is_counted() -> None:
    everyones = [{"a": [1.0, 5.0], "b": [1.0, 1.0]}, {"a": [2.0, 4.0], "b": [3.0, 1.0]}]
    assert scaling.together(everyones, scaling.WALL) == {"a": [2.0, 5.0], "b": [3.0, 1.0]}
    assert scaling.together(everyones, scaling.PROCESSOR) == {"a": [3.0, 9.0], "b": [4.0, 2.0]}
