"""The command line: a good word does its work, a bad one is answered in one line and with exit code 2."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fractionate
from fractionate.cli import main
from fractionate.commands import COMMANDS
from fractionate.runs.folder import RunFolder

SHORT = ("epochs=1", "data.passes=1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short seeds of labels alone, trained through the command line."""
    out = tmp_path_factory.mktemp("runs")
    assert main(["train", "digits", *SHORT, "--method", "ce", "--seeds", "2", "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demoo"], "unknown command 'demoo': did you mean 'demo'?"),
        (["demo", "--seed", "3"], "did you mean --seeds?"),
        (["demo", "--seeds", "x"], "--seeds"),
        (["demo", "--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["demo", "--methods", "dkdd"], "unknown method 'dkdd': did you mean 'dkd'?"),
        (["train"], "name one recipe"),
        (["train", "--data", "pics"], "images of your own: fractionate train folder --data pics"),
        (["compare", "--data", "pics"], "images of your own: fractionate compare folder --data pics"),
        (["train", "digits", "kd"], "name one recipe"),
        (["train", "digit"], "unknown recipe 'digit': did you mean 'digits'?"),
        (["train", "digits", "--method", "dkd(bet=2)"], "unknown argument of dkd 'bet': did you mean 'beta'?"),
        (["train", "digits", "--method", "ce(weight=2)"], "unknown argument of ce 'weight'"),
        (["train", "digits", "--method", "nkd(weights=auto)"], "nkd: weights=auto, and no other value, is for kd"),
        (["train", "digits", "--method", "dkd(weights=Auto)"], "is for kd, dkd, gdkd; got 'Auto'"),
        (["train", "digits", "epoch=3"], "unknown key 'epoch': did you mean 'epochs'?"),
        (["train", "digits", "optimizer.lr=fast"], "optimizer.lr: expected a valid number, got 'fast'"),
        (["train", "digits", "--student", "convnet_8_61"], "unknown model 'convnet_8_61'"),
        (["train", "digits", "teacher.checkpoint=nowhere.pth"], "no checkpoint at nowhere.pth"),
        (["train", "digits", "--overwrite", "--resume"], "exclude each other"),
        (["train", "--config", "nowhere.yaml", "--out", "x"], "no config file at nowhere.yaml"),
        (["train", "--config", "nowhere.yaml"], "needs --out"),
        (["train", "digits", "--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["train", "digits", "--teacher-epochs", "0"], "--teacher-epochs must be at least 1, got 0"),
        (["train", "digits", "--teacher-at-least", "nan"], "is an accuracy in percent, 0..100, got nan"),
        (
            ["train", "digits", "--method", "gdkd(k=10)"],
            "gdkd: by_top: k must be an integer in 1..9 for these classes, got 10; give another one behind the name: "
            "'gdkd(k=4)'",
        ),
        (["train", "digits", "--method", "kd+deepkd(keep=12)"], "behind the name: 'deepkd(keep="),
        (["train", "--resume", "nowhere"], "there is no folder nowhere"),
        (["train", "--resume", "nowhere", "--method", "kd"], "in place of --method, write method=NAME"),
        (["train", "--config", "a.yaml", "--out", "x", "--method", "kd"], "in place of --method, write method=NAME"),
        (["train", "--recipe", "a/b/c/d", "--student", "resnet8"], "in place of --student, write student=NAME"),
        (["compare", "digits", "--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["compare", "digits", "--methods", "dkd", "kd", "dkd"], "dkd is named twice"),
        (["compare", "digits", "--methods", "deepkd", "dkd+deepkd"], "dkd+deepkd is what deepkd and dkd+deepkd mean"),
        (["train", "digits", "--method", ""], "cannot read ''"),
        (["train", "digits", "--method", "kd+dot+dot"], "dot stands around itself in kd+dot+dot: write it once"),
        (["evaluate", "--student", "os:system", "--checkpoint", "x"], "os:system, called with num_classes=10, raised"),
        (["evaluate", "nowhere"], "nowhere holds no finished run (no summary.json): there is no such folder"),
        (["export", "a", "--out", "e", "--data", "x"], "x (applied to fractionate export); --help shows the options"),
        (["doctor", "digits", "--workers", "2"], "; --help shows the options of this command"),
        (["report", "nowhere"], "nowhere: no such folder"),
        (["report"], "name at least one run folder"),
    ],
)
def test_a_bad_word_is_answered_in_one_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("fractionate: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fractionate {fractionate.__version__}\n"


@pytest.mark.parametrize("words", [[], ["--help"], ["train", "--help"]])
def test_help_is_no_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    captured = capsys.readouterr()
    assert "train" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_words_that_a_newcomer_knows(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert re.findall(r"None|STR|PATH|default: \)", shown) == []


def test_an_interruption_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fractionate.probe.measure.print_methods", interrupt)
    assert main(["methods"]) == 130
    assert capsys.readouterr().err == "fractionate: interrupted\n"
    monkeypatch.setattr("fractionate.commands.study.Study.__call__", interrupt)
    assert main(["study", "delta"]) == 130
    assert capsys.readouterr().err == "fractionate: interrupted; the same command goes on\n"


def test_methods_are_listed_by_a_part_of_their_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "wsld"]) == 0
    assert "wsld" in (out := capsys.readouterr().out)
    assert "gdkd" not in out
    assert main(["methods", "nothere"]) == 2
    assert "unknown method or wrapper 'nothere'" in capsys.readouterr().err


def test_training_leaves_a_folder_per_seed_and_says_where(runs: Path) -> None:
    for seed in (0, 1):
        facts = RunFolder(runs / "ce" / f"seed-{seed}").summary()
        assert (facts["seed"], facts["epochs"]) == (seed, 1)
        assert facts["command"][:3] == ["fractionate", "train", "digits"]


def test_a_run_is_not_replaced_by_accident(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", *SHORT, "--method", "ce", "--out", str(runs)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_config_repeats_its_run(runs: Path, tmp_path: Path) -> None:
    first = runs / "ce" / "seed-1"
    assert main(["train", "--config", str(first / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    again = RunFolder(tmp_path / "again")
    assert again.student.read_bytes() == RunFolder(first).student.read_bytes()
    assert again.config() == RunFolder(first).config()


def test_a_run_folder_is_used_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["train", "digits", *SHORT, "--teacher-epochs", "1", "--method", "kd"]) == 0
    monkeypatch.chdir(tmp_path)
    run = Path("here", "runs", "digits", "kd", "seed-0")
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    assert "no agreement" not in capsys.readouterr().out
    assert main(["train", "--config", str(run / "config.yaml"), "--out", "again"]) == 0
    assert RunFolder(Path("again")).student.read_bytes() == RunFolder(run).student.read_bytes()


def test_a_config_can_be_changed_and_repeated_with_seeds(runs: Path, tmp_path: Path) -> None:
    config = str(runs / "ce" / "seed-1" / "config.yaml")
    assert main(["train", "--config", config, "epochs=2", "--seeds", "2", "--out", str(tmp_path)]) == 0
    found = [RunFolder(tmp_path / f"seed-{seed}").summary() for seed in (1, 2)]
    assert [f["epochs"] for f in found] == [2, 2]


def test_a_teacher_is_trained_first_and_used_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "digits", *SHORT, "--teacher", "convnet_8_16", "--student", "convnet_4_8", "--out", str(tmp_path)]
    assert main([*words, "--method", "kd"]) == 0
    trained = (tmp_path / "teacher-convnet_8_16" / "metrics.jsonl").stat().st_mtime_ns
    assert main([*words, "--method", "dkd(beta=2)"]) == 0
    assert "teacher convnet_8_16: " in capsys.readouterr().out
    assert (tmp_path / "teacher-convnet_8_16" / "metrics.jsonl").stat().st_mtime_ns == trained
    facts = RunFolder(tmp_path / "convnet_8_16__convnet_4_8" / "dkd_beta=2" / "seed-0").summary()
    assert (facts["teacher"], facts["student"]) == ("convnet_8_16", "convnet_4_8")


def test_evaluating_a_run_finds_what_it_said(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs / "ce" / "seed-0"
    assert main(["evaluate", str(folder)]) == 0
    assert f"{RunFolder(folder).summary()['last_top1']:.2f}" in capsys.readouterr().out


def test_a_report_reads_folders_and_writes_a_page(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(runs), "--out", str(tmp_path / "page.html")]) == 0
    assert "labels alone" in capsys.readouterr().out
    assert main(["report", str(runs), "--baseline", "lables alone"]) == 2
    assert "did you mean 'labels alone'" in capsys.readouterr().err
    assert "labels alone" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_every_method_is_listed_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("dkd", "deepkd", "2203.08679", "2505.15133"))


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fractionate", "--version"], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == f"fractionate {fractionate.__version__}\n"


def test_a_summary_is_json_that_anybody_reads(runs: Path) -> None:
    facts = json.loads((runs / "ce" / "seed-0" / "summary.json").read_text())
    assert facts["dataset"] == "digits, 10 labels per class"


def test_a_board_shows_a_run_and_a_teacher_below_the_wish_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    words = ["train", "digits", *SHORT, "--out", str(tmp_path), "--method", "kd"]
    assert main([*words, "--teacher-at-least", "100"]) == 2
    assert "teacher" in capsys.readouterr().err
    assert not (tmp_path / "kd").exists()
    assert main([*words, "--boards", "tensorboard"]) == 0
    assert list((tmp_path / "kd" / "seed-0" / "tensorboard").iterdir())
