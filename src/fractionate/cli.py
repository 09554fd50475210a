"""The command line: argument parsing only. Every command is a function of :mod:`fractionate.studies`."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import warnings
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from . import __version__
from ._choices import unknown

if TYPE_CHECKING:
    from .commands.table import Command

ABOUT = "Knowledge distillation on PyTorch. To see it at work: fractionate demo. Options: fractionate COMMAND --help."
BAD_INPUT = 2
PEER_LOST = 69  # EX_UNAVAILABLE of sysexits.h


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: words after the program's name; by default those of the process.

    Returns:
        Exit code: 0; 2 for bad input (one line on standard error); 130 and 143 after SIGINT and SIGTERM, 75 when a time
        budget is used up (a run in progress is saved then, and --resume goes on; 0 under torchrun --max-restarts, which
        would start it again); 69 when another process of the same run is lost.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in (["--version"], ["-V"]):
        print(f"fractionate {__version__}")
        return 0
    try:
        command = _parse(words)
        if command is not None:
            return _run(command, ("fractionate", *words))
    except KeyboardInterrupt:
        print("fractionate: interrupted", file=sys.stderr)
        return 130
    except (ValueError, ArithmeticError, ImportError, OSError) as error:
        print(f"fractionate: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    return 0


def _run(command: Command, words: tuple[str, ...]) -> int:
    """Exit code of a command that may also end early, by intention."""
    from rich.console import Console

    from .optim import PeerLost
    from .runs.stop import Stopped, duration
    from .world import Elsewhere, joined, launched, restarts, speaks

    timeout = getattr(command, "timeout", None)
    if timeout is None and launched() > 1:
        raise ValueError(f"{words[1]} runs in one process; of all commands only train divides its work over many")

    def say(message: Warning | str, *_: object, **__: object) -> None:
        print(f"fractionate: {' '.join(str(message).split())}", file=sys.stderr)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = say
            with joined(timeout=duration(timeout or "10m")) as world:
                command(Console(quiet=not world.main), words)
    except Elsewhere:
        return BAD_INPUT
    except PeerLost as lost:
        say(str(lost))
        return PEER_LOST
    except Stopped as stopped:
        if speaks():
            say(str(stopped))
        return 0 if restarts() else stopped.exit_code  # torchrun would take any other code for a failure
    return 0


def _parse(words: list[str]) -> Command | None:
    """The command with its options; ``None`` when only help was wanted (and printed).

    Raises:
        ValueError: words that cannot be read.
    """
    try:
        import tyro

        from .commands.table import COMMANDS, FLAGS, options
    except ImportError as error:
        raise ImportError("the command line needs the extra 'train': pip install 'fractionate[train]'") from error
    named = words and not words[0].startswith("-")
    if named and words[0] not in COMMANDS:
        raise ValueError(unknown("command", words[0], COMMANDS))
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            args = _fields_together(words, FLAGS) or ["--help"]
            return tyro.cli(options(), prog="fractionate", description=ABOUT, args=args)
    except SystemExit as end:
        if end.code in (0, None):
            return None
        raise ValueError(_sentence(complaint.getvalue())) from None


def _fields_together(words: list[str], flags: Collection[str] = ()) -> list[str]:
    """Positional words may stand anywhere on the line; argparse wants them side by side.

    These are the words before the first option, those after a flag, and every ``field=value`` that is no option's.

    Args:
        words: after the program's name.
        flags: options that take no value.

    Example:
        >>> _fields_together(["train", "digits", "--seeds", "1", "epochs=3"])
        ['train', 'digits', 'epochs=3', '--seeds', '1']
        >>> _fields_together(["train", "--resume", "runs/kd", "--seeds", "1"], {"--resume"})
        ['train', 'runs/kd', '--resume', '--seeds', '1']
    """
    moved: list[str] = []
    rest: list[str] = []
    before, value = "", False  # the word before, and whether an option has its first value still to come
    for word in words[1:]:
        option = word.startswith("-")
        free = not before or before in flags  # no option takes this word
        if not option and not value and (free or re.match(r"[\w.]+=", word)):
            moved.append(word)
        else:
            rest.append(word)
            value = option and word not in flags and "=" not in word
            before = ("" if "=" in word else word) if option else before
    return [*words[:1], *moved, *rest]


def _sentence(box: str) -> str:
    """tyro's framed complaint as one line: its first paragraph, and what it thinks was meant."""
    paragraphs: list[list[str]] = [[]]
    for line in box.strip().splitlines()[1:]:  # the first line is the frame's title
        words = line.strip("│╭╮╰╯ ")
        if not words.strip("─-"):
            paragraphs.append([])
        else:
            paragraphs[-1].append(words)
    first, *more = [" ".join(p) for p in paragraphs if p]
    meant = next((re.findall(r"--[\w-]+", p) for p in more if p.startswith("Perhaps you meant")), [])
    return f"{first}; did you mean {meant[0]}?" if meant else first


if __name__ == "__main__":
    sys.exit(main())
