"""What the words of a command line are: names and folders, changes of fields, numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def names_and_changes(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take ``field=value`` apart from the rest; a folder may have such a name, as ``dkd_beta=2/seed-0`` has.

    Example:
        >>> names_and_changes(["digits", "epochs=3", "runs/dkd_beta=2"])
        (['digits', 'runs/dkd_beta=2'], ['epochs=3'])
    """
    changes = [word for word in words if re.match(r"[\w.]+=", word) and not Path(word).is_dir()]
    return [word for word in words if word not in changes], changes


def folder_of(recipe: str, validation: bool) -> Path:
    """Where the runs of a recipe go if nothing else is said."""
    return Path("runs") / (f"{recipe}-validation" if validation else recipe)


def at_least(least: int, **values: int | None) -> None:
    """Refuse a number that is given and too small, by the name of its option."""
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
