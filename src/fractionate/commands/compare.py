"""Commands that compare methods, as frozen dataclasses that tyro turns into options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .options import Count, Folder, MethodNames, OneRecipe, Place, Time, Words, at_least, folder_of

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Demo:
    """Distil handwritten digits by several methods: a table, and one page that needs nothing else."""

    out: Place = Path("runs/demo")
    """Folder of the teacher, of every run and of report.html."""
    seeds: int = 5
    """Runs per method."""
    epochs: int = 30
    """Length of a student's run."""
    methods: MethodNames = ()
    """Which methods, for example: kd dkd+deepkd; or: all. Default: labels alone, KD, DKD, GDKD, DOT and DeepKD."""
    workers: Count = None
    """Processes; default: one per core, at most 4. Does not change any number."""
    overwrite: bool = False
    """Train again what is there already."""

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        same = Compare(
            ("digits",),
            out=self.out,
            seeds=self.seeds,
            epochs=self.epochs,
            methods=self.methods,
            workers=self.workers,
            overwrite=self.overwrite,
        )
        same(console, command)


@dataclass(frozen=True)
class Compare:
    """Distil by several methods and seeds (fractionate compare cifar100-small): a table and one page. Resumes."""

    what: OneRecipe
    """Recipe: digits, cifar100, cifar100-small or folder."""
    out: Folder = None
    """Folder of the teacher, of every run and of report.html; default: runs/RECIPE."""
    seeds: int = 3
    """Runs per method."""
    epochs: Count = None
    """Length of a student's run; default: the recipe's."""
    data: Folder = None
    """Folder of the data set; default: that of the environment variable FRACTIONATE_DATA, or data."""
    validation: bool = False
    """Measure on images taken out of the training set, to choose settings without looking at the test set."""
    methods: MethodNames = ()
    """Which methods, for example: kd dkd+deepkd; or: all. Default: the recipe's."""
    workers: Count = None
    """Processes; default: one per core, at most 4. Does not change any number."""
    overwrite: bool = False
    """Train again what is there already."""
    budget: Time = None
    """Stop cleanly after this time, such as 9m or 1h30m; the same command goes on later."""

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from ..runs.stop import deadline
        from ..studies.compare import compare
        from ..studies.jobs import Options

        at_least(1, seeds=self.seeds, epochs=self.epochs, workers=self.workers)
        if len(self.what) != 1:
            raise ValueError(f"name one recipe (fractionate compare cifar100-small); got {list(self.what) or 'none'}")
        compare(
            self.what[0],
            self.out or folder_of(self.what[0], self.validation),
            console,
            seeds=self.seeds,
            epochs=self.epochs,
            root=None if self.data is None else str(self.data),
            validation=self.validation,
            methods=self.methods,
            workers=self.workers,
            options=Options(self.overwrite, not self.overwrite, command, deadline(self.budget)),
        )
