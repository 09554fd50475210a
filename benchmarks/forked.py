"""Tests collected once and run in forks, each after a change: what :mod:`benchmarks.mutations` runs for a room.

A change inside a function is put into the functions that are loaded already (and into the file, for processes that
tests start), so that it costs the tests that call this function and no start of Python. Every other change, and a
room where nothing calls the function in this process, takes a start of its own.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import itertools
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType

import pytest

from . import mutations
from .changes import Change

CANNOT = 99


class Forks:
    """A pytest plugin: instead of running what was collected, hand it to ``work``."""

    def __init__(self, tree: Path, work: Callable[[Forks], None]) -> None:
        self.tree, self.work = tree, work
        self.items: dict[str, pytest.Item] = {}
        self.called: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self.lasted: dict[str, float] = defaultdict(float)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Called once after the collection."""
        if session.testsfailed:
            raise session.Failed(f"{session.testsfailed} errors during the collection")
        self.session, self.items = session, {item.nodeid: item for item in session.items}
        self.work(self)
        return True

    def run(self, names: Sequence[str], limit: float, prepare: Callable[[], None]) -> tuple[str, float]:
        """Run tests in a fork until one fails; what came out, and the seconds it took."""
        began, temporary = time.monotonic(), tempfile.mkdtemp(prefix="mutation-")
        child = os.fork()
        if child == 0:
            os.setsid()
            os.environ["PYTEST_DEBUG_TEMPROOT"] = temporary
            code = CANNOT
            with contextlib.suppress(BaseException):
                prepare()
                code = 2
                code = self._run([self.items[name] for name in names])
            os._exit(code)
        try:
            ended = _wait(child, limit)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)  # and what the tests have started
        if ended is None:
            os.waitpid(child, 0)
        shutil.rmtree(temporary, ignore_errors=True)
        return mutations.named(ended), round(time.monotonic() - began, 1)

    def _run(self, items: Sequence[pytest.Item]) -> int:
        for item, after in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if self.session.testsfailed:
                return 1
        return 0

    def learn(self, cases: int, limit: float) -> str:
        """Run so many cases of every test without a change; keep how long they take and what they call."""
        of_test: dict[str, list[str]] = defaultdict(list)
        for name in self.items:
            of_test[name.partition("[")[0]].append(name)
        chosen = [name for names in of_test.values() for name in names[:: math.ceil(len(names) / cases)]]
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            notes = Notes(str(self.tree / "src"), Path(file.name))
            outcome, _ = self.run(chosen, limit, lambda: notes.begin(self.session))
            text = Path(file.name).read_text(encoding="utf-8")
        for line in text.splitlines():
            name, seconds, called = json.loads(line)
            self.lasted[name] += seconds
            self.called[name] |= {(file, function) for file, function in called}
        return outcome

    def quickest(self, budget: float = math.inf) -> list[str]:
        """The tests that were run without a change, the quickest first, of so many seconds together."""
        names = sorted(self.lasted, key=self.lasted.__getitem__)
        until = itertools.accumulate(self.lasted[name] for name in names)
        return [name for name, total in zip(names, until, strict=True) if total <= budget]

    def that_call(self, file: str, function: str, budget: float) -> tuple[list[str], float]:
        """The tests that call a function, the quickest first, then their other cases; and the seconds they take.

        Args:
            file: its file.
            function: its name.
            budget: seconds for these and as many for those.
        """
        found = sorted(
            (n for n, called in self.called.items() if (file, function) in called), key=self.lasted.__getitem__
        )
        tests = {name.partition("[")[0]: self.lasted[name] for name in found}
        others = [name for name in self.items if name not in self.lasted and name.partition("[")[0] in tests]
        names, total = [], 0.0
        for group in (found, others):
            used = 0.0
            for name in group:
                used += self.lasted.get(name, tests[name.partition("[")[0]])
                if used > budget and (group is others or names):
                    break
                names.append(name)
            total += used
        return names, total


class Notes:
    """A pytest plugin: which functions below a folder every test calls; fixtures count for all tests of a file."""

    def __init__(self, folder: str, file: Path) -> None:
        self.folder, self.file = folder, file
        self.codes: set[CodeType] = set()
        self.shared: dict[str, set[tuple[str, str]]] = defaultdict(set)

    def begin(self, session: pytest.Session) -> None:
        """Watch calls from here on."""
        session.config.pluginmanager.register(self)
        threading.settrace(self._call)  # type: ignore[arg-type]
        sys.settrace(self._call)  # type: ignore[arg-type]

    def _call(self, frame: FrameType, _event: str, _: object) -> None:
        self.codes.add(frame.f_code)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One line for every phase of a test."""
        sys.settrace(self._call)  # type: ignore[arg-type]  # a test may have ended it
        codes, self.codes = self.codes, set()
        called = {(c.co_filename, c.co_qualname) for c in list(codes) if c.co_filename.startswith(self.folder)}
        shared = self.shared[report.nodeid.partition("::")[0]]
        if report.when == "setup":
            shared |= called
        with self.file.open("a", encoding="utf-8") as file:
            print(json.dumps([report.nodeid, report.duration, sorted(called | shared)]), file=file)


def _wait(child: int, limit: float) -> int | None:
    """The exit code of a child, negative for a signal; None if it is still running at the end of the limit."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    return None


