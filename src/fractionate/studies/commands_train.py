"""Commands that train, as frozen dataclasses that tyro turns into options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from .words import names_and_changes

if TYPE_CHECKING:
    from rich.console import Console

    from .jobs import Options
    from .train import Choice

Words = tuple[str, ...]
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
class Demo:
    """Distil handwritten digits by several methods: a table, and one page that needs nothing else."""

    out: Path = Path("runs/demo")
    """Folder of the teacher, of every run and of report.html."""
    seeds: int = 5
    """Runs per method."""
    epochs: int = 30
    """Length of a student's run."""
    methods: Words = ()
    """Which methods, for example: kd dkd+deepkd; or: all. Default: labels alone, KD, DKD, GDKD, DOT and DeepKD."""
    workers: int | None = None
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

    what: Positional[Words]
    """Recipe."""
    out: Path | None = None
    """Folder of the teacher, of every run and of report.html; default: runs/RECIPE."""
    seeds: int = 3
    """Runs per method."""
    epochs: int | None = None
    """Length of a student's run; default: the recipe's."""
    data: Path | None = None
    """Folder of the data set; default: that of the environment variable FRACTIONATE_DATA, or data."""
    validation: bool = False
    """Measure on images taken out of the training set, to choose settings without looking at the test set."""
    methods: Words = ()
    """Which methods, for example: kd dkd+deepkd; or: all. Default: the recipe's."""
    workers: int | None = None
    """Processes; default: one per core, at most 4. Does not change any number."""
    overwrite: bool = False
    """Train again what is there already."""
    budget: str | None = None
    """Stop cleanly after this time, such as 9m or 1h30m; the same command goes on later."""

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from ..train import deadline
        from .compare import compare
        from .jobs import Options

        _at_least(1, seeds=self.seeds, epochs=self.epochs, workers=self.workers)
        if len(self.what) != 1:
            raise ValueError(f"name one recipe (fractionate compare cifar100-small); got {list(self.what) or 'none'}")
        compare(
            self.what[0],
            self.out or _folder(self.what[0], self.validation),
            console,
            seeds=self.seeds,
            epochs=self.epochs,
            root=None if self.data is None else str(self.data),
            validation=self.validation,
            methods=self.methods,
            workers=self.workers,
            options=Options(self.overwrite, not self.overwrite, command, deadline(self.budget)),
        )


