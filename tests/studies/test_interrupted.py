"""A study that is interrupted ends with one line and code 130, and goes on to the numbers of an undisturbed one."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fractionate.cli import main
from fractionate.runs.stop import Stopped
from fractionate.studies.display import Lines
from fractionate.studies.jobs import Event

TOY = ["study", "k1-equals-dkd", "--seeds", "1", "--epochs", "1", "--teacher-epochs", "1", "--workers", "1"]


def _numbers(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        str(file.relative_to(folder)): [
            {k: v for k, v in json.loads(line).items() if k not in ("seconds", "images_per_s")}
            for line in file.read_text().splitlines()
        ]
        for file in folder.rglob("metrics.jsonl")
    }


def test_an_interrupted_study_goes_on_when_it_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unchecked: None
) -> None:
    def interrupts(lines: Lines, event: Event) -> None:
        if event.images_per_s:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(Lines, "__call__", interrupts)
        assert main([*TOY, "--out", str(tmp_path / "cut")]) == 130
    told = capsys.readouterr().err
    assert told.count("fractionate: ") == 1
    assert "the same command goes on" in told
    assert not list((tmp_path / "cut").rglob("*.tmp"))
    assert main([*TOY, "--out", str(tmp_path / "cut")]) == 0
    capsys.readouterr()
    assert main([*TOY, "--out", str(tmp_path / "whole")]) == 0
    twins = "teacher and teacher weak are one network here (1 epoch each): give more --teacher-epochs"
    assert twins in " ".join(capsys.readouterr().out.split())
    assert _numbers(tmp_path / "cut") == _numbers(tmp_path / "whole") != {}


@pytest.mark.parametrize(("words", "remedy"), [("study allocation", "same command goes"), ("train digits", "--resume")])
def test_the_remedy_is_an_option_that_the_command_has(
    words: str, remedy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        raise Stopped("SIGINT", "in toy/seed-0")

    name = words.split()[0]
    monkeypatch.setattr(f"fractionate.commands.{name}.{name.title()}.__call__", stopped)
    assert main(words.split()) == 130
    assert remedy in capsys.readouterr().err


STARTED = """
import multiprocessing, sys, time
from pathlib import Path
from fractionate.studies.crew import without_interrupts

if __name__ == "__main__":
    with without_interrupts():
        process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,), daemon=True)
        process.start()
    print(Path(f"/proc/{process.pid}/status").read_text())
    process.kill()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says which signals a process blocks")
def test_the_first_process_of_a_crew_too_never_receives_ctrl_c(tmp_path: Path) -> None:
    """Python starts a helper of its own before the first one, and lets the signal through again."""
    script = tmp_path / "started.py"
    script.write_text(STARTED)
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    blocked = next(line.split()[1] for line in told.splitlines() if line.startswith("SigBlk"))
    assert int(blocked, 16) >> (signal.SIGINT - 1) & 1
