"""Code that a config names runs where this user has named it before, or allows it; not because a config says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from fractionate.cli import main

CODE = """from fractionate.models import create


def net(num_classes):
    return create("convnet_4_8", num_classes=num_classes)
"""
SHORT = ("epochs=1", "data.passes=1", "device=cpu", "--method", "ce")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRACTIONATE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine.py").write_text(CODE)
    return tmp_path


@pytest.mark.parametrize("words", [("--student", "mine.py:net"), ("student=mine.py:net",)])
def test_code_that_was_named_before_needs_no_permission_until_it_changes(
    words: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "digits", *SHORT, *words, "--out", "runs"]) == 0
    run = str(next(Path("runs").rglob("config.yaml")).parent)
    assert main(["evaluate", run]) == 0
    (here / "mine.py").write_text(CODE + "# changed\n")
    assert main(["evaluate", run]) == 2
    assert "--own-code" in capsys.readouterr().err
    assert main(["evaluate", run, "--own-code"]) == 0


def test_code_that_a_config_names_is_not_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", *SHORT, "--out", "runs"]) == 0
    config = next(Path("runs").rglob("config.yaml"))
    named = [line for line in config.read_text().splitlines() if line.startswith("  name: convnet")]
    (here / "mine.py").write_text(f"open({str(here / 'ran')!r}, 'w')\n" + CODE)
    config.write_text(config.read_text().replace(named[0], "  name: mine.py:net", 1))
    run = str(config.parent)
    measuring = (["evaluate", run], ["predict", run, "x.png"], ["linear-probe", run])
    for command in (*measuring, ["export", run, "--out", "x"], ["doctor", run], ["profile", run, "epochs=2"]):
        assert main(command) == 2
        assert "--own-code" in capsys.readouterr().err
    assert not (here / "ran").exists()
