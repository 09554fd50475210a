"""Small changes to the code, one at a time: how many do the tests notice?

    python -m benchmarks.mutations                              25 changes in every room: hours
    python -m benchmarks.mutations --rooms rows optim --count 6
    python -m benchmarks.mutations --count 0                    only the table of what is in the file already
    python -m benchmarks.mutations --open                       once more what no test noticed, after new tests

A change is a flipped comparison, another constant, ``and`` for ``or``, plus for minus, a dropped ``not``, minus or
``raise``, or two arguments swapped. It is made in a temporary copy of the tree, where the tests and doctests that
belong to its room run. Every outcome is appended to a CSV at once, so the same command goes on where it was stopped; a
change to a file that has been edited since is tried again. What no test noticed is printed at the end as a diff: it
is a property to state, or a change that alters nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

from .changes import Change, alters, applied, changes, seen_in

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "mutations.csv"
REVIEWED = RESULTS.with_name("mutations_reviewed.csv")
PACKAGE = Path("src", "fractionate")
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "_build", "dist", "build")
# Tests of a room beside tests/ROOM, tests/test_ROOM*.py and the doctests of its files.
TESTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("export", "probe"), ("tests/studies",)),
    "data": ("tests/dense",),
    "tasks": ("tests/train", "tests/dense"),
    "teachers": ("tests/train", "tests/tasks"),
    **dict.fromkeys(("runs", "train"), ("tests/train", "tests/faults")),
    **dict.fromkeys(("recipes", "studies"), ("tests/test_cli.py",)),
    **dict.fromkeys(("__init__", "_typing"), ("tests/test_package.py",)),
    "_choices": ("tests/rows",),
    "_headlines": ("tests/report",),
    "cli": ("tests/test_terminal.py",),
    "combine": ("tests/optim",),
    "commands": ("tests/test_cli.py", "tests/studies"),
    "config": ("tests/papers",),
    "kernels": ("tests/losses",),
    "language": (
        "tests/methods/test_linear.py",
        "tests/methods/test_linear_memory.py",
        "tests/methods/test_linear_options.py",
    ),
    "losses": ("tests/reference", "tests/methods/test_contract.py"),
    "methods": ("tests/reference",),
    "optim": ("tests/reference/test_optim_rules.py",),
    "papers": ("tests/recipes",),
    "schedules": ("tests/reference/test_properties.py",),
    "testing": ("tests/methods/test_contract.py",),
    "world": ("tests/train/test_world.py", "tests/distributed"),
}
NOT_NOTICED = "not noticed"
Trial = Callable[[bytes, bytes], tuple[str, float]]


@dataclass(frozen=True)
class Outcome:
    """A row of the CSV: what was changed and whether a test noticed; ``version`` stands for the file's content."""

    room: str
    file: str
    line: int
    kind: str
    start: int
    end: int
    text: str
    version: str
    before: str
    after: str
    outcome: str
    seconds: float


def rooms(root: Path) -> dict[str, list[Path]]:
    """The Python files of every room: of a folder of the package, or a file beside the folders."""
    found: dict[str, list[Path]] = {}
    for file in sorted((root / PACKAGE).rglob("*.py")):
        room = file.relative_to(root / PACKAGE).parts[0].removesuffix(".py")
        found.setdefault(room, []).append(file)
    return found


def belonging(root: Path, room: str) -> list[str]:
    """What is run for a change in a room: its tests and its doctests, those that are there, the quick ones first."""
    own = sorted(path.relative_to(root).as_posix() for path in (root / "tests").glob(f"test_{room.lstrip('_')}*.py"))
    named = [*own, f"tests/{room}", *TESTS.get(room, ())]
    code = (PACKAGE / room).as_posix()
    doctests = [code if (root / code).is_dir() else f"{code}.py"]
    return [*doctests, *(name for name in dict.fromkeys(named) if (root / name).exists())]


def environment(tree: Path) -> dict[str, str]:
    """In which the code of a tree runs."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tree / "src", tree, ROOT)))}
    env.pop("PYTEST_ADDOPTS", None)  # how these tests are run is decided here
    return {**env, "PYTHONDONTWRITEBYTECODE": "1"}


def run(tree: Path, names: Sequence[str], limit: float) -> tuple[str, float]:
    """Run tests of a tree; what came out, and the seconds it took."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *names]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        command, cwd=tree, env=environment(tree), stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    code: int | None = None
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = process.wait(limit)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # and what the tests have started
    process.wait()
    return named(code), round(time.monotonic() - began, 1)


def named(code: int | None) -> str:
    """The outcome of an exit code of pytest; None: it was still running."""
    if code is None:
        return "noticed: took too long"
    return {0: NOT_NOTICED, 1: "noticed", 2: "noticed"}.get(code, "noticed: ended early")


def drawn(root: Path, room: str, count: int, seed: int) -> list[Change]:
    """The changes that a seed draws in a room; a larger count draws the same ones and more."""
    found = [c for file in rooms(root)[room] for c in changes(file.read_bytes(), file.relative_to(root).as_posix())]
    in_turn = random.Random(f"{seed} {room}").sample(found, len(found))
    return list(islice((c for c in in_turn if alters((root / c.file).read_bytes(), c)), count))


def still_open(root: Path, found: Sequence[Outcome], reviewed: Mapping[tuple[str, str, str], str]) -> list[Change]:
    """The changes that no test noticed and that can still be made; lines that moved are found again."""
    names = ((o.file, o.kind, o.before, o.after) for o in unnoticed(found))
    wanted = {(file, kind, *lines) for file, kind, *lines in names if (file, *lines) not in reviewed}
    sources = {file: (root / file).read_bytes() for file, *_ in sorted(wanted) if (root / file).exists()}
    every = [c for file, source in sources.items() for c in changes(source, file)]
    return [c for c in every if (c.file, c.kind, *seen_in(sources[c.file], c)) in wanted]


