"""Commands that look at what is there: methods, recipes, reports, doctor, profile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files import expanded
from .options import (
    Count,
    File,
    Folder,
    MethodOf,
    Name,
    Parts,
    Place,
    Runs,
    Subject,
    Text,
    Words,
    at_least,
    names_and_changes,
)
from .own_code import check_own_code
from .photos import settled

if TYPE_CHECKING:
    from rich.console import Console

    from ..config.run import Run


@dataclass(frozen=True)
class Report:
    """Compare runs: a table here, and with --out one self-contained HTML page."""

    runs: Runs
    """Run folders, or folders of run folders."""
    out: File = None
    """Write an HTML page to this file."""
    title: Text = "Distillation report"
    """Title of the page."""
    baseline: Name = None
    """Row that the others are compared with; default: labels alone, else kd, else the first."""

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from ..report import print_table, write_page

        if not self.runs:
            raise ValueError("name at least one run folder, or a folder of run folders")
        print_table(self.runs, console, self.baseline)
        if self.out is not None:
            write_page(self.runs, self.out, title=self.title, baseline=self.baseline)
            console.print(str(self.out), markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Recipes:
    """List the papers' recipes that hold all given words, or show one in full: fractionate recipes show ID."""

    words: Parts = ()
    """Parts of an id, a method, a network or a status; or: show ID."""

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from .recipes import print_recipes, show_recipe

        if self.words[:1] == ("show",):
            if len(self.words) != 2:
                raise ValueError("name one recipe: fractionate recipes show ID (fractionate recipes lists them)")
            show_recipe(self.words[1], console)
        else:
            print_recipes(self.words, console)


@dataclass(frozen=True)
class Methods:
    """List every method with its formula, defaults, cost and source; or those whose name has one of the given words."""

    words: Parts = ()
    """Parts of a name: deepkd, kd ..."""
    map: bool = False
    """Show every method as a point on the axes instead: partition, direction, weights, relation, stream."""

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from ..probe.measure import print_map, print_methods

        (print_map if self.map else print_methods)(console, self.words)


@dataclass(frozen=True)
class Doctor:
    """Look at everything a run needs, in seconds: data, networks, teacher, disk, memory, one step of every stream."""

    what: Subject = ()
    """Config file, run folder, recipe (digits, cifar100 ...) or a paper's recipe id; then field=value."""
    method: MethodOf = "kd"
    """Method, with a recipe's name."""
    data: Folder = None
    """Folder of the data set, with a recipe's name, or of your images."""
    teacher: Name = None
    """Network of the teacher, with a recipe's name; default: the recipe's."""
    teacher_checkpoint: File = None
    """Weights of the teacher."""
    student: Name = None
    """Network of the student, with a recipe's name; default: the recipe's."""
    epochs: Count = None
    """Length of the run, with a recipe's name; default: the recipe's."""
    out: Place = Path("runs")
    """Where the run is going to be written."""
    own_code: bool = False
    """Run the module or file that a run folder's config names for its network; only for runs of people you trust."""

    def look(self, console: Console) -> Doctor:
        """Say what was found in a folder of pictures, before anything heavy is imported, also in a folder alone."""
        what, length = settled(
            _with_folder(self.what, self.data),
            console,
            data=self.data,
            teacher=self.teacher,
            checkpoint=self.teacher_checkpoint,
            student=self.student,
            method=self.method,
            epochs=self.epochs,
        )
        return replace(self, what=what, epochs=length or self.epochs)

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from ..probe.doctor import doctor

        at_least(1, epochs=self.epochs)
        named = Named(self.teacher, self.teacher_checkpoint, self.student, self.data, self.epochs)
        run = chosen_run(self.what, self.method, named, own_code=self.own_code)
        problems = [f.what for f in doctor(run, console, out=self.out) if not f.ok]
        if problems:
            raise ValueError(f"not ready to train: {', '.join(problems)}")


