"""Work under a deadline: commands with logs, each stopped early enough that what it left can still be packed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEAST = 20.0  # seconds that must be left to begin another command
GRACE = 20.0  # seconds between the end of a command's own budget and the moment it is stopped: it writes its state
PACKING = 20.0  # seconds at the end in which nothing but packing happens
LATER = "goes on another time"
BUDGET = "{budget}"  # in a command's words: the seconds that it may take


@dataclass(frozen=True)
class Clock:
    """Seconds left of a limit.

    Args:
        limit: seconds, by this clock.
        speed: seconds of this clock per real one; above 1 it plays a long session in a short time.

    Example:
        >>> clock = Clock(600)
        >>> 599 < clock.left <= 600, Clock(0).left <= 0
        (True, True)
    """

    limit: float
    speed: float = 1.0
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds left, by this clock."""
        return self.limit - self.speed * (time.monotonic() - self.started)

    def real(self, seconds: float) -> float:
        """Real seconds that so many of this clock take."""
        return seconds / self.speed


@dataclass(frozen=True)
class Command:
    """Words for this Python, under a name for its log.

    Args:
        name: of its log.
        words: after the interpreter; :data:`BUDGET` in them stands for the time it may take.
        again: run it although it is done.
        most: seconds after which it is stopped, so that those after it have their turn.
        leave: seconds that those after it need.
    """

    name: str
    words: tuple[str, ...]
    again: bool = False
    most: float = float("inf")
    leave: float = 0.0


def run(
    part: Sequence[Command], out: Path, clock: Clock, then: Callable[[], object] = lambda: None, site: str = ""
) -> list[str]:
    """Run what is not done yet, as far as the time goes.

    Args:
        part: in the order of their worth; one that fails stops none of the others.
        out: folder of logs.
        clock: that ends it all.
        then: called after every command: packs what there is, so that nothing is lost with what comes next.
        site: a folder of packages that the machine lacks.

    Returns:
        The names of those that failed.
    """
    failed = []
    for command in part:
        done, log = out / f"{command.name}.done", out / f"{command.name}.log"
        left = min(command.most, clock.left - PACKING - command.leave)
        if done.exists() and not command.again:
            print(f"{command.name}: done before", flush=True)
            continue
        if left < LEAST:
            print(f"{command.name}: no time left", flush=True)
            continue
        before = clock.left
        code = _logged(command, log, left, clock, site)
        later = code.startswith(LATER)
        print(f"{command.name}: {code or 'ok'}, {before - clock.left:.0f} s, {log}", flush=True)
        print("".join(log.read_text(errors="replace").splitlines(keepends=True)[-12:]), flush=True)
        if code and not later:
            failed.append(command.name)
        elif not code:
            done.touch()
        then()
    return failed


def _logged(command: Command, log: Path, seconds: float, clock: Clock, site: str) -> str:
    """Run a command with its output at the end of a file; what went wrong, or nothing."""
    paths = [site, str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    more = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "FRACTIONATE_SHAPE_CHECKS": "off"}
    budget = max(1.0, clock.real(seconds - GRACE))
    words = [word.replace(BUDGET, f"{budget:.1f}") for word in command.words]
    with log.open("a") as file:
        file.write(f"$ python {' '.join(words)}\n")
        file.flush()
        child = subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            env=os.environ | more,
            stdout=file,
            stderr=file,
            text=True,
            start_new_session=True,  # so that what it has started itself ends with it
        )
        try:
            code = child.wait(timeout=clock.real(seconds))
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s" + _ended(child)
    return f"{LATER}: its time is used up" if code == 75 else f"exit code {code}" if code else ""


def _ended(child: subprocess.Popen[str]) -> str:
    """Ask a command to end, which may write its state first, and end it if it does not."""
    os.killpg(child.pid, signal.SIGTERM)
    said = ""
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        said = ", by force"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return said
