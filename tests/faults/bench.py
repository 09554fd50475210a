"""What a fault is, where it happens, and how what the user sees and loses is looked at."""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from benchmarks.kill import outcome

from fractionate.config.optimizers import Optimizer
from fractionate.config.run import Network, Run
from fractionate.runs.runner import run_in_folder
from fractionate.runs.stop import Stopped
from tests.runs.test_resume import stop_after
from tests.train.runs import teacher_file, tiny

Lost = Literal["nothing begun", "nothing", "recovered", "saved", "last good state", "diverged", "only read"]

# What was lost, in the words of the page, and the test of it below.
LOST: dict[Lost, str] = {
    "nothing begun": "nothing; it was refused before anything was written",
    "nothing": "nothing; the folder is as it was",
    "recovered": "nothing; the run went on by itself and ended with the bytes of the unbroken one",
    "saved": "nothing; the run was saved, and `--resume` ends with the bytes of the unbroken one",
    "last good state": "the steps since the last checkpoint, which is whole; `--resume` computes them again",
    "diverged": "the steps since the last checkpoint; the state before the step is there to be looked at",
    "only read": "nothing; it was only read",
}
EXPECTED = (
    ValueError,
    ArithmeticError,
    ImportError,
    OSError,
)  # the command line answers these in one line, exit code 2
STOPPED_AT = 7


@dataclass
class Bench:
    """A place for one fault: an empty folder, and runs that take a fraction of a second."""

    folder: Path
    patch: pytest.MonkeyPatch
    before: dict[str, bytes] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """The run folder."""
        return self.folder / "run"

    @property
    def run(self) -> Run:
        """A run of three epochs of four steps."""
        return tiny("ce", optimizer=Optimizer(lr=0.01))

    @property
    def taught(self) -> Run:
        """The same by KD, from a teacher in a file."""
        return tiny("kd", teacher=Network("convnet_8_16", checkpoint=teacher_file(self.folder)))

    def train(self, **changes: Any) -> None:
        """Train the run, some fields changed, in its folder."""
        run_in_folder(replace(self.run, **changes), self.out, save_steps=2)

    def teach(self, **changes: Any) -> None:
        """The same with the teacher."""
        run_in_folder(replace(self.taught, **changes), self.out)

    def stopped(self) -> Path:
        """A folder in which the run was stopped in the middle of its second epoch."""
        shutil.copytree(ready("stopped"), self.out)
        self.note()
        return self.out

    def finished(self) -> Path:
        """A folder with the finished run."""
        shutil.copytree(ready("whole"), self.out)
        self.note()
        return self.out

    def go_on(self, **changes: Any) -> None:
        """Resume, some fields of the config changed."""
        run_in_folder(replace(self.run, **changes), self.out, resume=True)

    def note(self) -> None:
        """Remember what is in the folder now."""
        self.before = contents(self.out)


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Args:
        name: in words.
        happen: makes it happen; ends with what the user would do.
        lost: what is lost, which is tested.
        foreign: where the words of another library begin, which differ from version to version.
        needs: a package it needs.
    """

    name: str
    happen: Callable[[Bench], object]
    lost: Lost = "nothing begun"
    foreign: str = ""
    needs: str = ""


@functools.cache
def ready(what: str) -> Path:
    """A run that was stopped, or came to its end; made once, copied often."""
    folder = Path(tempfile.mkdtemp())
    run = tiny("ce", optimizer=Optimizer(lr=0.01))
    if what == "whole":
        run_in_folder(run, folder)
        return folder
    with pytest.raises(Stopped):
        run_in_folder(run, folder, save_steps=2, stop=stop_after(STOPPED_AT))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files by name."""
    return {f.name: f.read_bytes() for f in sorted(folder.iterdir()) if f.is_file()} if folder.is_dir() else {}


def seen(fault: Fault, bench: Bench) -> str:
    """Make the fault happen; what the user saw."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            fault.happen(bench)
        except (*EXPECTED, Stopped, KeyboardInterrupt) as error:
            message = str(error) or "interrupted"
        else:
            message = "; ".join(str(w.message) for w in said if issubclass(w.category, UserWarning)) or "nothing"
    return words(message, bench, fault.foreign)


def words(message: str, bench: Bench, foreign: str) -> str:
    """The message without what differs from place to place."""
    text = " ".join(message.replace(f"{bench.folder}/", "").split())
    text = text.replace(str(bench.folder), "FOLDER")
    text = re.sub(r"process \(\d+\)", "process (PID)", text)
    text = re.sub(r"\([\d,]+ bytes\)", "(N bytes)", text)
    text = re.sub(r"Known: .*", "Known: ...", text)
    if foreign:
        at = text.index(foreign) + len(foreign)
        text = f"{text[:at]} ..."
    return text


def check_lost(fault: Fault, bench: Bench) -> None:
    """What was lost is what the fault says."""
    if fault.lost == "nothing begun":
        assert not bench.out.exists()
    elif fault.lost == "nothing":
        assert contents(bench.out) == bench.before
    elif fault.lost == "diverged":
        assert (bench.out / "DIVERGED.ckpt").is_file()
        assert not (bench.out / "summary.json").exists()
    elif fault.lost == "recovered":
        assert outcome(bench.out) == outcome(ready("whole"))
    elif fault.lost in ("saved", "last good state"):
        bench.patch.undo()
        assert not (bench.out / "summary.json").exists()
        assert fault.lost == "saved" or (bench.out / "last.ckpt").is_file()
        bench.go_on()
        assert outcome(bench.out) == outcome(ready("whole"))