def function_of(source: bytes, change: Change) -> str | None:
    r"""The name, with those of its classes, of the outermost function whose body holds a change.

    Example:
        >>> code = b"class A:\\n  def f(self, x=1):\\n    return 2"
        >>> [function_of(code, Change("x.py", 3, "constant", at, at + 1, "4")) for at in (code.find(b"2"), 25)]
        ['A.f', None]
    """
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))

    def look(body: Sequence[ast.stmt], names: str) -> str | None:
        for node in body:
            if isinstance(node, ast.FunctionDef):
                first, last = node.body[0], node.body[-1]
                start, end = lines[first.lineno - 1] + first.col_offset, lines[(last.end_lineno or 1) - 1]
                if start <= change.start < end + (last.end_col_offset or 0):
                    return names + node.name
            if isinstance(node, ast.ClassDef) and (found := look(node.body, f"{names}{node.name}.")):
                return found
        return None

    return look(ast.parse(source).body, "")


def replace(file: Path, function: str, source: bytes, new: bytes) -> bool:
    """Give the loaded functions of a name the code that a changed file has; whether there were any."""
    before, after = (_codes(compile(text, str(file), "exec", dont_inherit=True)) for text in (source, new))
    changed = dict(zip((c.co_code for c in before[function]), after[function], strict=True))
    found = False
    for thing in gc.get_objects():
        if (
            type(thing) is FunctionType and thing.__code__.co_qualname == function
        ):  # isinstance asks lazy things what they are
            code = thing.__code__
            if Path(code.co_filename) == file and code.co_code in changed:
                thing.__code__, found = changed[code.co_code], True
    return found


def _codes(module: CodeType) -> dict[str, list[CodeType]]:
    found: dict[str, list[CodeType]] = defaultdict(list)

    def walk(code: CodeType) -> Iterator[CodeType]:
        yield code
        for const in code.co_consts:
            if isinstance(const, CodeType):
                yield from walk(const)

    for code in walk(module):
        found[code.co_qualname].append(code)
    return found


def attempt(
    forks: Forks, change: Change, source: bytes, new: bytes, limit: float, budget: float
) -> tuple[str, float] | None:
    """Try a change in a fork with the tests that call its function, for ``budget`` seconds of them; None: cannot."""
    file, function = forks.tree / change.file, function_of(source, change)
    if function is None:
        return None
    names, total = forks.that_call(str(file), function, budget)

    def prepare() -> None:
        if not replace(file, function, source, new):
            raise LookupError(function)

    outcome, seconds = forks.run(names, limit + 3 * total, prepare) if names else ("", 0.0)
    return (outcome, seconds) if names and outcome != mutations.named(CANNOT) else None


def main() -> None:
    """Read a room's work from standard input: its tests, its changes, limits, and where outcomes go."""
    work = json.load(sys.stdin)
    tree, room, names, limit = Path(work["tree"]), work["room"], work["names"], work["limit"]
    out, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)

    def tell(text: str) -> None:
        os.write(out, f"{room} {text}\n".encode())

    def all_of(forks: Forks) -> None:
        if (outcome := forks.learn(work["cases"], 3600)) != mutations.NOT_NOTICED:
            tell(f"without any change its tests fail ({outcome}): pytest -x {' '.join(names)}")
            os._exit(1)
        seconds = sum(forks.lasted.values())
        tell(f"{len(forks.items)} tests; {len(forks.lasted)} of them take {seconds:.0f} s")
        listed = tree / "tests-of-the-room.txt"
        listed.write_text("\n".join(forks.quickest(work["budget"])), encoding="utf-8")
        for number, values in enumerate(work["changes"], 1):
            change = Change(**values)

            def trial(source: bytes, new: bytes, change: Change = change) -> tuple[str, float]:
                found = attempt(forks, change, source, new, limit, work["budget"])
                return found or mutations.run(tree, [f"@{listed}"], limit + 9 * work["budget"])

            found = mutations.outcome_of(tree, room, change, trial)
            mutations.append(Path(work["csv"]), found)
            tell(f"{number}/{len(work['changes'])}: {found.file}:{found.line} {found.kind}: {found.outcome}")
        os._exit(0)

    which = [] if work["slow"] else ["-m", "not slow"]
    pytest.main(["-q", "-p", "no:cacheprovider", *which, *names], plugins=[Forks(tree, all_of)])
    raise SystemExit(f"{room}: its tests cannot be collected: pytest {' '.join(names)}")


if __name__ == "__main__":
    main()
