"""The benchmark of a whole step runs at toy size, and compares ways that move the weights alike."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch
from benchmarks import optimizer, trainer

from fractionate.models.cifar import CIFAR

ROOT = Path(__file__).parents[2]


def test_every_part_is_compared_with_its_own_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trainer.csv"
    trainer.main(["--toy", "--csv", str(path)])
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    bases = {row["contender"]: row["against"] for row in found}
    assert {bases[name] for name in (trainer.LIVE, trainer.TABLE)} == {trainer.SLOW}
    assert bases[trainer.TWO] == trainer.ONE
    assert bases[optimizer.TWO] == optimizer.LOOPS
    printed = capsys.readouterr().out
    assert f"{trainer.TWO}: " in printed
    assert "= 1." in printed  # the floor of two passes lies between 1 and 2
    assert "of the published step: the floor of a table's" in printed


def test_ways_that_move_the_weights_apart_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = CIFAR["resnet8"](10), trainer.trained(CIFAR["resnet8"](10))
    data = trainer.images(4, 10, torch.device("cpu"))
    trainer.check(student, teacher, data)
    monkeypatch.setattr(trainer, "DELTA", 0.01)  # only the published way reads it again
    with pytest.raises(RuntimeError, match="the contenders differ"):
        trainer.check(student, teacher, data)


def test_the_page_on_speed_shows_rows_that_were_measured() -> None:
    with (ROOT / "benchmarks" / "results" / "trainer.csv").open(newline="") as file:
        measured = {
            (row["case"], row["contender"], *(f"{float(row[key]):.2f}" for key in ("ratio", "ratio_low", "ratio_high")))
            for row in csv.DictReader(file)
        }
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\w+) \| ([^|]+) \| [^|]+ \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \|", page, re.MULTILINE)
    assert len(shown) >= 8
    for student, *rest in shown:
        assert any(f"-> {student}," in case and found == rest for case, *found in measured), (student, rest)


def test_the_page_on_speed_adds_up_forward_and_backward_passes_that_were_measured() -> None:
    seconds: dict[str, dict[str, float]] = {}
    with (ROOT / "benchmarks" / "results" / "trainer.csv").open(newline="") as file:
        for row in csv.DictReader(file):  # of every student and part, the last measurement counts
            student = row["case"].split(" -> ")[1].split(",")[0]
            seconds.setdefault(student, {})[row["contender"]] = float(row["milliseconds"]) / 1000
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\w+) \| ([\d.]+) \| 2 x (.+) \| (.+) \| (.+) \| (.+) \| (.+) \|$", page, re.MULTILINE)
    assert {student for student, *_ in shown} == {"resnet8x4", "resnet20"}
    for student, *cells in shown:
        s = seconds[student]
        back = s[trainer.ONE] - s[trainer.FORWARD]
        least = s[trainer.FORWARD] + 2 * back
        expected = (s[trainer.FORWARD], back, least, s[trainer.TABLE], s[trainer.SLOW], least / s[trainer.SLOW])
        assert [f"{x:.3f}" for x in expected] == cells
