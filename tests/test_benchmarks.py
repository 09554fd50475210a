"""The benchmarks run at toy size, compare equals with equals, and leave rows that can be read again."""

from __future__ import annotations

import csv
import time
from functools import partial
from pathlib import Path

import pytest
import torch

# Benchmarks are run from the root of a checkout and not installed.
from benchmarks import frozen, losses, measure, optimizer, passes, record, step

BENCHMARKS = {"step": step, "losses": losses, "optimizer": optimizer, "frozen": frozen, "passes": passes}
BASE = {"step": {step.ONE}, "losses": {losses.THEIRS, losses.FLOOR}, "optimizer": {optimizer.LOOPS, optimizer.ADAM}}
BASE |= {"frozen": {frozen.PLAIN}, "passes": {passes.AFTER}}
CONTENDERS = {"step": 5, "losses": 6 * len(losses.METHODS), "optimizer": 12, "frozen": 3, "passes": 3}
OPTIONS = {"losses": ["--no-memory"]}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_appends_a_row_per_contender_and_prints_the_same(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results" / "out.csv"
    for runs in (1, 2):
        BENCHMARKS[name].main(["--toy", "--csv", str(path), *OPTIONS.get(name, [])])
        assert len(read(path)) == runs * CONTENDERS[name]
    printed = capsys.readouterr().out
    assert {row["against"] for row in read(path)} == BASE[name]
    for row in read(path):
        assert row["torch"] == torch.__version__
        assert int(row["threads"]) == torch.get_num_threads()
        assert float(row["ratio_low"]) <= float(row["ratio"]) <= float(row["ratio_high"])
        assert (float(row["ratio"]) == 1) or row["contender"] != row["against"]
        assert row["contender"] in printed
        assert f"{float(row['ratio']):.2f}" in printed


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak memory from Linux's /proc")
def test_the_losses_hold_one_gradient_where_published_operations_hold_several_tensors() -> None:
    ours, theirs = losses.memory("gdkd", losses.TOY_LARGEST, threads=1)
    assert ours.ratio < 1.5  # the gradient is 1
    assert theirs.ratio > 4


def test_the_goals_are_those_of_the_measured_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    for goals in losses.GOALS.values():
        assert list(goals) == list(losses.SIZES)
    losses.table([losses.Line("a", "kd", 0.2, 0.3), losses.Line("b", "kd", 0.4, 0.3), losses.Line("c", "kd", 1, None)])
    met, missed, without = capsys.readouterr().out.splitlines()[-3:]
    assert met.endswith("met")
    assert missed.endswith("missed")
    assert "goal" not in without


def test_the_processors_time_leaves_out_what_others_use() -> None:
    works = {"sleeps": partial(time.sleep, 0.05)}
    wall, cpu = (measure.interleave(works, 2, torch.device("cpu"), clock) for clock in losses.CLOCKS.values())
    assert min(wall["sleeps"]) >= 0.05
    assert max(cpu["sleeps"]) < 0.04


def test_ratios_are_medians_of_quotients_within_a_round() -> None:
    """A round that is slow for everybody moves no ratio."""
    seconds = {"one": [1.0, 10.0, 2.0], "two": [2.0, 20.0, 6.0]}
    assert measure.ratio(seconds, "two", "one") == measure.Spread(2.0, 2.0, 2.5)


def test_every_contender_runs_once_per_round_and_once_before() -> None:
    order: list[str] = []
    works = {name: (lambda name=name: order.append(name)) for name in "abc"}
    seconds = measure.interleave(works, 3, torch.device("cpu"))
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert [len(times) for times in seconds.values()] == [3, 3, 3]


def test_contenders_that_do_different_work_are_not_timed() -> None:
    measure.agree([torch.ones(3)], [torch.ones(3).double() * (1 + 1e-10)], "a and b")
    with pytest.raises(RuntimeError, match="a and b: the contenders differ"):
        measure.agree([torch.ones(3)], [torch.ones(3) * 1.1], "a and b")
    with pytest.raises(RuntimeError, match="differ by nan"):
        measure.agree([torch.full((3,), torch.nan)], [torch.ones(3)], "a and b")


def test_saved_bytes_counts_what_autograd_keeps_once() -> None:
    x = torch.ones(1000, dtype=torch.float64, requires_grad=True)
    assert measure.saved_bytes(lambda: (x * 2).sum()) == 0
    assert measure.saved_bytes(lambda: x.exp().sum()) == 8000
    assert measure.saved_bytes(lambda: (x * x).sum()) == 8000


def test_a_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text("date,seconds\n")
    row = record.Row("case", "a", 1.0, "a", 1.0, 1.0, 1.0, 1)
    with pytest.raises(ValueError, match="give another --csv"):
        record.append([row], path, torch.device("cpu"))


def test_no_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        measure.interleave({"a": lambda: None}, 0, torch.device("cpu"))


def test_photos_are_measured_from_files_and_kept_and_while_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torchvision")
    from benchmarks import photos

    photos.main(["--toy", "--csv", str(tmp_path / "out.csv")])
    found, printed = read(tmp_path / "out.csv"), capsys.readouterr().out
    assert [row["contender"] for row in found] == 2 * [photos.THEIRS, photos.PLAIN, photos.KEPT] + [
        photos.PLAIN,
        photos.KEPT,
    ]
    assert all(0 < float(row["ratio"]) < 1 for row in found[-2:])  # shares of the training time
    assert printed.count("images/s and core") == 6
    assert "waits for" in printed


def test_photos_cut_out_otherwise_are_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    from benchmarks import photos

    photos.generate(tmp_path, photos.TOY[0])
    source = photos.sources(tmp_path, photos.TOY[0], 0, torch.device("cpu"))[photos.KEPT]
    photos.check(photos.TOY[0], source)
    monkeypatch.setattr(photos, "SEED", 1)
    with pytest.raises(RuntimeError, match="pixels differ"):
        photos.check(photos.TOY[0], source)
