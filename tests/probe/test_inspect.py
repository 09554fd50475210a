"""Evaluation of runs and of loose networks: the numbers of training come back, whatever the batch."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fractionate.config.data import Data
from fractionate.config.files import to_yaml
from fractionate.config.run import Network
from fractionate.probe.measure import Conditions, evaluate_network, evaluate_run
from fractionate.runs.folder import RunFolder
from fractionate.runs.runner import run_in_folder
from tests.train.runs import teacher_file, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    teacher = Network("convnet_8_16", checkpoint=teacher_file(folder))
    run_in_folder(tiny(teacher=teacher), folder / "run")
    return folder / "run"


def console() -> Console:
    return Console(file=StringIO(), width=160)


def test_a_run_is_found_as_it_was_at_its_last_epoch(run: Path) -> None:
    shown = console()
    measured, facts = evaluate_run(run, shown), RunFolder(run).summary()
    columns = measured.columns()
    said = [facts[k] for k in ("last_top1", "last_top5", "last_loss", "agreement", "ece", "params")]
    assert [columns[k] for k in ("top1", "top5", "loss", "agreement", "ece", "params")] == said
    assert json.loads(json.dumps(columns["calibration"])) == facts["calibration"]
    assert f"{facts['last_top1']:.2f}" in shown.file.getvalue()


def test_a_run_of_half_precision_is_found_as_training_measured_it(tmp_path: Path) -> None:
    teacher = Network("convnet_8_16", checkpoint=teacher_file(tmp_path))
    facts = run_in_folder(tiny(teacher=teacher, precision="bfloat16"), tmp_path / "run")
    columns = evaluate_run(tmp_path / "run", console()).columns()
    assert [columns[k] for k in ("top1", "loss", "ece")] == [facts[k] for k in ("last_top1", "last_loss", "ece")]
    assert columns["agreement"] == facts["agreement"]


def test_speed_comes_with_its_batch_and_its_device(run: Path) -> None:
    shown = console()
    measured = evaluate_run(run, shown, batch_size=7)
    assert measured.images_per_s > 7
    assert (measured.batch_size, measured.images) == (7, 596)
    assert "batches of 7" in shown.file.getvalue()
    assert measured.device in shown.file.getvalue()


def test_a_file_and_a_set_are_enough(run: Path) -> None:
    folder, student = RunFolder(run), Network("convnet_4_8", checkpoint=str(RunFolder(run).student))
    found = evaluate_network(student, Data("digits"), console(), conditions=Conditions(batch_size=64, seconds=0.05))
    assert found.metrics.top1 == folder.summary()["last_top1"]
    assert found.metrics.agreement is None
    same = evaluate_network(student, Data("digits"), console(), teacher=student, conditions=Conditions(seconds=0.05))
    assert same.metrics.agreement == 100.0


def test_another_part_is_another_number_of_images(run: Path) -> None:
    student = Network("convnet_4_8", checkpoint=str(RunFolder(run).student))
    found = evaluate_network(
        student, Data("digits", evaluate_on="validation"), console(), conditions=Conditions(seconds=0.05)
    )
    assert 0 < found.images < 596


@pytest.mark.parametrize(("file", "why"), [("gone.pth", "gone.pth is not there"), (None, "names no checkpoint of it")])
def test_a_teacher_that_is_gone_is_said_and_left_out(run: Path, tmp_path: Path, file: str | None, why: str) -> None:
    for name in ("summary.json", "student.safetensors"):
        shutil.copy(run / name, tmp_path)
    config = replace(RunFolder(run).config(), teacher=Network("convnet_8_16", checkpoint=file))
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    shown = console()
    assert evaluate_run(tmp_path, shown).metrics.agreement is None
    assert why in shown.file.getvalue()


def test_weights_of_another_network_are_refused(run: Path) -> None:
    student = Network("convnet_8_16", checkpoint=str(RunFolder(run).student))
    with pytest.raises(ValueError, match="does not fit the network"):
        evaluate_network(student, Data("digits"), console())


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        evaluate_network(Network("convnet_4_8"), Data("digits"), console(), conditions=Conditions(batch_size=0))
