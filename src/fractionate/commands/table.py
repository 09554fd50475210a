"""All commands at once, as the help of the whole program and its complaints need them."""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from tyro.conf import subcommand

from . import COMMANDS, command

if TYPE_CHECKING:
    from .compare import Compare, Demo
    from .handover import Evaluate, Export, LinearProbe, Predict
    from .look import Doctor, Methods, Profile, Recipes, Report
    from .study import Study
    from .train import Train
    from .tune import Tune

    Looks: TypeAlias = Report | Methods | Recipes | Doctor | Profile
    Command: TypeAlias = Demo | Compare | Study | Train | Tune | Evaluate | Predict | LinearProbe | Export | Looks

# Options without a value.
FLAGS = frozenset(
    f"--{no}{field.name.replace('_', '-')}"
    for name in COMMANDS
    for field in dataclasses.fields(command(name))
    if field.type == "bool"
    for no in ("", "no-")
)


def options() -> Any:
    """The type that ``tyro.cli`` reads: one of the commands, each under its name."""
    named = [Annotated[command(name), subcommand(name)] for name in COMMANDS]
    return functools.reduce(operator.or_, named)
