"""Commands that look at what is there, as frozen dataclasses that tyro turns into options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .options import File, Name, Parts, Runs, Text, Words

if TYPE_CHECKING:
    from rich.console import Console


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
        from .inspect import print_methods

        print_methods(console)
