"""Ending early: the step is finished, the state saved, the reason told by the exit code."""

from __future__ import annotations

import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from fractionate.runs.stop import Stop, Stopped, deadline, duration
from fractionate.train.loop import Record
from tests.train.runs import tiny


def without_times(folder: Path) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in RunFolder(folder).metrics()
    ]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_run_with_everything_saved(number: signal.Signals, code: int, tmp_path: Path) -> None:
    def send(record: Record) -> None:
        if record.epoch == 1:
            signal.raise_signal(number)

    if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("this process was told to outlive its terminal (nohup), and so does a run")
    before = signal.getsignal(number)
    run_in_folder(tiny("ce"), tmp_path / "whole")
    with pytest.raises(
        Stopped, match=r"after step 4 of 12; nothing is lost: the same command with --resume"
    ) as stopped:
        run_in_folder(tiny("ce"), tmp_path / "run", on_record=send)
    assert stopped.value.exit_code == code
    assert signal.getsignal(number) is before
    assert not RunFolder(tmp_path / "run").finished
    run_in_folder(tiny("ce"), tmp_path / "run", resume=True)
    assert without_times(tmp_path / "run") == without_times(tmp_path / "whole")


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    def send(record: Record) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_in_folder(tiny("ce", save_every=0), tmp_path, on_record=send)
    assert not (tmp_path / "last.ckpt").exists()


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run_in_folder(tiny("ce", epochs=1), tmp_path, on_record=lambda _: signal.raise_signal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert RunFolder(tmp_path).finished


def test_a_signal_after_the_last_step_lets_the_run_finish(tmp_path: Path) -> None:
    facts = run_in_folder(tiny("ce", epochs=1), tmp_path, on_record=lambda _: signal.raise_signal(signal.SIGTERM))
    assert facts["epochs"] == 1


def test_who_asks_to_stop_while_the_pictures_are_read_finds_nothing_written(tmp_path: Path) -> None:
    """The same command begins anew then; a folder with a run of no step would have been in its way."""
    asked = iter((False, True))
    with pytest.raises(Stopped) as stopped:
        run_in_folder(tiny("ce"), tmp_path / "run", stop=Stop(elsewhere=lambda: next(asked)))
    assert stopped.value.reason == "SIGTERM"
    assert not (tmp_path / "run").exists()


def test_a_used_up_budget_stops_between_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    clock = sys.modules["fractionate.runs.stop"].time
    monkeypatch.setattr(clock, "monotonic", lambda: now.append(now[-1] + 1) or now[-1])
    with pytest.raises(Stopped, match=r"the time budget is used up in .* after step") as stopped:
        run_in_folder(tiny("ce"), tmp_path, stop=Stop(deadline(10)))
    assert stopped.value.exit_code == 75
    assert (tmp_path / "last.ckpt").is_file()


def test_a_budget_of_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="before training began"):
        run_in_folder(tiny("ce"), tmp_path / "run", stop=Stop(deadline("0s")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("9m", 540), ("1h30m", 5400), ("2d", 172800), ("0.5h", 1800), (3, 3)]
)
def test_durations_are_read_as_people_write_them(text: str | float, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "9 m", "m", "-3s", "nine", "1h 3", "9mm"])
def test_other_words_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 90s, 9m or 1h30m, got"):
        duration(text)


def test_the_reason_survives_the_way_between_processes() -> None:
    stopped = pickle.loads(pickle.dumps(Stopped("budget", "in runs/a after step 3 of 9")))
    assert (stopped.exit_code, str(stopped)) == (75, str(Stopped("budget", "in runs/a after step 3 of 9")))
