"""Commands that compare methods, as frozen dataclasses that tyro turns into options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .options import (
    Count,
    Device,
    File,
    Flag,
    Folder,
    MethodNames,
    Name,
    Perhaps,
    Place,
    Subject,
    Time,
    Words,
    ask_for_recipe,
    at_least,
    folder_of,
    names_and_changes,
)
from .own_code import named_in, remember
from .photos import SEVERAL, lengths, settled

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
    """Processes, which share the cores; default: one per core, at most 4. Changes no number where threads is set."""
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

    what: Subject = ()
    """Recipe (digits, cifar100, folder, segmentation, detection ...); then field=value, which holds for all runs."""
    out: Folder = None
    """Folder of the teacher, of every run and of report.html; default: runs/RECIPE."""
    teacher: Name = None
    """Network of the teacher, also timm:NAME or module:function; default: the recipe's. Trained first if need be."""
    teacher_checkpoint: File = None
    """Weights of the teacher (.safetensors, or a .pth of weights), so that it is not trained."""
    teacher_epochs: Count = None
    """Length of the teacher's training; default: the recipe's."""
    student: Name = None
    """Network of the student, named likewise; default: the recipe's."""
    seeds: int = 3
    """Runs per method."""
    epochs: Count = None
    """Length of a student's run; default: the recipe's."""
    data: Folder = None
    """Folder of the data set, or of your images; default: the environment variable FRACTIONATE_DATA, else data."""
    validation: bool = False
    """Measure on images taken out of the training set, to choose settings without looking at the test set."""
    methods: MethodNames = ()
    """Which methods, for example: kd dkd+deepkd; or: all. Default: the recipe's."""
    as_described: bool = False
    """Methods whose released code differs from their text, as the text has them (--methods deepkd, or N1: its row)."""
    as_published: bool = False
    """The same as the released code has them; both options run both sides."""
    controls: bool = False
    """Train the controls of DeepKD's and DOT's streams too: the same gains as weights, and the memory alone."""
    workers: Count = None
    """Processes, which share the cores; default: one per core, at most 4. Changes no number where threads is set."""
    together: Perhaps = None
    """Runs with the same batches and teacher side by side in one process, at most N (8): a batch is made once for all
    of them, and the teacher is asked once. Default: where that pays. On a CPU it does not change any number."""
    no_together: Flag = False
    """One run at a time in every process."""
    overwrite: bool = False
    """Train again what is there already."""
    budget: Time = None
    """Stop cleanly after this time, such as 9m or 1h30m; the same command goes on later."""
    device: Device = None
    """Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1; default: the recipe's, auto."""

    def look(self, console: Console) -> Compare:
        """Say what is going to be done, before anything heavy is imported; with the size of the pictures, if any."""
        ask_for_recipe("compare", self.what, self.data, "cifar100-small")
        what, length = settled(
            self.what,
            console,
            data=self.data,
            teacher=self.teacher,
            checkpoint=self.teacher_checkpoint,
            student=self.student,
            method=SEVERAL,
            epochs=self.epochs,
        )
        return replace(self, what=what, **lengths(what, length, self.teacher_epochs))

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from ..runs.stop import deadline
        from ..studies.chosen import Choice
        from ..studies.compare import compare
        from ..studies.jobs import Options

        numbers = {"seeds": self.seeds, "epochs": self.epochs, "workers": self.workers}
        at_least(1, **numbers, teacher_epochs=self.teacher_epochs)
        names, changes = names_and_changes(self.what)
        remember(self.student, self.teacher, *named_in(changes))
        if len(names) != 1:
            raise ValueError(f"name one recipe (fractionate compare cifar100-small); got {names or 'none'}")
        at_once = self.at_once()
        choice = Choice(
            names[0],
            teacher=self.teacher,
            teacher_checkpoint=self.teacher_checkpoint,
            teacher_epochs=self.teacher_epochs,
            student=self.student,
            epochs=self.epochs,
            root=None if self.data is None else str(self.data),
            validation=self.validation,
            changes=[*changes, *([f"device={self.device}"] if self.device else [])],
        )
        compare(
            choice,
            self.out or folder_of(names[0], self.validation),
            console,
            seeds=self.seeds,
            methods=self.sides(),
            workers=self.workers,
            options=Options(self.overwrite, not self.overwrite, command, deadline(self.budget)),
            with_controls=self.controls,
            at_once=at_once,
        )

    def at_once(self) -> int | None:
        """How many runs go side by side at most; none said: as many as pay."""
        from ..studies.units import AT_ONCE

        if self.together is None:
            return 1 if self.no_together else None
        if self.no_together:
            raise ValueError("--together and --no-together exclude each other; leave one out")
        at_least(1, together=min(self.together, default=1))
        return self.together[0] if self.together else AT_ONCE

    def sides(self) -> list[str]:
        """The methods; one side or both of those whose released code differs from their text, if asked for."""
        from ..papers.audit import sides

        if not (self.as_described or self.as_published):
            return list(self.methods)
        return sides(self.methods, described=self.as_described, published=self.as_published)
