"""The benchmark of the batches runs at toy size and leaves rows that can be read again."""

import csv
from pathlib import Path

import pytest

# Benchmarks are run from the root of a checkout and not installed.
from benchmarks import data


@pytest.mark.slow
def test_both_pipelines_run_in_both_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data.csv"
    data.main(["--toy", "--csv", str(path)])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["contender"] for row in rows] == [data.OURS, data.THEIRS] * len(data.CASES)
    printed = capsys.readouterr().out
    for row in rows:
        assert float(row["milliseconds"]) > 0
        assert f"{float(row['ratio']):.2f}" in printed
    assert printed.count(f"(aim: {data.TARGET:g})") == len(data.CASES)