@dataclass(frozen=True)
class Train:
    """Train students: fractionate train cifar100 --teacher T --student S --method M, or train folder --data DIR."""

    what: Positional[Words] = ()
    """Recipe (digits, cifar100, cifar100-small, folder); with --resume also a run folder; then field=value."""
    config: Path | None = None
    """Config file, such as config.yaml of a run folder, in place of a recipe."""
    recipe: str | None = None
    """Id of a paper's recipe, as (fractionate recipes) lists them, with its networks, method and settings."""
    method: str | None = None
    """Method: kd (the default), dkd(beta=2), dkd+deepkd ... (see: fractionate methods)."""
    over: str | None = None
    """Method that --method, then a wrapper such as deepkd, is put around."""
    teacher: str | None = None
    """Network of the teacher; default: the recipe's. Trained first if it is not in the folder yet."""
    teacher_checkpoint: Path | None = None
    """Weights of the teacher, so that it is not trained."""
    teacher_epochs: int | None = None
    """Length of the teacher's training; default: the recipe's."""
    student: str | None = None
    """Network of the student; default: the recipe's."""
    epochs: int | None = None
    """Length of a student's run; milestones and warm-ups keep their share. Default: the recipe's."""
    data: Path | None = None
    """Folder of the data set; default: that of the environment variable FRACTIONATE_DATA, or data."""
    validation: bool = False
    """Measure on images taken out of the training set, to choose settings without looking at the test set."""
    seeds: int | None = None
    """Train this many times with different seeds."""
    out: Path | None = None
    """Folder of the runs; default: runs/RECIPE, or runs/RECIPE-validation."""
    workers: int = 1
    """Processes."""
    overwrite: bool = False
    """Replace runs that are there."""
    resume: bool = False
    """Go on where unfinished runs stopped: with the same command, or with a run folder alone (--resume DIR)."""
    budget: str | None = None
    """Stop cleanly after this time, such as 9m or 1h30m; --resume goes on later."""
    boards: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Show the metrics there too; metrics.jsonl is written in any case."""
    teacher_at_least: float | None = None
    """Refuse a teacher whose top-1 % on the test images is below this."""
    device: str | None = None
    """Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1; default: the recipe's, auto."""
    teacher_table: Literal["off", "lazy", "full"] | None = None
    """Keep the teacher's logits of the shifts and flips met (lazy), or of all (full); default: the recipe's, off."""
    sync: Literal["gradients", "update"] | None = None
    """What processes that torchrun has started exchange at every step; default: the recipe's, gradients."""
    timeout: str = "10m"
    """Of processes that torchrun has started: one that does not answer for so long counts as lost."""

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from ..recipes import RECIPES
        from .again import resume_run

        options = self._options(command)
        names, changes = names_and_changes(self.what)
        fields = {"device": self.device, "teacher_table": self.teacher_table, "parallel.sync": self.sync}
        changes += [f"{field}={value}" for field, value in fields.items() if value]
        if self.config is not None:
            self._train_config(names, changes, console, options)
        elif self.recipe is not None:
            self._train_paper(names, changes, console, options)
        elif len(names) != 1:
            raise ValueError(f"name one recipe (fractionate train digits) or give --config FILE; got {names or 'none'}")
        elif self.resume and names[0] not in RECIPES:
            self._says_itself("--resume DIR", "seeds", "out", *OF_A_CHOICE)
            resume_run(Path(names[0]), changes, console, options, self.workers)
        else:
            self._train_recipe(names[0], changes, console, options)

    def _options(self, command: Words) -> Options:
        """What holds for all runs of this command, once numbers and flags are looked at."""
        from ..train import deadline
        from ..train.world import restarted
        from .jobs import Options

        _at_least(1, seeds=self.seeds, workers=self.workers, epochs=self.epochs, teacher_epochs=self.teacher_epochs)
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
        from ..train import override, read_config
        from .train import train_config

        if names or self.out is None or self.config is None:
            raise ValueError("--config takes no recipe, and needs --out for the new run folder")
        self._says_itself("--config", "recipe", *OF_A_CHOICE)
        run = override(read_config(self.config), changes)
        train_config(run, self.out, console, seeds=self.seeds, workers=self.workers, options=options)

    def _train_paper(self, names: list[str], changes: list[str], console: Console, options: Options) -> None:
        from .train import train_paper

        if names or self.recipe is None:
            raise ValueError(f"--recipe takes field=value only, got {' '.join(names)}")
        self._says_itself("--recipe", "method", "over", "teacher", "student")
        choice, out = self._choice(self.recipe, changes), self.out or Path("runs") / self.recipe
        train_paper(choice, out, console, seeds=self.seeds or 1, workers=self.workers, options=options)

    def _train_recipe(self, name: str, changes: list[str], console: Console, options: Options) -> None:
        from .train import train_recipe

        choice, out = self._choice(name, changes), self.out or _folder(name, self.validation)
        train_recipe(choice, out, console, seeds=self.seeds or 1, workers=self.workers, options=options)

    def _says_itself(self, what: str, *options: str) -> None:
        """Refuse options that would have no effect, and say what takes their place."""
        for name in options:
            if getattr(self, name):
                raise ValueError(f"{what} brings this itself: in place of --{name.replace('_', '-')}, {INSTEAD[name]}")

    def _choice(self, recipe: str, changes: list[str]) -> Choice:
        from .train import Choice

        method = self.method or "kd"
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


def _folder(recipe: str, validation: bool) -> Path:
    return Path("runs") / (f"{recipe}-validation" if validation else recipe)


def _at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
