"""Types of options, and words on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from .._files import expanded

if TYPE_CHECKING:
    from .table import Command


def names_and_changes(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take ``field=value`` apart from the rest; a folder may have such a name, as ``dkd_beta=2/seed-0`` has.

    Example:
        >>> names_and_changes(["digits", "epochs=3", "runs/dkd_beta=2"])
        (['digits', 'runs/dkd_beta=2'], ['epochs=3'])
    """
    changes = [word for word in words if re.match(r"[\w.]+=", word) and not Path(word).is_dir()]
    return [word for word in words if word not in changes], changes


def ask_for_recipe(command: str, words: Sequence[str], data: Path | None, example: str) -> None:
    """Refuse a command that names nothing to work on, before torch is loaded; a folder alone is not named for it.

    Example:
        >>> ask_for_recipe("train", ["epochs=3"], Path("my/images"), "digits")
        Traceback (most recent call last):
        ValueError: name one recipe; images of your own: fractionate train folder --data my/images
    """
    if not names_and_changes(words)[0]:
        yours = f"images of your own: fractionate {command} folder --data {quote(str(data))}"
        raise ValueError(f"name one recipe{f'; {yours}' if data else f' (fractionate {command} {example}); got none'}")


def folder_of(recipe: str, validation: bool) -> Path:
    """Where the runs of a recipe go if nothing else is said."""
    return Path("runs") / (f"{recipe}-validation" if validation else recipe)


def at_least(least: int, **values: int | None) -> None:
    """Refuse a number that is given and too small, by the name of its option."""
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")


def at_home(command: Command) -> Command:
    """The command with ``~`` in its paths written out: no shell does that inside of ``--out=~/runs``."""
    found = {field.name: getattr(command, field.name) for field in fields(command)}
    return replace(command, **{name: _at_home(value) for name, value in found.items()})


def _at_home(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_at_home(one) for one in value)
    return expanded(value) if isinstance(value, Path) else value


Words = tuple[str, ...]


def shown(metavar: str) -> Any:
    """An option whose value is shown as ``metavar``, without tyro's remark on the default."""
    return arg(metavar=metavar, help_behavior_hint="")


Folder = Annotated[Path | None, shown("DIR")]
File = Annotated[Path | None, shown("FILE")]
Name = Annotated[str | None, shown("NAME")]
Id = Annotated[str | None, shown("ID")]
Method = Annotated[str | None, shown("METHOD")]
MethodNames = Annotated[Words, shown("METHOD ...")]
Count = Annotated[int | None, shown("N")]
Device = Annotated[str | None, shown("DEVICE")]
Flag = FlagCreatePairsOff[bool]  # an option without a word, and without another that takes it back
Perhaps = Annotated[tuple[int, ...] | None, shown("[N]")]  # an option with or without a number
TableMode = Annotated[Literal["off", "lazy", "full"] | None, shown("{off,lazy,full}")]
Percent = Annotated[float | None, shown("PERCENT")]
Time = Annotated[str | None, shown("TIME")]
Pixels = Annotated[Literal["library", "data"] | None, shown("{library,data}")]
Sync = Annotated[Literal["gradients", "update"] | None, shown("{gradients,update}")]
Boards = Annotated[tuple[Literal["tensorboard", "wandb"], ...], shown("{tensorboard,wandb} ...")]

# With a default that the help names.
Place = Annotated[Path, arg(metavar="DIR")]
Text = Annotated[str, arg(metavar="TEXT")]
SetName = Annotated[str, arg(metavar="DIR|SET")]
AnyDevice = Annotated[str, arg(metavar="DEVICE")]
MethodOf = Annotated[str, arg(metavar="METHOD")]
Patience = Annotated[str, arg(metavar="TIME")]
Formats = Annotated[tuple[Literal["safetensors", "onnx", "torch-export"], ...], arg(metavar="FORMAT ...")]

# Words without an option before them.
Subject = Annotated[Positional[Words], shown("[NAME] [FIELD=VALUE ...]")]
Parts = Annotated[Positional[Words], shown("[WORD ...]")]
OneRun = Annotated[Positional[Path | None], shown("[RUN]")]
ThisRun = Annotated[Positional[Path], shown("RUN")]
Runs = Annotated[Positional[tuple[Path, ...]], shown("RUN ...")]
Pictures = Annotated[Positional[tuple[Path, ...]], shown("PICTURE ...")]
