"""Which runs go side by side, as the command line says it and as a plan finds it; why others do not is told."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import lockstep

from fractionate.cli import _parse
from fractionate.commands.compare import Compare
from fractionate.config.run import Run
from fractionate.studies.jobs import Job
from fractionate.studies.units import AT_ONCE, said, together
from tests.train.runs import tiny


def jobs(folder: Path, methods: Sequence[str], seeds: int = 1, strong: Sequence[str] = ()) -> list[Job]:
    runs = [(m, s, tiny(m, seed=s)) for s in range(seeds) for m in methods]
    return [Job(m, two_views(run) if m in strong else run, folder / m / str(s)) for m, s, run in runs]


def two_views(run: Run) -> Run:
    return replace(run, data=replace(run.data, strong="cutout"))


def test_runs_of_one_seed_and_one_kind_of_batch_go_together_and_why_others_do_not_is_told(tmp_path: Path) -> None:
    work = jobs(tmp_path, ("kd", "mlkd", "dkd"), seeds=2, strong=["mlkd"])
    units = together(work, AT_ONCE, 1, resume=True)
    assert units == [(0, 2), (1,), (3, 5), (4,)]
    first, *why = said(work, units)
    assert "2 runs at a time" in first
    assert why == ["mlkd is apart from kd: other batches or another teacher (data.strong)"]


def test_no_more_go_together_than_asked_for_and_parts_are_even(tmp_path: Path) -> None:
    work = jobs(tmp_path, ("kd", "dkd", "gdkd", "kd+dot"))
    assert together(work, 3, 1, resume=True) == [(0, 1), (2, 3)]
    assert together(work, 1, 1, resume=True) == [(0,), (1,), (2,), (3,)]
    assert not list(said(work, [(0,), (1,), (2,), (3,)]))


def test_by_itself_it_pays_with_a_live_teacher_and_leaves_no_process_idle(tmp_path: Path) -> None:
    work = jobs(tmp_path, ("kd", "dkd", "gdkd", "kd+dot"))
    assert together(work, None, 1, resume=True) == [(0, 1, 2, 3)]
    assert together(work, None, 2, resume=True) == [(0, 1), (2, 3)]
    assert together(work, None, 4, resume=True) == [(0,), (1,), (2,), (3,)]
    tables = [replace(job, run=replace(job.run, teacher_table="lazy")) for job in work]
    assert together(tables, None, 1, resume=True) == [(0,), (1,), (2,), (3,)]


def test_finished_runs_are_no_weight_in_the_plan(tmp_path: Path) -> None:
    work = jobs(tmp_path, ("kd", "dkd", "gdkd", "kd+dot"))
    work[1].folder.mkdir(parents=True)
    (work[1].folder / "summary.json").write_text("{}")
    assert together(work, None, 1, resume=True) == [(0, 2, 3), (1,)]
    assert together(work, None, 1, resume=False) == [(0, 1, 2, 3)]


@pytest.mark.parametrize(
    ("words", "most"),
    [
        ("", None),
        ("--together", AT_ONCE),
        ("--together 3", 3),
        ("--together=3", 3),
        ("--no-together", 1),
    ],
)
def test_the_command_line_says_how_many_at_most(words: str, most: int | None) -> None:
    for line in (f"compare {words} digits --seeds 1", f"compare digits --seeds 1 {words}"):
        command = _parse(line.split())
        assert isinstance(command, Compare)
        assert (command.what, command.seeds, command.at_once()) == (("digits",), 1, most)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--together 0", "--together must be at least 1, got 0"),
        ("--together --no-together", "exclude each other"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_line(words: str, why: str) -> None:
    command = _parse(["compare", "digits", *words.split()])
    assert isinstance(command, Compare)
    with pytest.raises(ValueError, match=why):
        command.at_once()


def test_the_benchmark_makes_sure_of_the_same_bits_and_leaves_a_row_for_each_way(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    lockstep.main(["--toy", "--csv", str(path)])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["contender"] for row in rows] == [lockstep.ALONE, lockstep.TOGETHER]
