"""Commands that look at what is there: methods, recipes, reports, doctor, profile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .._files import expanded
from .options import File, MethodOf, Name, Parts, Place, Runs, Subject, Text, Words, names_and_changes

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
    """List every method with its formula, defaults, cost and source."""

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from ..probe.measure import print_methods

        print_methods(console)


@dataclass(frozen=True)
class Doctor:
    """Look at everything a run needs, in seconds: data, networks, teacher, disk, memory, one step of every stream."""

    what: Subject = ()
    """Config file, run folder, recipe (digits, cifar100 ...) or a paper's recipe id; then field=value."""
    method: MethodOf = "kd"
    """Method, with a recipe's name."""
    out: Place = Path("runs")
    """Where the run is going to be written."""

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from ..probe.doctor import doctor

        problems = [f.what for f in doctor(chosen_run(self.what, self.method), console, out=self.out) if not f.ok]
        if problems:
            raise ValueError(f"not ready to train: {', '.join(problems)}")


@dataclass(frozen=True)
class Profile:
    """Where the time of a training step goes, part by part, beside the least time its operations take here."""

    what: Subject = ()
    """Config file, run folder, recipe (digits, cifar100 ...) or a paper's recipe id; then field=value."""
    method: MethodOf = "kd"
    """Method, with a recipe's name."""
    steps: int = 10
    """Steps that are timed."""

    def __call__(self, console: Console, command: Words) -> None:
        """Run it."""
        from ..probe.profile import profile

        profile(chosen_run(self.what, self.method), console, steps=self.steps)


def chosen_run(words: Words, method: str = "kd") -> Run:
    """The run that a command line means.

    Args:
        words: a config file, a run folder, a recipe's name or a paper's recipe id; then ``field=value``.
        method: of a recipe that goes by name.

    Raises:
        ValueError: none of these, or a change that does not fit.

    Example:
        >>> chosen_run(("digits", "epochs=3"), "dkd").epochs
        3
    """
    from ..config.files import override, read_config
    from ..config.method import MethodSpec
    from ..papers.recipes import paper
    from ..recipes import RECIPES, find

    names, changes = names_and_changes(words)
    if len(names) != 1:
        raise ValueError(f"name one config file, run folder or recipe; got {names or 'none'}")
    place = expanded(names[0])
    if place.is_dir() or place.suffix in (".yaml", ".yml"):
        return override(read_config(place / "config.yaml" if place.is_dir() else place), changes)
    if "/" in names[0] and names[0] not in RECIPES:
        return paper(names[0]).run(changes)
    recipe = find(names[0])
    return override(recipe.student(MethodSpec.parse(method), recipe.teacher().student), changes)
