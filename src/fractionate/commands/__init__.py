"""The command line's commands: words to calls. A command is loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .table import Command

COMMANDS = {
    "demo": "compare.Demo",
    "compare": "compare.Compare",
    "study": "study.Study",
    "train": "train.Train",
    "tune": "tune.Tune",
    "evaluate": "handover.Evaluate",
    "predict": "handover.Predict",
    "linear-probe": "handover.LinearProbe",
    "export": "handover.Export",
    "report": "look.Report",
    "methods": "look.Methods",
    "recipes": "look.Recipes",
    "doctor": "look.Doctor",
    "profile": "look.Profile",
}


def command(name: str) -> type[Command]:
    """The class of a command: a frozen dataclass with a docstring per option."""
    module, _, kind = COMMANDS[name].partition(".")
    found: type[Command] = getattr(import_module(f".{module}", __name__), kind)
    return found