@dataclass(frozen=True)
class Profile:
    """Where the time of a training step goes, part by part, beside the least time its operations take here."""

    what: Subject = ()
    """Config file, run folder, recipe (digits, cifar100 ...) or a paper's recipe id; then field=value."""
    method: MethodOf = "kd"
    """Method, with a recipe's name."""
    data: Folder = None
    """Folder of the data set, with a recipe's name, or of your images."""
    teacher: Name = None
    """Network of the teacher, with a recipe's name; default: the recipe's."""
    student: Name = None
    """Network of the student, with a recipe's name; default: the recipe's."""
    steps: int = 10
    """Steps that are timed."""
    own_code: bool = False
    """Run the module or file that a run folder's config names for its network; only for runs of people you trust."""

    def look(self, console: Console) -> Profile:
        """Say what was found in a folder of pictures, before anything heavy is imported, also in a folder alone."""
        what, _ = settled(
            _with_folder(self.what, self.data),
            console,
            data=self.data,
            teacher=self.teacher,
            student=self.student,
            method=self.method,
        )
        return replace(self, what=what)

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from ..probe.profile import profile

        named = Named(self.teacher, student=self.student, data=self.data)
        profile(chosen_run(self.what, self.method, named, own_code=self.own_code), console, steps=self.steps)


@dataclass(frozen=True)
class Named:
    """What options say about a recipe that goes by its name."""

    teacher: str | None = None
    teacher_checkpoint: Path | None = None
    student: str | None = None
    data: Path | None = None
    epochs: int | None = None


def chosen_run(words: Words, method: str = "kd", named: Named | None = None, *, own_code: bool = False) -> Run:
    """The run that a command line means.

    Args:
        words: a config file, a run folder, a recipe's name or a paper's recipe id; then ``field=value``.
        method: of a recipe that goes by name.
        named: networks, folder and length of a recipe that goes by name.
        own_code: whether the config of a run folder may name code of its own.

    Raises:
        ValueError: none of these, a change that does not fit, options beside what says all itself, or such code.

    Example:
        >>> chosen_run(("digits", "epochs=3"), "dkd").epochs
        3
    """
    from ..config.files import override, read_config
    from ..papers.recipes import paper
    from ..recipes import RECIPES

    names, changes = names_and_changes(words)
    if len(names) != 1:
        raise ValueError(f"name one config file, run folder or recipe; got {names or 'none'}")
    place = expanded(names[0])
    is_config = place.is_dir() or place.suffix in (".yaml", ".yml")
    if (is_config or ("/" in names[0] and names[0] not in RECIPES)) and named not in (None, Named()):
        raise ValueError(
            f"{names[0]} says itself which networks and images: in place of the options write teacher=NAME, "
            f"teacher.checkpoint=FILE, student=NAME, data.root=DIR, epochs=N"
        )
    if place.is_dir():
        check_own_code(place, own_code)
    if is_config:
        return override(read_config(place / "config.yaml" if place.is_dir() else place), changes)
    if "/" in names[0] and names[0] not in RECIPES:
        return paper(names[0]).run(changes)
    return override(_of_recipe(names[0], method, named or Named()), changes)


def _with_folder(what: Words, data: Path | None) -> Words:
    """The words, with the recipe for folders where ``--data`` stands alone."""
    return what if data is None or names_and_changes(what)[0] else ("folder", *what)


def _of_recipe(name: str, method: str, named: Named) -> Run:
    from ..recipes import placed
    from ..recipes.streams import usual

    recipe = placed(name, None if named.data is None else str(named.data))
    teacher = recipe.teacher(**({"name": named.teacher} if named.teacher else {})).student
    weights = None if named.teacher_checkpoint is None else str(named.teacher_checkpoint)
    student: dict[str, Any] = {"name": named.student} if named.student else {}
    student |= {"epochs": named.epochs} if named.epochs else {}
    taught = replace(teacher, checkpoint=weights)
    spec, _ = usual(method, lambda spec: recipe.student(spec, taught, **student))
    return recipe.student(spec, taught, **student)
