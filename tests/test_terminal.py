"""What the command line prints reaches any console, and nothing that a console does ends the work."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fractionate._terminal import Steady, one_line, printable
from fractionate.cli import _fields_together, _takers, main
from fractionate.commands import COMMANDS
from fractionate.commands.train import Train

FULL = Path("/dev/full")  # every write to it fails, as on a full disk
WHERE = "fractionate.probe.measure.print_methods"  # what `fractionate methods` calls
SHORT = ("train", "digits", "epochs=1", "data.passes=1", "--method", "ce")


def program(*words: str, stdout: int) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "fractionate", *words]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, timeout=300, check=False)


def raised_by_a_command(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def print_methods(*_: object) -> None:
        raise error

    monkeypatch.setattr(WHERE, print_methods)


@pytest.mark.parametrize("words", [["--version"], ["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_waits_for_no_torch(words: list[str]) -> None:
    code = f"import sys; from fractionate.cli import main; main({words}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=120)


@pytest.mark.parametrize("words", [("--help",), ("recipes",)], ids=" ".join)
def test_a_reader_that_goes_away_ends_a_listing_quietly(words: tuple[str, ...]) -> None:
    nobody, pipe = os.pipe()
    os.close(nobody)
    done = program(*words, stdout=pipe)
    os.close(pipe)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not FULL.exists(), reason="needs Linux's /dev/full")
def test_a_listing_on_a_full_disk_is_a_failure_in_words() -> None:
    with FULL.open("w") as full:
        done = program("recipes", stdout=full.fileno())
    assert done.returncode == 2
    assert re.fullmatch(rb"fractionate: standard output cannot be written: [\w ]+\n", done.stderr)


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="needs Linux's /dev/full")
def test_training_goes_on_when_its_log_cannot_be_written(tmp_path: Path) -> None:
    with FULL.open("w") as full:
        done = program(*SHORT, "--out", str(tmp_path), stdout=full.fileno())
    assert done.returncode == 0
    assert done.stderr.count(b"\n") == 1
    assert b"goes on" in done.stderr
    assert (tmp_path / "ce" / "seed-0" / "summary.json").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("words", ["--help", "methods", "recipes deepkd resnet8x4"])
def test_every_console_shows_what_it_can(words: str, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    console = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", console)
    assert main(words.split()) == 0
    assert "deepkd" in console.buffer.getvalue().decode(encoding) or words == "--help"


@pytest.mark.parametrize("hostile", ["\x1b]52;c;YQ==\x07", "\x9b2J", "\x00", "\x1bc", "\u202egnp.exe", "\x1b[2J"])
def test_a_name_gives_a_console_no_commands(hostile: str) -> None:
    for terminal in (False, True):
        shown = printable(f"a{hostile}b", terminal=terminal)
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e]", shown)
        assert shown[0] + shown[-1] == "ab"


def test_colours_and_progress_bars_stay_on_a_terminal() -> None:
    drawn = "\x1b[1mbold\x1b[0m\r\x1b[2K\x1b[1A\x1b[?25l"
    assert printable(drawn, terminal=True) == drawn
    assert "\x1b" not in printable(drawn)


def test_names_that_are_no_text_are_shown() -> None:
    assert one_line(os.fsdecode(b"caf\xe9\n1")) == r"caf\udce9 1"


def test_a_stream_that_is_not_there_takes_everything() -> None:
    nothing = Steady(None)
    assert nothing.write("abc") == 3
    nothing.flush()
    nothing.end()
    assert not nothing.isatty()
    assert nothing.failure is None


def test_a_failure_is_told_once_and_writing_is_tried_again() -> None:
    class Filling(io.StringIO):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    disk, told = Filling(), []
    stream = Steady(disk, told.append)
    assert (stream.write("one"), stream.write("two")) == (3, 3)
    disk.full = False
    stream.write("three")
    assert disk.getvalue() == "three"
    assert told == [stream.failure]


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("boom\nmore"), AssertionError(), RecursionError("deep")])
def test_an_error_that_nobody_foresaw_is_one_line_and_a_file_to_report(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    raised_by_a_command(error, monkeypatch)
    assert main(["methods"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"fractionate: this was not foreseen: {type(error).__name__}")
    assert said.count("\n") == 1
    (report,) = tmp_path.iterdir()
    assert str(report) in said
    assert "Traceback" in report.read_text(encoding="utf-8")
    assert "fractionate methods" in report.read_text(encoding="utf-8")


def test_an_error_in_a_file_of_the_user_s_names_that_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    raised_by_a_command(TypeError("no"), monkeypatch)
    assert main(["methods"]) == 2
    assert f"{__file__}:" in (said := capsys.readouterr().err)
    assert "no part of fractionate" in said


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_is_answered_with_what_needs_less(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raised_by_a_command(error, monkeypatch)
    assert main(["methods"]) == 2
    assert "accumulate=2" in capsys.readouterr().err


def test_a_module_that_ends_the_program_is_named_as_the_cause(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raised_by_a_command(SystemExit(0), monkeypatch)
    assert main(["methods"]) == 2
    assert "sys.exit" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "train digits epochs=3 --seeds 1 --overwrite --boards tensorboard wandb",
        "train --seeds 1 digits --overwrite epochs=3 --boards tensorboard wandb",
        "train --seeds=1 --boards tensorboard wandb epochs=3 --overwrite digits",
        "train --no-resume digits --boards tensorboard wandb epochs=3 --seeds 1 --overwrite",
    ],
)
def test_words_without_an_option_stand_anywhere(words: str) -> None:
    together = _fields_together(words.split(), *_takers(Train))
    options = next(n for n, word in enumerate(together) if word.startswith("--"))
    assert sorted(together[1:options]) == ["digits", "epochs=3"]
    assert sorted(together) == sorted(words.split())
