"""Commands that try a run out before it is trained, as frozen dataclasses that tyro turns into options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .options import MethodOf, Place, Subject, Words
from .words import names_and_changes

if TYPE_CHECKING:
    from rich.console import Console

    from ..train import Run


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
        from .doctor import doctor

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
        from .profile import profile

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
    from ..recipes import RECIPES, find
    from ..recipes.papers import paper
    from ..train import MethodSpec, override, read_config

    names, changes = names_and_changes(words)
    if len(names) != 1:
        raise ValueError(f"name one config file, run folder or recipe; got {names or 'none'}")
    place = Path(names[0])
    if place.is_dir() or place.suffix in (".yaml", ".yml"):
        return override(read_config(place / "config.yaml" if place.is_dir() else place), changes)
    if "/" in names[0] and names[0] not in RECIPES:
        return paper(names[0]).run(changes)
    recipe = find(names[0])
    return override(recipe.student(MethodSpec.parse(method), recipe.teacher().student), changes)
