"""The commands about trained networks read their words and refuse what does not go together."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
import tyro
from rich.console import Console

from fractionate.commands.handover import Evaluate, Export
from fractionate.models import load_exported
from fractionate.runs.folder import RunFolder
from tests.train.runs import teacher_file, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    run_in_folder(tiny("ce", epochs=1), folder / "run")
    return folder / "run"


def call(command: type, *words: object) -> str:
    console = Console(file=StringIO(), width=160)
    tyro.cli(command, args=[str(word) for word in words])(console, ("fractionate",))
    return console.file.getvalue()


def test_the_numbers_of_a_run_go_to_a_file(run: Path, tmp_path: Path) -> None:
    shown, facts = call(Evaluate, run, "--out", tmp_path / "a.json"), RunFolder(run).summary()
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert (found["top1"], found["ece"], found["params"]) == (facts["last_top1"], facts["ece"], facts["params"])
    assert f"{facts['last_top1']:.2f}" in shown


def test_a_network_needs_no_run(run: Path, tmp_path: Path) -> None:
    student = ("--student", "convnet_4_8", "--checkpoint", RunFolder(run).student, "--data", "digits")
    teacher = ("--teacher", "convnet_8_16", "--teacher-checkpoint", teacher_file(tmp_path))
    shown = call(Evaluate, *student, *teacher, "--batch-size", 50, "--validation")
    assert "digits: convnet_4_8" in shown
    assert "batches of 50" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name a run folder, or a network"),
        (("a", "--student", "b"), "name a run folder, or a network"),
        (("a", "--teacher-checkpoint", "b", "--validation"), "--validation, --teacher-checkpoint belong to --student"),
        (("--student", "resnet8"), "--student needs --checkpoint FILE"),
        (("--student", "resnet8", "--checkpoint", "a", "--teacher", "b"), "belong together"),
        (("--student", "resnet8", "--checkpoint", "a", "--data", "digitz"), "did you mean 'digits'"),
        (("--student", "resnet8", "--checkpoint", "nowhere.pth"), "no checkpoint at nowhere.pth"),
    ],
)
def test_words_that_do_not_go_together_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        call(Evaluate, *words)


@pytest.mark.usefixtures("unchecked")
def test_a_run_leaves_in_the_formats_that_are_named(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = call(Export, run, "--out", out, "--format", "safetensors", "torch-export")
    assert {file.name for file in out.iterdir()} == {
        "README.md",
        "config.json",
        "model.pt2",
        "model.safetensors",
        "training.yaml",
    }
    assert str(out / "model.pt2") in shown
    assert load_exported(out).description.num_classes == 10
