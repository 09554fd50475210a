"""A run folder is complete, or it is not counted; nothing is overwritten by accident."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fractionate._files import write_atomically
from fractionate.config.method import MethodSpec
from fractionate.config.run import Monitors, Network, Run
from fractionate.runs.checkpoint import read_checkpoint
from fractionate.runs.folder import RunFolder, kept_names
from fractionate.runs.lock import locked
from fractionate.runs.runner import run_in_folder
from fractionate.runs.stop import Stopped
from fractionate.train.build import prepare
from fractionate.train.loop import Loop
from tests.runs.test_resume import stop_after
from tests.train.runs import teacher_file, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    taught = Network("convnet_8_16", checkpoint=teacher_file(tmp_path_factory.mktemp("teacher")))
    method = MethodSpec.parse("dkd+deepkd")
    return tiny(method, teacher=taught, monitors=Monitors(gsnr_window=2, seeds=(0,)))


@pytest.fixture(scope="module")
def done(run: Run, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("runs") / "one"
    run_in_folder(run, folder, command=("fractionate", "train"))
    return RunFolder(folder)


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in rows]


def test_a_finished_run_holds_exactly_the_files_of_the_contract(done: RunFolder) -> None:
    names = {"config.yaml", "metrics.jsonl", "last.ckpt", "student.safetensors", "summary.json"}
    assert {file.name for file in done.path.iterdir()} == names


def test_the_summary_says_what_reports_need(done: RunFolder) -> None:
    facts = done.summary()
    wanted = (
        "last_top1 best_top1 best_epoch params seconds seed git versions name method dataset teacher student "
        "teacher_params teacher_top1 agreement ece calibration epochs streams backward_passes device"
    )
    assert set(wanted.split()) <= set(facts)
    assert facts["method"] == "dkd+deepkd"
    assert facts["backward_passes"] == 2
    assert facts["last_top1"] == done.metrics()[-1]["test_top1"]
    assert facts["best_top1"] == max(row["test_top1"] for row in done.metrics())
    assert sum(facts["calibration"]["count"]) == 596
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["command"] == ["fractionate", "train"]


def test_every_line_is_strict_json_with_its_epoch(done: RunFolder) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    lines = (done.path / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    json.loads((done.path / "summary.json").read_text(), parse_constant=refuse)


def test_the_config_repeats_the_run(done: RunFolder, run: Run, tmp_path: Path) -> None:
    assert done.config() == run
    run_in_folder(done.config(), tmp_path / "again")
    assert without_times(RunFolder(tmp_path / "again").metrics()) == without_times(done.metrics())


def test_the_saved_student_is_the_trained_one(done: RunFolder, run: Run) -> None:
    saved = load_file(done.student)
    training = prepare(run)
    assert set(saved) == set(training.student.state_dict())
    training.student.load_state_dict(saved)


def test_a_run_is_not_overwritten_by_accident(done: RunFolder, run: Run) -> None:
    before = (done.path / "summary.json").read_bytes()
    with pytest.raises(ValueError, match=r"holds a finished run; .* \(--resume\), or replace it \(--overwrite\)"):
        run_in_folder(run, done.path)
    assert (done.path / "summary.json").read_bytes() == before


def test_overwriting_leaves_other_files_alone(tmp_path: Path) -> None:
    run = tiny("ce", epochs=1)
    run_in_folder(run, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    facts = run_in_folder(tiny("ce", epochs=2), tmp_path, overwrite=True)
    assert facts["epochs"] == 2
    assert len(RunFolder(tmp_path).metrics()) == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"


class Killed(Exception):
    """An interruption in the middle of a run."""


def interrupted(run: Run, folder: Path, after: int) -> None:
    def stop(record: Any) -> None:
        if record.epoch == after:
            raise Killed

    with pytest.raises(Killed):
        run_in_folder(run, folder, on_record=stop)


@pytest.mark.parametrize("save_every", [0, 1, 2])
def test_an_interrupted_run_goes_on_and_ends_as_if_nothing_had_happened(
    save_every: int, run: Run, done: RunFolder, tmp_path: Path
) -> None:
    from dataclasses import replace

    run = replace(run, save_every=save_every)
    interrupted(run, tmp_path, after=2)
    folder = RunFolder(tmp_path)
    assert not folder.finished
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "train_lo')  # the write that the interruption cut off
    facts = run_in_folder(run, tmp_path, resume=True)
    assert without_times(folder.metrics()) == without_times(done.metrics())
    assert facts["last_top1"] == done.summary()["last_top1"]


def test_a_run_that_stopped_before_its_summary_is_only_summed_up(run: Run, done: RunFolder, tmp_path: Path) -> None:
    run_in_folder(run, tmp_path)
    (tmp_path / "summary.json").unlink()
    facts = run_in_folder(run, tmp_path, resume=True)
    assert facts["last_top1"] == done.summary()["last_top1"]
    assert len(RunFolder(tmp_path).metrics()) == 3


def test_a_finished_run_is_kept_when_asked_for_again_and_defended_against_another(done: RunFolder, run: Run) -> None:
    from dataclasses import replace

    assert run_in_folder(run, done.path, resume=True) == done.summary()
    other = replace(run, epochs=9)
    with pytest.raises(ValueError, match="holds a finished run with another epochs; --overwrite replaces it"):
        run_in_folder(other, done.path, resume=True)


def test_a_checkpoint_beyond_the_end_is_refused(run: Run, tmp_path: Path) -> None:
    from dataclasses import replace

    interrupted(run, tmp_path, after=3)
    with pytest.raises(ValueError, match="is at epoch 2, the config ends at 1"):
        run_in_folder(replace(run, epochs=1), tmp_path, resume=True)


def test_a_broken_checkpoint_is_reported_and_the_one_before_it_used(run: Run, done: RunFolder, tmp_path: Path) -> None:
    interrupted(run, tmp_path, after=3)
    newest = tmp_path / "last.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    with pytest.warns(
        UserWarning, match=r"last.ckpt: it is truncated.*; going on from previous.ckpt instead, in epoch 2"
    ):
        run_in_folder(run, tmp_path, resume=True)
    assert without_times(RunFolder(tmp_path).metrics()) == without_times(done.metrics())


def test_a_changed_byte_is_noticed(run: Run, tmp_path: Path) -> None:
    interrupted(run, tmp_path, after=3)
    for name in ("last.ckpt", "previous.ckpt"):
        content = bytearray((tmp_path / name).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"last.ckpt: its bytes have changed.*; no older one can be read either"):
        run_in_folder(run, tmp_path, resume=True)


def test_a_folder_without_a_summary_is_no_finished_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no finished run"):
        RunFolder(tmp_path).summary()


def test_where_no_finished_run_is_the_sentence_says_what_there_is_and_what_to_do(run: Run, tmp_path: Path) -> None:
    pictures, exported, several, stopped = (tmp_path / n for n in ("photos", "exported", "several", "was stopped"))
    (pictures / "cat").mkdir(parents=True)
    exported.mkdir()
    (exported / "model.safetensors").touch()
    (several / "pair" / "kd" / "seed-0").mkdir(parents=True)
    (several / "pair" / "kd" / "seed-0" / "summary.json").touch()
    (several / "teacher").mkdir()
    (several / "teacher" / "summary.json").touch()
    interrupted(run, stopped, after=1)
    for folder, words in (
        (tmp_path / "nowhere", "there is no such folder"),
        (pictures, "a folder of pictures stands behind --data"),
        (exported, f"--student NAME --checkpoint {exported / 'model.safetensors'} --data SET"),
        (several, f"such as {several / 'pair' / 'kd' / 'seed-0'}"),
        (stopped, f"fractionate train --resume '{stopped}' goes on with it"),
    ):
        with pytest.raises(ValueError, match="holds no finished run") as caught:
            RunFolder(folder).summary()
        assert str(caught.value).endswith(words)


def test_a_folder_that_went_away_while_a_run_trains_is_named(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def moved(*_: object) -> None:
        if folder.is_dir():
            folder.rename(tmp_path / "elsewhere")

    with pytest.raises(OSError, match=r"metrics\.jsonl: its folder .*run is not there: was it moved or removed\?$"):
        run_in_folder(run, folder, on_step=moved)
    assert not folder.exists()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.txt"
    write_atomically(target, "old")

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_the_newest_checkpoints_are_kept_while_a_run_trains_and_one_afterwards(keep: int, tmp_path: Path) -> None:
    run = tiny("ce", keep=keep)
    with pytest.raises(Stopped):
        run_in_folder(run, tmp_path, save_steps=1, stop=stop_after(9))
    names = kept_names(keep)
    assert {file.name for file in tmp_path.glob("*.ckpt")} == set(names)
    steps = [read_checkpoint(tmp_path / name)["step"] for name in names]
    assert steps == list(range(steps[0], steps[0] - keep, -1))
    run_in_folder(run, tmp_path, resume=True)
    assert [file.name for file in tmp_path.glob("*.ckpt")] == ["last.ckpt"]


def test_a_save_that_fails_loses_no_checkpoint_but_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    run = tiny("ce", keep=3)
    with pytest.raises(Stopped):
        run_in_folder(run, tmp_path, save_steps=1, stop=stop_after(6))
    loop = Loop(prepare(run))
    RunFolder(tmp_path).resume(loop)
    newest, before = (read_checkpoint(tmp_path / name)["step"] for name in ("last.ckpt", "previous.ckpt"))
    monkeypatch.setattr("os.fsync", full)
    for _ in range(3):
        with pytest.raises(OSError, match="no space left on device"):
            RunFolder(tmp_path).save(loop)
    kept = [read_checkpoint(file)["step"] for file in sorted(tmp_path.glob("*.ckpt"))]
    assert kept == [newest, before]


def test_a_folder_is_held_by_one_process_which_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with locked(folder):
        for _ in range(2):  # asking does not make the answer forgotten
            with pytest.raises(ValueError, match=rf"another process \({os.getpid()}\) is writing to"), locked(folder):
                pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_said_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    with pytest.warns(UserWarning, match="cannot be locked"), locked(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []
