"""The metrics of a run for programs that draw them: TensorBoard, Weights & Biases."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from .._choices import choose
from .config import Run
from .configfile import to_plain
from .fit import Record

Board = Literal["tensorboard", "wandb"]
Write = Callable[[Record], None]


@contextmanager
def boards(kinds: Sequence[Board], run: Run, folder: Path) -> Iterator[Write]:
    """A function that shows a record on every board; ``metrics.jsonl`` is written in any case.

    Args:
        kinds: which boards.
        run: its config is shown too.
        folder: the run folder; TensorBoard's files lie in ``tensorboard`` below it.

    Raises:
        ValueError: an unknown board.
        ImportError: its package is not installed.

    Example:
        >>> from fractionate.train import MethodSpec, Network
        >>> with boards((), Run(student=Network("convnet_4_8"), method=MethodSpec("ce")), Path(".")) as write:
        ...     callable(write)
        True
    """
    for kind in kinds:
        choose("board", kind, tuple(BOARDS))
        _check_installed(kind)
    opened: list[Opened] = []

    def write(record: Record) -> None:
        if not opened:  # not before the run folder is known to be free
            opened.extend(BOARDS[kind](run, folder) for kind in kinds)
        columns = {name: value for name, value in record.columns().items() if value is not None and name != "epoch"}
        for show, _ in opened:
            show(columns, record.epoch)

    try:
        yield write
    finally:
        for _, close in opened:
            close()


def _check_installed(kind: Board) -> None:
    if kind not in sys.modules and importlib.util.find_spec(kind) is None:
        extra = "boards" if kind == "tensorboard" else kind
        raise ImportError(
            f"the board {kind!r} needs a package that is not installed: pip install 'fractionate[{extra}]'"
        )


Opened = tuple[Callable[[dict[str, Any], int], None], Callable[[], None]]


def _tensorboard(run: Run, folder: Path) -> Opened:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def show(columns: dict[str, Any], epoch: int) -> None:
        for name, value in columns.items():
            writer.add_scalar(name, value, epoch)

    return show, writer.close


def _wandb(run: Run, folder: Path) -> Opened:
    import wandb

    name = f"{run.data.name}/{run.method.title}/seed-{run.seed}"
    started = wandb.init(project="fractionate", name=name, dir=str(folder), config=to_plain(run))
    return (lambda columns, epoch: started.log(columns, step=epoch)), started.finish


BOARDS: dict[Board, Callable[[Run, Path], Opened]] = {"tensorboard": _tensorboard, "wandb": _wandb}
