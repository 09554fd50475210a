"""All commands by name; each is a frozen dataclass with a docstring per option."""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import Annotated, Any

from tyro.conf import subcommand

from .compare import Compare, Demo
from .handover import Evaluate, Export
from .linear_probe import LinearProbe
from .look import Doctor, Methods, Profile, Recipes, Report
from .predict import Predict
from .study import Study
from .train import Train
from .tune import Tune

Looks = Report | Methods | Recipes | Doctor | Profile
Command = Demo | Compare | Study | Train | Tune | Evaluate | Predict | LinearProbe | Export | Looks

COMMANDS: dict[str, type[Command]] = {
    "demo": Demo,
    "compare": Compare,
    "study": Study,
    "train": Train,
    "tune": Tune,
    "evaluate": Evaluate,
    "predict": Predict,
    "linear-probe": LinearProbe,
    "export": Export,
    "report": Report,
    "methods": Methods,
    "recipes": Recipes,
    "doctor": Doctor,
    "profile": Profile,
}

# Options without a value.
FLAGS = frozenset(
    f"--{no}{field.name.replace('_', '-')}"
    for command in COMMANDS.values()
    for field in dataclasses.fields(command)
    if field.type == "bool"
    for no in ("", "no-")
)


def options() -> Any:
    """The type that ``tyro.cli`` reads: one of the commands, each under its name."""
    named = [Annotated[command, subcommand(name)] for name, command in COMMANDS.items()]
    return functools.reduce(operator.or_, named)
