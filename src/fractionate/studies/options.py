"""How options look in ``--help``: a word for the value, and nothing about a default that is no value.

``out: Folder = None`` shows as ``--out DIR``; what happens without it stands in the text below the field.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

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
TableMode = Annotated[Literal["off", "lazy", "full"] | None, shown("{off,lazy,full}")]
Percent = Annotated[float | None, shown("PERCENT")]
Time = Annotated[str | None, shown("TIME")]
Sync = Annotated[Literal["gradients", "update"] | None, shown("{gradients,update}")]
Boards = Annotated[tuple[Literal["tensorboard", "wandb"], ...], shown("{tensorboard,wandb} ...")]

# With a default that the help names.
Place = Annotated[Path, arg(metavar="DIR")]
Text = Annotated[str, arg(metavar="TEXT")]
SetName = Annotated[str, arg(metavar="SET")]
MethodOf = Annotated[str, arg(metavar="METHOD")]
Patience = Annotated[str, arg(metavar="TIME")]
Formats = Annotated[tuple[Literal["safetensors", "onnx", "torch-export"], ...], arg(metavar="FORMAT ...")]

# Words without an option before them.
OneRecipe = Annotated[Positional[Words], shown("RECIPE")]
Subject = Annotated[Positional[Words], shown("[NAME] [FIELD=VALUE ...]")]
Parts = Annotated[Positional[Words], shown("[WORD ...]")]
OneRun = Annotated[Positional[Path | None], shown("[RUN]")]
ThisRun = Annotated[Positional[Path], shown("RUN")]
Runs = Annotated[Positional[tuple[Path, ...]], shown("RUN ...")]
