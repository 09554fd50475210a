"""Small changes to the code, one at a time: how many do the tests notice?

    python -m benchmarks.mutations                              25 changes in every room: hours
    python -m benchmarks.mutations --rooms rows optim --count 6
    python -m benchmarks.mutations --count 0                    only the table of what is in the file already

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
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

from .changes import Change, alters, applied, changes

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "mutations.csv"
PACKAGE = Path("src", "fractionate")
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "_build", "dist", "build")
# Tests of a room beside tests/ROOM, tests/test_ROOM*.py and the doctests of its files.
TESTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("export", "probe"), ("tests/studies",)),
    **dict.fromkeys(("tasks", "teachers"), ("tests/train",)),
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
    "language": ("tests/methods",),
    "losses": ("tests/reference", "tests/methods/test_contract.py"),
    "methods": ("tests/reference",),
    "optim": ("tests/reference/test_optim_rules.py",),
    "papers": ("tests/recipes",),
    "schedules": ("tests/reference/test_properties.py",),
    "testing": ("tests/methods/test_contract.py",),
    "world": ("tests/train/test_world.py", "tests/distributed"),
}
NOT_NOTICED = "not noticed"


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


def run(tree: Path, names: Sequence[str], limit: float) -> tuple[str, float]:
    """Run tests of a tree; what came out, and the seconds it took."""
    began = time.monotonic()
    env = {**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}", "PYTHONDONTWRITEBYTECODE": "1"}
    env.pop("PYTEST_ADDOPTS", None)  # how these tests are run is decided here
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *names]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        command, cwd=tree, env=env, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        outcome = {0: NOT_NOTICED, 1: "noticed", 2: "noticed"}.get(process.wait(limit), "noticed: ended early")
    except subprocess.TimeoutExpired:
        outcome = "noticed: took too long"
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # and what the tests have started
        process.wait()
    return outcome, round(time.monotonic() - began, 1)


def drawn(root: Path, room: str, count: int, seed: int) -> list[Change]:
    """The changes that a seed draws in a room; a larger count draws the same ones and more."""
    found = [c for file in rooms(root)[room] for c in changes(file.read_bytes(), file.relative_to(root).as_posix())]
    in_turn = random.Random(f"{seed} {room}").sample(found, len(found))
    return list(islice((c for c in in_turn if alters((root / c.file).read_bytes(), c)), count))


def outcome_of(tree: Path, room: str, change: Change, names: Sequence[str], limit: float) -> Outcome:
    """Make a change in a tree, run the tests, and put the file back."""
    file = tree / change.file
    source = file.read_bytes()
    new, before = applied(source, change), version(file)
    first, last = source.count(b"\n", 0, change.start), source.count(b"\n", 0, change.end) + 1
    shown = [" ".join(b" ".join(text.splitlines()[first:last]).decode().split()) for text in (source, new)]
    file.write_bytes(new)
    try:
        outcome, seconds = run(tree, names, limit)
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


def show(found: Sequence[Outcome]) -> None:
    """A line per room, and a diff of every change that no test noticed."""
    print(f"{'room':<12} changes  noticed  not noticed    share")
    for room in [*sorted({o.room for o in found}), "all"]:
        here = [o for o in found if room in (o.room, "all")]
        missed = sum(o.outcome == NOT_NOTICED for o in here)
        share = f"{(len(here) - missed) / len(here):6.1%}" if here else "-"
        print(f"{room:<12} {len(here):7} {len(here) - missed:8} {missed:12}   {share}")
    for o in found:
        if o.outcome == NOT_NOTICED:
            print(f"\n{o.file}:{o.line} {o.kind}\n- {o.before}\n+ {o.after}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw changes in rooms, try those whose outcome is not known yet, and print all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rooms", nargs="+", help="rooms of the package; all by default")
    parser.add_argument("--count", type=int, default=25, help="changes in every room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--limit", type=float, help="seconds for one change; default: 30 and three times those without it"
    )
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree; the one of this file by default")
    args = parser.parse_args(arguments)
    chosen = args.rooms or sorted(rooms(args.root))
    if unknown := set(chosen) - set(rooms(args.root)):
        parser.error(f"no such room: {', '.join(sorted(unknown))}; there are {', '.join(sorted(rooms(args.root)))}")
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        tree = Path(folder, "tree")
        shutil.copytree(args.root, tree, ignore=LEFT_OUT)
        for room in chosen:
            known = {(o.file, o.start, o.text, o.version) for o in read(args.csv)}
            drawn_now = drawn(tree, room, args.count, args.seed)
            todo = [c for c in drawn_now if (c.file, c.start, c.text, version(tree / c.file)) not in known]
            if todo:
                _try(tree, room, todo, args.limit, args.csv)
    show([o for o in read(args.csv) if o.room in chosen])


def _try(tree: Path, room: str, todo: Sequence[Change], limit: float | None, path: Path) -> None:
    names = belonging(tree, room)
    outcome, seconds = run(tree, names, limit or 3600)
    if outcome != NOT_NOTICED:
        raise SystemExit(f"{room}: without any change its tests fail ({outcome}): pytest -x {' '.join(names)}")
    for number, change in enumerate(todo, 1):
        found = outcome_of(tree, room, change, names, limit or 30 + 3 * seconds)
        append(path, found)
        print(f"{room} {number}/{len(todo)}: {change.file}:{change.line} {change.kind}: {found.outcome}", flush=True)


if __name__ == "__main__":
    main()
