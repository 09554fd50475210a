"""``fractionate train --resume DIR``: a run goes on from its folder alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..train import override, read_config
from ..train.runfolder import CONFIG, SUMMARY
from .train import train_config

if TYPE_CHECKING:
    from rich.console import Console

    from .jobs import Options

SHOWN = 3


def resume_run(folder: Path, changes: Sequence[str], console: Console, options: Options, workers: int = 1) -> None:
    """Go on with the run that a folder holds, under the config that lies there.

    Args:
        folder: run folder.
        changes: ``field=value``; applied from here on and recorded in the summary, or refused.
        console: where progress goes.
        options: with ``resume`` on.
        workers: processes.

    Raises:
        ValueError: no run there; a change that cannot be made under way.
    """
    if not (folder / CONFIG).is_file():
        raise ValueError(_no_run(folder))
    train_config(override(read_config(folder / CONFIG), changes), folder, console, workers=workers, options=options)


def _no_run(folder: Path) -> str:
    if not folder.exists():
        return f"there is no folder {folder}; name the folder of the run that shall go on"
    below = sorted(p.parent for p in folder.rglob(CONFIG)) if folder.is_dir() else []
    if not below:
        return f"{folder} holds no run (no {CONFIG}); name the folder of the run that shall go on"
    unfinished = [str(p) for p in below if not (p / SUMMARY).is_file()]
    names = f": {', '.join(unfinished[:SHOWN])}{' ...' if len(unfinished) > SHOWN else ''}" if unfinished else ""
    return (
        f"{folder} is a folder of runs ({len(below)}, unfinished {len(unfinished)}{names}); name one, or repeat the "
        f"command that began them with --resume, which also trains those that have not begun"
    )
