"""What a terminal, a pipe or a log file can take: signs it knows, no commands in names, no failure of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable
from typing import Any

# Control characters other than tab, newline and carriage return, and those that turn the direction of writing: from a
# file's name or a config they would command the terminal. On a terminal, colours and the lines of a progress bar stay.
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
UNSAFE = re.compile(r"(\x1b\[[0-9;?]*[AKhlm])|" + CONTROLS.pattern)
# Plain signs for those that an encoding lacks; what is not here is written as \u1234.
PLAIN = str.maketrans(
    {
        "–": "-",
        "—": "-",
        "−": "-",
        "×": "x",
        "·": ".",
        "•": "*",
        "…": "~",
        "±": "+-",
        "≤": "<=",
        "≥": ">=",
        "’": "'",
        "\xa0": " ",
    }
)


def printable(text: str, encoding: str = "utf-8", *, terminal: bool = False) -> str:
    r"""The text with every sign that cannot or must not be written replaced.

    Args:
        text: any text, names from file systems (with surrogates) included.
        encoding: of the place it is written to; one that Python does not know counts as ASCII.
        terminal: whether colours and the movements of progress bars are wanted.

    Example:
        >>> printable("90 ± 1 – résumé Σ", "ascii")
        '90 +- 1 - r\\xe9sum\\xe9 \\u03a3'
        >>> printable("\x1b[31mred\x1b]0;title\x07")
        '\\x1b[31mred\\x1b]0;title\\x07'
    """
    unsafe = UNSAFE if terminal else CONTROLS
    text = unsafe.sub(lambda found: found[1] if terminal and found[1] else _escaped(found[0]), text)
    try:
        text.encode(encoding)
    except LookupError:
        return printable(text, "ascii", terminal=terminal)
    except UnicodeEncodeError:
        return text.translate(PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    return text


def one_line(text: object) -> str:
    """The text on one line, harmless on any terminal."""
    return printable(" ".join(str(text).split()))


def say(message: object, *_: object, **__: object) -> None:
    """One line on standard error; also as ``warnings.showwarning``, which gives more than the message."""
    print(f"fractionate: {one_line(message)}", file=sys.stderr, flush=True)


def in_time(seconds: float) -> str:
    """A duration in words.

    Example:
        >>> in_time(90), in_time(9000)
        ('90 s', '2.5 hours')
    """
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def in_bytes(count: float) -> str:
    """A number of bytes in words.

    Example:
        >>> in_bytes(1_230_000)
        '1.23 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


class Steady:
    """A stream for writing that never raises: work goes on when its reader or its disk does not.

    Args:
        stream: text stream to write to; ``None``, as of a program without a console, takes everything.
        on_failure: called with the first failure.

    Attributes:
        failure: the first failure; ``None`` if all went well.
    """

    def __init__(self, stream: Any, on_failure: Callable[[OSError], None] | None = None) -> None:
        self.stream, self.on_failure = stream, on_failure
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)  # fileno, buffer and the like

    @property
    def encoding(self) -> str:
        """Of the stream; UTF-8 where it says nothing."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether somebody sits in front of it."""
        return self._tried(lambda stream: stream.isatty()) is True

    def write(self, text: str) -> int:
        """Write what the stream can take of a text; a later one is tried again, for a full disk may be emptied."""
        self._tried(lambda stream: stream.write(printable(text, self.encoding, terminal=stream.isatty())))
        return len(text)

    def flush(self) -> None:
        """Hand on what is kept back."""
        self._tried(lambda stream: stream.flush())

    def end(self) -> None:
        """Flush for the last time, and drop what cannot be written, of which Python would complain at its end."""
        if self.stream is None:
            return
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self._failed(error)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            with contextlib.suppress(OSError, ValueError):
                os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)

    def _tried(self, action: Callable[[Any], object]) -> object:
        if self.stream is None:
            return None
        try:
            return action(self.stream)
        except (OSError, ValueError) as error:  # ValueError: closed
            self._failed(error)
        return None

    def _failed(self, error: OSError | ValueError) -> None:
        if self.failure is None:
            self.failure = error if isinstance(error, OSError) else OSError(errno.EBADF, "it is closed")
            if self.on_failure is not None:
                self.on_failure(self.failure)
