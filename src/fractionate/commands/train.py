"""Commands that train, as frozen dataclasses that tyro turns into options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from .._files import expanded
from .options import (
    Boards,
    Count,
    Device,
    File,
    Folder,
    Id,
    Method,
    Name,
    Patience,
    Percent,
    Subject,
    Sync,
    TableMode,
    Time,
    Words,
    ask_for_recipe,
    at_least,
    folder_of,
    names_and_changes,
)
from .own_code import named_in, remember
from .photos import lengths, settled

if TYPE_CHECKING:
    from rich.console import Console

    from ..studies.chosen import Choice
    from ..studies.jobs import Options

# What is written in place of an option where a file or a paper's recipe brings the whole run.
INSTEAD = {
    "method": "write method=NAME or method.args.NAME=VALUE",
    "over": "write method=NAME+WRAPPER",
    "teacher": "write teacher=NAME",
    "teacher_checkpoint": "write teacher.checkpoint=FILE",
    "teacher_epochs": "write teacher.checkpoint=FILE: a file names weights, it trains no teacher",
    "student": "write student=NAME",
    "epochs": "write epochs=N",
    "data": "write data.root=DIR",
    "validation": "write data.evaluate_on=validation",
    "recipe": "name one of the two",
    "seeds": "repeat the command that began the runs",
    "out": "leave it out: the run stays where it is",
}
# Options that fill in a recipe.
OF_A_CHOICE = tuple(name for name in INSTEAD if name not in ("recipe", "seeds", "out"))


@dataclass(frozen=True)
class Train:
    """Train students: fractionate train cifar100 --teacher T --student S --method M, or train folder --data DIR."""

    what: Subject = ()
    """Recipe (digits, cifar100, folder, detection ...), or a run folder after --resume; fields: see config.yaml."""
    config: File = None
    """Config file, such as config.yaml of a run folder, in place of a recipe; needs --out."""
    recipe: Id = None
    """Id of a paper's recipe, as (fractionate recipes) lists them, with its networks, method and settings."""
    method: Method = None
    """Method: kd (the default), dkd(beta=2), dkd+deepkd ... (see: fractionate methods)."""
    over: Method = None
    """With a wrapper as --method: the method inside it (--method deepkd --over gdkd is gdkd+deepkd)."""
    teacher: Name = None
    """Network of the teacher, also timm:NAME or module:function; default: the recipe's. Trained first if need be."""
    teacher_checkpoint: File = None
    """Weights of the teacher (.safetensors, or a .pth of weights), so that it is not trained."""
    teacher_epochs: Count = None
    """Length of the teacher's training; default: the recipe's."""
    student: Name = None
    """Network of the student, named likewise; default: the recipe's."""
    epochs: Count = None
    """Length of a student's run; milestones and warm-ups keep their share. Default: the recipe's."""
    data: Folder = None
    """Folder of the data set, or of your images; default: the environment variable FRACTIONATE_DATA, else data."""
    validation: bool = False
    """Measure on images taken out of the training set, to choose settings without looking at the test set."""
    seeds: Count = None
    """Train this many times with different seeds, each in a folder of its own."""
    out: Folder = None
    """Folder of the runs; default: runs/RECIPE, or runs/RECIPE-validation."""
    workers: int = 1
    """How many of the seeds train at the same time, each in a process with its share of the cores. Changes no number
    where threads is set."""
    overwrite: bool = False
    """Replace runs that are there."""
    resume: bool = False
    """Go on where unfinished runs stopped: with the same command, or with a run folder alone (--resume DIR)."""
    budget: Time = None
    """Stop cleanly after this time, such as 9m or 1h30m; --resume goes on later."""
    boards: Boards = ()
    """Show the metrics there too; metrics.jsonl is written in any case."""
    teacher_at_least: Percent = None
    """Refuse a teacher whose top-1 % on the test images is below this."""
    export: bool = True
    """With folder: leave the student as files for others too (with ONNX and a card), and a page of all runs."""
    device: Device = None
    """Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1; default: the recipe's, auto."""
    teacher_table: TableMode = None
    """Keep the teacher's logits of the shifts and flips met (lazy), or of all (full); default: the recipe's, off."""
    sync: Sync = None
    """With torchrun: what the processes exchange at every step; default: the recipe's, gradients."""
    timeout: Patience = "10m"
    """With torchrun: a process that does not answer for so long counts as lost."""

    def look(self, console: Console) -> Train:
        """Say what is going to be done, before anything heavy is imported; with the size of the pictures, if any."""
        if self.config is not None or self.recipe is not None:
            return self
        ask_for_recipe("train", self.what, self.data, "digits; or --config FILE")
        what, length = settled(
            self.what,
            console,
            data=self.data,
            teacher=self.teacher,
            checkpoint=self.teacher_checkpoint,
            student=self.student,
            method=next((text for text in (self.over, self.method) if text is not None), "kd"),
            epochs=self.epochs,
        )
        return replace(self, what=what, **lengths(what, length, self.teacher_epochs))

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from ..recipes import RECIPES
        from ..studies.train import resume_run

        options = self._options(command)
        names, changes = names_and_changes(self.what)
        fields = {"device": self.device, "teacher_table": self.teacher_table, "parallel.sync": self.sync}
        changes += [f"{field}={value}" for field, value in fields.items() if value]
        remember(self.student, self.teacher, *named_in(changes))
        if self.config is not None:
            self._train_config(names, changes, console, options)
        elif self.recipe is not None:
            self._train_paper(names, changes, console, options)
        elif len(names) != 1:
            given = f"{' '.join(names) or 'none'}{_images_at(names[1:])}"
            raise ValueError(f"name one recipe (fractionate train digits) or give --config FILE; got {given}")
        elif self.resume and names[0] not in RECIPES:
            self._says_itself("--resume DIR", "seeds", "out", *OF_A_CHOICE)
            resume_run(expanded(names[0]), changes, console, options, self.workers)
        elif names[0] not in RECIPES and (images := _images_at(names)):
            raise ValueError(
                f"{names[0]} is a folder, no recipe{images}; to go on with a run: --resume {quote(names[0])}"
            )
        else:
            self._train_recipe(names[0], changes, console, options)

    def _options(self, command: Words) -> Options:
        """What holds for all runs of this command, once numbers and flags are looked at."""
        from ..runs.stop import deadline
        from ..studies.jobs import Options
        from ..world import restarted

        at_least(1, seeds=self.seeds, workers=self.workers, epochs=self.epochs, teacher_epochs=self.teacher_epochs)
        if self.overwrite and self.resume:
            raise ValueError("--overwrite and --resume exclude each other")
        if self.teacher_at_least is not None and not 0 <= self.teacher_at_least <= 100:
            raise ValueError(f"--teacher-at-least is an accuracy in percent, 0..100, got {self.teacher_at_least}")
        return Options(
            self.overwrite and not restarted(),
            self.resume or restarted(),
            command,
            deadline(self.budget),
            teacher_at_least=self.teacher_at_least,
            boards=self.boards,
        )

    def _train_config(self, names: list[str], changes: list[str], console: Console, options: Options) -> None:
        from ..config.files import check_there, override, read_config
        from ..studies.train import train_config

        if names or self.out is None or self.config is None:
            raise ValueError("--config takes no recipe, and needs --out for the new run folder")
        self._says_itself("--config", "recipe", *OF_A_CHOICE)
        run = override(read_config(self.config), changes)
        check_there(run, self.config)
        train_config(run, self.out, console, seeds=self.seeds, workers=self.workers, options=options)

    def _train_paper(self, names: list[str], changes: list[str], console: Console, options: Options) -> None:
        from ..studies.train import train_paper

        if names or self.recipe is None:
            raise ValueError(f"--recipe takes field=value only, got {' '.join(names)}")
        self._says_itself("--recipe", "method", "over", "teacher", "student")
        choice, out = self._choice(self.recipe, changes), self.out or Path("runs") / self.recipe
        train_paper(choice, out, console, seeds=self.seeds or 1, workers=self.workers, options=options)

    def _train_recipe(self, name: str, changes: list[str], console: Console, options: Options) -> None:
        from ..studies.train import train_recipe

        choice, out = self._choice(name, changes), self.out or folder_of(name, self.validation)
        folders = train_recipe(choice, out, console, seeds=self.seeds or 1, workers=self.workers, options=options)
        if name == "folder" and self.export:
            from ..studies.shipped import ship

            ship(folders, console)

    def _says_itself(self, what: str, *options: str) -> None:
        """Refuse options that would have no effect, and say what takes their place."""
        for name in options:
            if getattr(self, name):
                raise ValueError(f"{what} brings this itself: in place of --{name.replace('_', '-')}, {INSTEAD[name]}")

    def _choice(self, recipe: str, changes: list[str]) -> Choice:
        from ..studies.chosen import Choice

        method = "kd" if self.method is None else self.method
        return Choice(
            recipe,
            method if self.over is None else f"{self.over}+{method}",
            self.teacher,
            self.teacher_checkpoint,
            self.teacher_epochs,
            self.student,
            self.epochs,
            None if self.data is None else str(self.data),
            self.validation,
            changes,
        )


def _images_at(names: list[str]) -> str:
    """What to write, if one of the words is a folder."""
    folder = next((name for name in names if Path(name).is_dir()), None)
    return f"; to train on images of your own: fractionate train folder --data {quote(folder)}" if folder else ""
