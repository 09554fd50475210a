"""The command that turns a budget into a student, as a frozen dataclass that tyro turns into options."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from .options import (
    Count,
    Device,
    File,
    Folder,
    MethodNames,
    Name,
    Subject,
    Words,
    ask_for_recipe,
    at_least,
    names_and_changes,
)
from .own_code import named_in, remember
from .photos import lengths, settled

if TYPE_CHECKING:
    from rich.console import Console

Amount = Annotated[str, arg(metavar="TIME|RUNS")]


@dataclass(frozen=True)
class Tune:
    """A budget in, a student out: fractionate tune digits --budget 20m, or tune folder --data DIR. Resumes."""

    what: Subject = ()
    """Recipe (digits, cifar100, cifar100-small, folder ...); then field=value, which holds for all runs."""
    budget: Amount = "1h"
    """Time of everything, teachers included (20m, 2h); or a number of students' runs of full length (40)."""
    out: Folder = None
    """Folder of all runs, of tune.html and of the student; default: runs/tune-RECIPE."""
    teacher: Name = None
    """Network of the teacher, also timm:NAME or module:function; default: the recipe's. Trained first if need be."""
    teacher_checkpoint: File = None
    """Weights of the teacher (.safetensors, or a .pth of weights), so that it is not trained."""
    teacher_epochs: Count = None
    """Length of the teacher's training; default: the recipe's."""
    student: Name = None
    """Network of the student, named likewise; default: the recipe's."""
    epochs: Count = None
    """Length of a student's run; default: the recipe's."""
    data: Folder = None
    """Folder of the data set, or of your images; default: the environment variable FRACTIONATE_DATA, else data."""
    methods: MethodNames = ()
    """Try these alone, as they come and tuned; default: every published method, the recipe's first."""
    only_published: bool = False
    """Try the methods as they come, and tune nothing."""
    seeds: int = 5
    """Fresh seeds of the confirmation, at most."""
    workers: int = 1
    """How many students train at the same time, each in a process. With a number of runs it changes no number."""
    seed: int = 0
    """Of the proposals."""
    overwrite: bool = False
    """Begin anew."""
    device: Device = None
    """Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1; default: the recipe's, auto."""

    def look(self, console: Console) -> Tune:
        """Say what is going to be done, before anything heavy is imported; with the size of the pictures, if any."""
        if importlib.util.find_spec("optuna") is None:
            raise ImportError("tune needs the extra 'tune': pip install 'fractionate[tune]'")
        ask_for_recipe("tune", self.what, self.data, "digits --budget 20m")
        names, _ = names_and_changes(self.what)
        if len(names) != 1:
            raise ValueError(f"name one recipe (fractionate tune digits --budget 20m); got {names or 'none'}")
        at_least(1, epochs=self.epochs, workers=self.workers, teacher_epochs=self.teacher_epochs)
        at_least(2, seeds=self.seeds)
        kind = "runs of full length, teachers not counted" if self.budget.isdecimal() else "in all, teachers included"
        console.print(
            f"tune {names[0]}: {self.budget} {kind}; a search by halving on a validation part of the training images, "
            f"then the winner and kd with fresh seeds on the test part; page: {self._place(names[0]) / 'tune.html'}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        what, length = settled(
            self.what,
            console,
            data=self.data,
            teacher=self.teacher,
            checkpoint=self.teacher_checkpoint,
            student=self.student,
            epochs=self.epochs,
        )
        return replace(self, what=what, **lengths(what, length, self.teacher_epochs))

    def _place(self, recipe: str) -> Path:
        return self.out or Path("runs") / f"tune-{recipe}"

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from ..studies.chosen import Choice
        from ..studies.jobs import Options
        from ..studies.tuning import Budget, Wish, tune

        names, changes = names_and_changes(self.what)
        remember(self.student, self.teacher, *named_in(changes))
        choice = Choice(
            names[0],
            teacher=self.teacher,
            teacher_checkpoint=self.teacher_checkpoint,
            teacher_epochs=self.teacher_epochs,
            student=self.student,
            epochs=self.epochs,
            root=None if self.data is None else str(self.data),
            changes=[*changes, *([f"device={self.device}"] if self.device else [])],
        )
        wish = Wish(choice, Budget.parse(self.budget), self.seeds, self.methods, self.only_published, self.seed)
        tune(wish, self._place(names[0]), console, Options(overwrite=self.overwrite, command=command), self.workers)
