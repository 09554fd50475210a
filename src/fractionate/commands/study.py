"""The command that answers questions about methods, as a frozen dataclass that tyro turns into options."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..studies.questions import announced, find_study, listed
from .options import Count, Device, Folder, Name, Subject, Time, Words, at_least, names_and_changes

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Study:
    """Answer a question by runs (fractionate study allocation); without a name: the list of all studies. Resumes."""

    what: Subject = ()
    """Name of a study; then field=value, which holds for all runs."""
    seeds: Count = None
    """Students per arm on the test part; default: the study's, 3 or 5."""
    out: Folder = None
    """Folder of teachers, runs and report.html; default: runs/NAME."""
    data: Folder = None
    """Folder of the data set; default: the environment variable FRACTIONATE_DATA, else data."""
    full: bool = False
    """The full size: the networks, images and epochs of the recipe cifar100, which takes GPUs and days."""
    on: Name = None
    """Recipe whose networks and images are used in place of the study's: digits, cifar100-16px, cifar100-small ..."""
    epochs: Count = None
    """Length of a student's run; default: the recipe's."""
    teacher_epochs: Count = None
    """Length of a teacher's training; default: the recipe's."""
    workers: Count = None
    """Processes, which share the cores; default: one per core, at most 4. Changes no number where threads is set."""
    overwrite: bool = False
    """Train again what is there already."""
    budget: Time = None
    """Stop cleanly after this time, such as 9m or 1h30m; the same command goes on later."""
    device: Device = None
    """Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1; default: the recipe's."""

    def look(self, console: Console) -> Study:
        """Say the question and the budget, or list the studies, before anything heavy is imported."""
        names, changes = names_and_changes(self.what)
        at_least(1, seeds=self.seeds, workers=self.workers, epochs=self.epochs, teacher_epochs=self.teacher_epochs)
        if len(names) > 1 or (changes and not names):
            raise ValueError(f"name one study (fractionate study allocation); got {' '.join(names) or 'none'}")
        if self.full and self.on is not None:
            raise ValueError("--full and --on both name a recipe; give one of the two")
        lines = listed() if not names else announced(find_study(names[0]), self.seeds, self._recipe(), self._out())
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return self

    def _recipe(self) -> str | None:
        return find_study(names_and_changes(self.what)[0][0]).full if self.full else self.on

    def _out(self) -> Path:
        name = names_and_changes(self.what)[0][0]
        return self.out or Path("runs") / (f"{name}-full" if self.full else name)

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        names, changes = names_and_changes(self.what)
        if not names:
            return
        from ..runs.stop import deadline
        from ..studies.conduct import Conductor
        from ..studies.jobs import Options
        from ..studies.sides import Setting

        setting = Setting(
            self._recipe(),
            None if self.data is None else str(self.data),
            (*changes, *([f"device={self.device}"] if self.device else [])),
            self.epochs,
            self.teacher_epochs,
            self.seeds,
        )
        options = Options(self.overwrite, not self.overwrite, command, deadline(self.budget))
        study, workers = find_study(names[0]), self.workers or min(4, os.cpu_count() or 1)
        Conductor(study, setting, self._out(), console, options, workers)()
