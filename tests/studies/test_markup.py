"""Brackets of names and of pip's extras are text: no console takes them for its own signs."""

from __future__ import annotations

import shutil
from io import StringIO
from pathlib import Path

from rich.console import Console

from fractionate.config.run import Network
from fractionate.probe.measure import evaluate_run
from fractionate.runs.runner import run_in_folder
from fractionate.studies.shipped import hand_over
from tests.train.runs import teacher_file, tiny


def test_the_extra_that_writes_onnx_is_named_whole(tmp_path: Path) -> None:
    out = StringIO()
    hand_over(tmp_path / "none", tmp_path / "exported", Console(file=out, width=500))
    assert "pip install 'fractionate[export]' brings" in out.getvalue()


def test_a_teacher_below_a_folder_with_brackets_is_missed_by_its_name(tmp_path: Path) -> None:
    place = tmp_path / "runs[bold]" / "x["
    place.mkdir(parents=True)
    run_in_folder(tiny("kd", teacher=Network("convnet_8_16", teacher_file(place))), tmp_path / "run")
    shutil.rmtree(place)
    out = StringIO()
    evaluate_run(tmp_path / "run", Console(file=out, width=500))
    assert str(place / "teacher.safetensors") in out.getvalue()
