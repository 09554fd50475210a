"""The command line: argument parsing only. Every command is a function of :mod:`fractionate.studies`."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import platform
import re
import sys
import sysconfig
import tempfile
import traceback
import typing
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from ._choices import unknown
from ._terminal import Steady, say

if TYPE_CHECKING:
    from rich.console import Console

    from .commands.table import Command

ABOUT = "Knowledge distillation on PyTorch. To see it at work: fractionate demo. Options: fractionate COMMAND --help."
BAD_INPUT = 2
PEER_LOST = 69  # EX_UNAVAILABLE of sysexits.h
NO_READER = 141  # as shells report a process that SIGPIPE has ended
RESUMING = ("compare", "study", "tune")
LASTING = ("demo", "compare", "train", "study", "tune", "export")  # what they leave is worth more than what they print


@typing.runtime_checkable
class Looking(typing.Protocol):
    """A command that says at once what it is going to do."""

    def look(self, console: Console) -> Command:
        """Say it; returns the command with what was settled thereby."""
        ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: words after the program's name; by default those of the process.

    Returns:
        Exit code: 0; 2 if it could not be done (one line on standard error says why); 130 and 143 after SIGINT and
        SIGTERM, 75 when a time budget is used up (a run in progress is saved then, and --resume goes on; 0 under
        torchrun --max-restarts, which would start it again); 69 when another process of the same run is lost; 141 when
        nobody reads what a command prints. Training goes on without a reader.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    lists = words == ["study"] or not {"-h", "--help"}.isdisjoint(words)  # whatever the command, that is all it does
    lasting = not lists and bool(words) and words[0] in LASTING
    out, err = Steady(sys.stdout, _goes_on if lasting else None), Steady(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _answer(words)
        out.end()
        if out.failure is not None and not lasting and code == 0:
            code = NO_READER if out.failure.errno == errno.EPIPE else BAD_INPUT
            if code == BAD_INPUT:
                say(f"standard output cannot be written: {out.failure.strerror}")
        err.end()
    return code


def _goes_on(failure: OSError) -> None:
    say(f"standard output cannot be written ({failure.strerror}); the work goes on without it")


def _answer(words: list[str]) -> int:
    """Exit code of the words; whatever goes wrong is said in one line."""
    if words in (["--version"], ["-V"]):
        print(f"fractionate {__version__}")
        return 0
    try:
        command = _parse(words)
        return 0 if command is None else _run(command, ("fractionate", *words))
    except KeyboardInterrupt:
        say(f"interrupted{'; the same command goes on' if words[0] in RESUMING else ''}")
        return 130
    except (ValueError, ArithmeticError, ImportError, OSError) as error:
        say(error)
    except SystemExit as end:  # of a module that was imported for its network
        say(f"a module that this command has loaded ends the program (sys.exit, code {end.code})")
    except BaseException as error:  # of somebody else's code, which may raise what it likes
        say(_fault(error, words))
    return BAD_INPUT


def _run(command: Command, words: tuple[str, ...]) -> int:
    """Exit code of a command that may also end early, by intention."""
    from rich.console import Console

    if isinstance(command, Looking):  # it speaks before torch is imported, which takes seconds
        # The file by name: rich then knows its encoding, and draws boxes of ASCII where they have to be.
        command = command.look(Console(file=sys.stdout, quiet=os.environ.get("RANK", "0") != "0"))
    from .optim import PeerLost
    from .runs.stop import Stopped, duration
    from .world import Elsewhere, joined, launched, restarts, speaks

    timeout = getattr(command, "timeout", None)
    if timeout is None and launched() > 1:
        raise ValueError(f"{words[1]} runs in one process; of all commands only train divides its work over many")

    try:
        with warnings.catch_warnings():
            warnings.showwarning = say if speaks() else _unsaid
            with joined(timeout=duration(timeout or "10m")) as world:
                command(Console(file=sys.stdout, quiet=not world.main), words)
    except Elsewhere:
        return BAD_INPUT
    except PeerLost as lost:
        say(lost)
        return PEER_LOST
    except Stopped as stopped:
        if speaks():
            say(stopped.told(hasattr(command, "resume")))
        return 0 if restarts() else stopped.exit_code  # torchrun would take any other code for a failure
    return 0


def _unsaid(*_: object, **__: object) -> None:
    """A warning in a process that does not speak: the one that does has had the same cause, and says it."""


def _parse(words: list[str]) -> Command | None:
    """The command with its options; ``None`` when only help was wanted (and printed).

    Raises:
        ValueError: words that cannot be read.
    """
    try:
        from .commands import COMMANDS, command
        from .commands.options import at_home
    except ModuleNotFoundError as error:
        raise ImportError("the command line needs the extra 'train': pip install 'fractionate[train]'") from error
    args = words or ["--help"]
    if not args[0].startswith("-"):
        if args[0] not in COMMANDS:
            raise ValueError(unknown("command", args[0], COMMANDS))
        args = _fields_together(args, *_takers(command(args[0])))
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return at_home(_read(args))
    except SystemExit as end:
        if end.code in (0, None):
            return None
        raise ValueError(_sentence(complaint.getvalue())) from None


def _read(args: list[str]) -> Command:
    """The command that the words mean; only help and complaints, which name options of others too, load all of them."""
    import tyro

    from .commands import COMMANDS, command

    if args[0] in COMMANDS and not {"-h", "--help"} & set(args):
        with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
            return tyro.cli(command(args[0]), prog=f"fractionate {args[0]}", args=args[1:])
    from .commands.table import options

    read: Command = tyro.cli(options(), prog="fractionate", description=ABOUT, args=args)
    return read


def _takers(command: type) -> tuple[set[str], set[str], set[str]]:
    """The options of a command that take no word, those that take several, and those that take a number or none."""
    flags, several, perhaps = {"-h", "--help"}, set(), set()
    for name, hint in typing.get_type_hints(command).items():
        option = name.replace("_", "-")
        if hint is bool:
            flags |= {f"--{option}", f"--no-{option}"}
        elif typing.get_origin(hint) is tuple:
            several.add(f"--{option}")
        elif hint == tuple[int, ...] | None:
            perhaps.add(f"--{option}")
    return flags, several, perhaps


def _fields_together(
    words: list[str], flags: Collection[str] = (), several: Collection[str] = (), perhaps: Collection[str] = ()
) -> list[str]:
    """Positional words may stand anywhere on the line; the parser wants them side by side.

    Neither tyro nor argparse does it: ``parse_intermixed_args`` refuses sub-commands, and both give a
    ``field=value`` behind ``--methods kd dkd`` to that option.

    Args:
        words: after the program's name.
        flags: options that take no value.
        several: options that take every word up to the next option, a second one like ``field=value`` left out.
        perhaps: options that take a number, or nothing.

    Example:
        >>> _fields_together(["train", "digits", "--seeds", "1", "epochs=3"])
        ['train', 'digits', 'epochs=3', '--seeds', '1']
        >>> _fields_together(["train", "--resume", "runs/kd", "--seeds", "1"], {"--resume"})
        ['train', 'runs/kd', '--resume', '--seeds', '1']
        >>> _fields_together(["compare", "--methods", "kd", "dkd", "epochs=3"], several={"--methods"})
        ['compare', 'epochs=3', '--methods', 'kd', 'dkd']
        >>> _fields_together(["compare", "--together", "cifar100"], perhaps={"--together"})
        ['compare', 'cifar100', '--together']
    """
    free: list[str] = []
    rest: list[str] = []
    option, values = "", 0  # the option that takes words, and how many it has
    for word in words[1:]:
        if re.match(r"--?[A-Za-z]", word):
            name, has_value, _ = word.partition("=")
            name = name.replace("_", "-")
            option, values = ("" if has_value or name in flags else name), 0
            rest.append(word)
        elif option in perhaps and not re.fullmatch(r"-?\d+", word):
            free.append(word)
        elif option and (not values or (option in several and not re.match(r"[\w.]+=", word))):
            values += 1
            rest.append(word)
        else:
            free.append(word)
    return [*words[:1], *free, *rest]


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
    if re.search(rf"{meant[0]}(?![\w-])" if meant else "$^", first):  # an option of other commands
        return f"{first}; --help shows the options of this command"
    return f"{first}; did you mean {meant[0]}?" if meant else first


def _fault(error: BaseException, words: Sequence[str]) -> str:
    """The sentence for an exception that nobody foresaw; its traceback goes to a file."""
    text = str(error)
    if isinstance(error, MemoryError) or re.search(r"out of memory|can.t allocate memory|not enough memory", text):
        return "out of memory; smaller parts of a step need less (accumulate=2), and so does a smaller data.batch_size"
    frame = _culprit(error)
    said = f"{type(error).__name__}: {text.strip().partition(chr(10))[0]} ({frame.filename}:{frame.lineno})"
    if not _ours(frame.filename):
        said += "; that file is no part of fractionate"
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="backslashreplace", prefix="fractionate-", suffix=".txt", delete=False
        ) as file:
            torch = sys.modules.get("torch")
            file.write(f"fractionate {__version__}, torch {getattr(torch, '__version__', 'not loaded')}\n")
            file.write(f"Python {platform.python_version()}, {platform.platform()}\nfractionate {' '.join(words)}\n\n")
            file.writelines(traceback.format_exception(error))
    except OSError:
        return f"this was not foreseen: {said}"
    return f"this was not foreseen: {said}; if it is a fault of fractionate, please report it with {file.name}"


def _culprit(error: BaseException) -> traceback.FrameSummary:
    """Where it was raised; inside a library: who called that."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "purelib", "platlib"))
    candidates = [f for f in frames if _ours(f.filename) or not f.filename.startswith((*libraries, "<"))]
    return (candidates or frames)[-1]


def _ours(file: str) -> bool:
    return Path(file).is_relative_to(Path(__file__).parent)


if __name__ == "__main__":
    sys.exit(main())