def outcome_of(tree: Path, room: str, change: Change, trial: Trial) -> Outcome:
    """Make a change in a tree, try it, and put the file back; a trial is given the file before and after."""
    file = tree / change.file
    source = file.read_bytes()
    new, before, shown = applied(source, change), version(file), seen_in(source, change)
    file.write_bytes(new)
    try:
        outcome, seconds = trial(source, new)
    finally:
        file.write_bytes(source)
    return Outcome(
        room, **asdict(change), version=before, before=shown[0], after=shown[1], outcome=outcome, seconds=seconds
    )


def version(file: Path) -> str:
    """A short name of a file's content."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def read(path: Path) -> list[Outcome]:
    """The outcomes in a CSV; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    whole = {field.name: {"int": int, "float": float}.get(str(field.type), str) for field in fields(Outcome)}
    return [Outcome(**{name: kind(row[name]) for name, kind in whole.items()}) for row in rows]


def append(path: Path, outcome: Outcome) -> None:
    """Add one outcome to a CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Outcome)])
        if new:
            writer.writeheader()
        writer.writerow(asdict(outcome))


def latest(found: Sequence[Outcome]) -> list[Outcome]:
    """Of every change the last outcome."""
    return list({(o.file, o.kind, o.before, o.after): o for o in found}.values())


def unnoticed(found: Sequence[Outcome]) -> list[Outcome]:
    """Those that no test noticed when they were tried last."""
    return [o for o in latest(found) if o.outcome == NOT_NOTICED]


def show(found: Sequence[Outcome], reviewed: Mapping[tuple[str, str, str], str]) -> None:
    """A line per room, and a diff of every change that no test noticed; of every change the last outcome."""
    last, missed = latest(found), unnoticed(found)
    equal = [o for o in missed if (o.file, o.before, o.after) in reviewed]
    print(f"{'room':<12} changes  noticed  alter nothing  not noticed    share")
    for room in [*sorted({o.room for o in last}), "all"]:
        here, lost, same = (sum(room in (o.room, "all") for o in group) for group in (last, missed, equal))
        share = f"{(here - lost) / (here - same):6.1%}" if here > same else "-"
        print(f"{room:<12} {here:7} {here - lost:8} {same:14} {lost - same:12}   {share}")
    for o in missed:
        why = reviewed.get((o.file, o.before, o.after))
        print(f"\n{o.file}:{o.line} {o.kind}{f', alters nothing: {why}' if why else ''}\n- {o.before}\n+ {o.after}")


def reasons(path: Path) -> dict[tuple[str, str, str], str]:
    """The changes that were looked at and alter nothing, by file, line before and line after, each with its reason."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {(row["file"], row["before"], row["after"]): row["reason"] for row in csv.DictReader(file)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw changes in rooms, try those whose outcome is not known yet, and print all."""
    args = _arguments(arguments)
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        tree = Path(folder, "tree")
        shutil.copytree(args.root, tree, ignore=LEFT_OUT)
        for room in args.rooms:
            if todo := to_try(tree, room, args):
                _try(tree, room, todo, args)
    show([o for o in read(args.csv) if o.room in args.rooms], reasons(args.reviewed))


def to_try(tree: Path, room: str, args: argparse.Namespace) -> list[Change]:
    """The changes of a room whose outcome is asked for and not known yet."""
    found = read(args.csv)
    if args.open:
        return still_open(tree, [o for o in found if o.room == room], reasons(args.reviewed))
    known = {(o.file, o.start, o.text, o.version) for o in found if not (args.again and o.outcome == NOT_NOTICED)}
    drawn_now = drawn(tree, room, args.count, args.seed)
    return [c for c in drawn_now if (c.file, c.start, c.text, version(tree / c.file)) not in known]


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rooms", nargs="+", help="rooms of the package; all by default")
    parser.add_argument("--count", type=int, default=25, help="changes in every room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="try what was not noticed once more, after new tests")
    parser.add_argument("--open", action="store_true", help="instead, try once more all that no test noticed so far")
    parser.add_argument("--tests", nargs="+", help="these, slow ones too, in place of those that belong to a room")
    parser.add_argument("--cases", type=int, default=6, help="cases of a test that are run first; the others follow")
    parser.add_argument("--limit", type=float, default=30, help="seconds for a change, beside three times its tests'")
    parser.add_argument("--budget", type=float, default=20, help="seconds of tests in a fork, the quickest first")
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--reviewed", type=Path, default=REVIEWED, help="changes that were found to alter nothing")
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree; the one of this file by default")
    args = parser.parse_args(words)
    there = sorted(rooms(args.root))
    args.rooms = args.rooms or there
    if unknown := set(args.rooms) - set(there):
        parser.error(f"no such room: {', '.join(sorted(unknown))}; there are {', '.join(there)}")
    return args


def _try(tree: Path, room: str, todo: Sequence[Change], args: argparse.Namespace) -> None:
    """In a process of its own, which has this room's tests loaded."""
    work = {
        "tree": str(tree),
        "room": room,
        "names": args.tests or belonging(tree, room),
        "slow": bool(args.tests),
        "csv": str(args.csv),
        "limit": args.limit,
        "budget": args.budget,
        "cases": args.cases,
        "changes": [asdict(change) for change in todo],
    }
    command = [sys.executable, "-m", "benchmarks.forked"]
    done = subprocess.run(command, input=json.dumps(work), text=True, cwd=tree, env=environment(tree), check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
