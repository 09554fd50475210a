"""Ending early and cleanly: a signal or a used-up time budget lets the step finish and the state be saved."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Literal

from ..world import speaks

Reason = Literal["SIGINT", "SIGTERM", "SIGHUP", "budget"]

# 128 + the signal's number, as shells report a process that a signal has ended; and EX_TEMPFAIL of sysexits.h, "try
# again later". None of them is 0, so nothing that follows with && takes the run for a finished one.
EXIT_CODES: dict[Reason, int] = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "budget": 75}
WORDS: dict[Reason, str] = {
    "SIGINT": "interrupted",
    "SIGTERM": "asked to stop",
    "SIGHUP": "the terminal is gone",
    "budget": "the time budget is used up",
}
SIGNALS: dict[int, Reason] = {signal.SIGINT: "SIGINT", signal.SIGTERM: "SIGTERM"}
if hasattr(signal, "SIGHUP"):  # systems without terminals of this kind have none
    SIGNALS[signal.SIGHUP] = "SIGHUP"
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
UNBEGUN = "before training began"
NOTICE = b"\nfractionate: stopping after this step; once more ends it at once\n"


class Stopped(Exception):
    """Training has ended early, by intention; everything is saved and ``resume`` goes on.

    Args:
        reason: why.
        where: how far it got, in words.
    """

    def __init__(self, reason: Reason, where: str = UNBEGUN) -> None:
        super().__init__(reason, where)
        self.reason, self.where = reason, where

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, 75 when the budget is used up."""
        return EXIT_CODES[self.reason]

    def told(self, option: bool = True) -> str:
        """It in words; ``option``: whether the command goes on with --resume, or of itself."""
        again = "the same command with --resume" if option else "the same command"
        return f"{WORDS[self.reason]} {self.where}; nothing is lost: {again} goes on"

    def __str__(self) -> str:
        return self.told()


class Stop:
    """Whether training is to end early. ``with stop:`` listens to SIGINT, SIGTERM and SIGHUP.

    The first signal lets the step finish; a second one does what signals usually do. A signal that is ignored (a job
    in the background) stays so.

    Args:
        deadline: value of ``time.monotonic()`` at which the time budget is used up; see :func:`deadline`.
        elsewhere: whether somebody else asks to stop: the process that started this one, say.
        then: called by the first signal.

    Example:
        >>> Stop().reason is None, Stop(deadline(0)).reason
        (True, 'budget')
    """

    def __init__(
        self,
        deadline: float | None = None,
        elsewhere: Callable[[], bool] | None = None,
        then: Callable[[], None] | None = None,
    ) -> None:
        self.deadline, self.elsewhere, self.then = deadline, elsewhere, then
        self._asked: Reason | None = None
        self._before: dict[int, Any] = {}

    @property
    def reason(self) -> Reason | None:
        """Why to stop; ``None`` to go on. Cheap enough for every step."""
        if self._asked:
            return self._asked
        if self.elsewhere is not None and self.elsewhere():
            return "SIGTERM"
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "budget"
        return None

    def ask(self, reason: Reason) -> None:
        """Stop at the next occasion."""
        self._asked = self._asked or reason

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # others receive no signals
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before not in (signal.SIG_IGN, None):
                    self._before[number] = before
                    signal.signal(number, self._signalled)
        return self

    def __exit__(self, *_: object) -> None:
        self._put_back()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._put_back()
        self.ask(SIGNALS[number])
        if speaks():
            with contextlib.suppress(OSError):  # a terminal that is gone
                os.write(2, NOTICE)  # print() may be in the middle of something else
        if self.then is not None:
            self.then()

    def _put_back(self) -> None:
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before)


def deadline(budget: str | float | None) -> float | None:
    """When a time budget that begins now is used up, by the clock of ``time.monotonic()``.

    Args:
        budget: as :func:`duration` reads it; ``None`` = no limit.

    Raises:
        ValueError: not of that form.
    """
    try:
        return None if budget is None else time.monotonic() + duration(budget)
    except ValueError as error:
        raise ValueError(f"budget: {error}") from None


def duration(text: str | float) -> float:
    """Seconds of a duration: ``90``, ``"90s"``, ``"9m"``, ``"1h30m"``, ``"2d"``.

    Raises:
        ValueError: not of that form.

    Example:
        >>> duration("9m"), duration("1h30m"), duration(2.5)
        (540.0, 5400.0, 2.5)
    """
    words = str(text).strip().lower()
    found = re.fullmatch(r"(?:\d+(?:\.\d+)?[smhd])*|\d+(?:\.\d+)?", words)
    if not found or not words:
        raise ValueError(f"expected a duration such as 90s, 9m or 1h30m, got {text!r}")
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", words))
