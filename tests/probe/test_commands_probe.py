"""Doctor and profile find the run that the words mean, and answer before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from fractionate.cli import main
from fractionate.commands.look import chosen_run
from fractionate.config.files import to_yaml

RECIPE = "cifar100/dkd/resnet32x4__resnet8x4/mdistiller"


def test_a_file_a_folder_a_name_and_an_id_name_runs(tmp_path: Path) -> None:
    run = chosen_run(("digits", "seed=4"), "dkd")
    (tmp_path / "config.yaml").write_text(to_yaml(run))
    assert chosen_run((str(tmp_path),)) == run
    assert chosen_run((str(tmp_path / "config.yaml"), "seed=5")).seed == 5
    assert chosen_run((RECIPE,)).student.name == "resnet8x4"


@pytest.mark.parametrize("words", [(), ("digits", "cifar100"), ("digit",), ("cifar100/nothing",), ("nowhere.yaml",)])
def test_anything_else_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"name one|unknown|no config file"):
        chosen_run(words)


def test_a_run_that_can_train_is_found_ready(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", "digits", "--method", "ce", "--out", str(tmp_path)]) == 0
    assert "batches" in capsys.readouterr().out


def test_a_problem_is_named_and_ends_with_code_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", "digits", "data.batch_size=100000", "--method", "ce", "--out", str(tmp_path)]) == 2
    assert "not ready to train: " in capsys.readouterr().err
    assert not list(tmp_path.rglob("summary.json"))


def test_a_profile_shows_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "digits", "--method", "dkd+deepkd", "--steps", "1"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("teacher", "backward", "update"))
