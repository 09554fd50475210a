"""A run goes on from its folder alone, wherever its name would be taken for something else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fractionate.cli import main
from fractionate.commands.options import names_and_changes
from fractionate.config.run import Network
from fractionate.runs.folder import RunFolder
from fractionate.runs.stop import Stopped
from tests.runs.test_resume import outcome, stop_after
from tests.train.runs import teacher_file, tiny


def stopped(folder: Path, teacher: str) -> None:
    with pytest.raises(Stopped):
        run_in_folder(tiny("dkd", teacher=Network("convnet_8_16", checkpoint=teacher)), folder, stop=stop_after(6))


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """A run that was stopped in its second epoch, in a folder with a name like a changed field."""
    stopped(tmp_path / "dkd_beta=2" / "seed-0", teacher_file(tmp_path))
    return tmp_path / "dkd_beta=2" / "seed-0"


def test_a_run_goes_on_from_its_folder_alone(half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_in_folder(RunFolder(half).config(), tmp_path / "whole")
    assert main(["train", "--resume", os.path.relpath(half)]) == 0
    assert outcome(half)[:2] == outcome(tmp_path / "whole")[:2]
    assert RunFolder(half).summary()["changes"] == []


def test_a_field_that_changes_on_the_way_is_recorded_or_refused(half: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(half), "--resume", "seed=1"]) == 2
    assert "seed was 0 and is now 1: it cannot change in the middle of a run" in capsys.readouterr().err
    assert main(["train", "--resume", str(half), "optimizer.lr=0.02"]) == 0
    assert RunFolder(half).summary()["changes"] == [{"epoch": 2, "step": 6, "fields": {"optimizer.lr": [0.01, 0.02]}}]


def test_a_finished_run_stays_as_it_is(half: Path) -> None:
    assert main(["train", "--resume", str(half)]) == 0
    written = {file.name: file.stat().st_mtime_ns for file in half.iterdir()}
    assert main(["train", "--resume", str(half)]) == 0
    assert {file.name: file.stat().st_mtime_ns for file in half.iterdir()} == written


def test_a_word_is_a_folder_only_if_it_is_there(half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert names_and_changes(["dkd_beta=2", "beta=2", "runs/kd_k=3"]) == (["dkd_beta=2", "runs/kd_k=3"], ["beta=2"])


def test_several_seeds_go_on_with_the_command_that_began_them(tmp_path: Path) -> None:
    words = ["train", "digits", "--method", "ce", "--seeds", "2", "epochs=2", "data.passes=1", "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    run = RunFolder(tmp_path / "whole" / "ce" / "seed-0").config()
    with pytest.raises(Stopped):
        run_in_folder(run, tmp_path / "parts" / "ce" / "seed-0", stop=stop_after(3))
    assert main([*words, str(tmp_path / "parts"), "--resume"]) == 0
    for seed in ("seed-0", "seed-1"):
        whole, parts = (outcome(tmp_path / name / "ce" / seed) for name in ("whole", "parts"))
        assert whole[:2] == parts[:2]
