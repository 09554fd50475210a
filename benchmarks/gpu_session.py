"""What waits for a GPU, in an order of worth, in parts of less than ten minutes each.

    python -m benchmarks.gpu_session --part 1               tests marked gpu (one graph per step among them), Triton
    python -m benchmarks.gpu_session --part 2 --data DIR    the pace of 240 epochs, way by way
    python -m benchmarks.gpu_session --part 3               steps, students side by side, update, data, losses
    python -m benchmarks.gpu_session --part 4 --data DIR graph=true precision=bfloat16 teacher_table=full
                                                            the CIFAR-100 table; again and again

A part that ends early goes on where it was: what is done is not done again, and the table resumes inside a run. Every
command writes a log, a command that fails stops none of the others, and the exit code is 1 then. ``--pack FOLDER`` puts
logs, CSVs and the rows of finished runs into FOLDER/gpu.tar.gz, and every finished teacher beside it as float16. Needs
torch, PyYAML, pydantic, safetensors, numpy and Pillow; the tests of part 1 also pytest, hypothesis, jaxtyping and
scikit-learn, whose digits they train on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .teachers import keep_teachers

ROOT = Path(__file__).resolve().parent.parent
PARTS = (1, 2, 3, 4)
LEAST = 20.0  # seconds that must be left to begin another command


@dataclass(frozen=True)
class Command:
    """Words for this Python, under a name for its log; ``again`` runs it although it is done."""

    name: str
    words: tuple[str, ...]
    again: bool = False


def commands(options: argparse.Namespace) -> Iterator[Command]:
    """The commands of a part."""
    out, toy = options.out, ("--toy",) if options.toy else ()
    data = () if options.data is None else ("--data", str(options.data))
    device = ("--device", options.device)
    if options.part == 1:
        quick = ("-m", "pytest", "-p", "no:cacheprovider", "-rs")
        yield Command("tests-gpu", (*quick, "-m", "gpu", *(marked()[:1] if options.toy else marked())))
        if not options.toy:
            yield Command("tests-triton", (*quick, "tests/losses/test_triton.py"))
        yield Command("gpu-losses", ("-m", "benchmarks.gpu_losses", *toy, "--csv", str(out / "gpu_losses.csv")))
    elif options.part == 2:
        yield Command("pace", ("-m", "benchmarks.pace", *toy, *device, *data, "--csv", str(out / "pace.csv")))
    elif options.part == 3:
        for name, *more in (
            ("trainer", "--rounds", "21"),
            ("side_by_side",),
            ("step", "--channels-last", "--rounds", "51"),
            ("optimizer",),
            ("data",),
            ("losses", "--no-memory"),
        ):
            given = (*more, *toy, *device, "--csv", str(out / f"{name}.csv"))
            yield Command(name, ("-m", f"benchmarks.{name}", *given))
        if options.data and not toy:  # filling the table takes minutes
            ways = ("--ways", "graph, bfloat16", "graph, bfloat16, full table")
            words = ("-m", "benchmarks.pace", *ways, *device, *data, "--csv", str(out / "pace.csv"))
            yield Command("pace-table", words)
    else:
        minutes = max(0.0, options.minutes - 0.5)  # the last checkpoint takes its time
        where = ("--out", str(out / "table"), "--rows", str(out / "rows"), "--minutes", str(minutes))
        words = ("-m", "benchmarks.cifar100_table", *toy, *data, *where, *options.table, *options.changes)
        yield Command("table", (*words, f"device={options.device}"), again=True)


def marked() -> list[str]:
    """The test files with tests that need a GPU."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [f.relative_to(ROOT).as_posix() for f in files if "@pytest.mark.gpu" in f.read_text(encoding="utf-8")]


def run(part: Sequence[Command], out: Path, minutes: float) -> list[str]:
    """Run what is not done yet, as far as the time goes; returns the names of those that failed."""
    until, failed = time.monotonic() + 60 * minutes, []
    for command in part:
        done, log = out / f"{command.name}.done", out / f"{command.name}.log"
        left = until - time.monotonic()
        if done.exists() and not command.again:
            print(f"{command.name}: done before", flush=True)
            continue
        if left < LEAST:
            print(f"{command.name}: no time left", flush=True)
            continue
        started = time.monotonic()
        code = _logged(command, log, left)
        print(f"{command.name}: {code or 'ok'}, {time.monotonic() - started:.0f} s, {log}", flush=True)
        print("".join(log.read_text(errors="replace").splitlines(keepends=True)[-12:]), flush=True)
        if code:
            failed.append(command.name)
        else:
            done.touch()
    return failed


def _logged(command: Command, log: Path, seconds: float) -> str:
    """Run a command with its output in a file; what went wrong, or nothing."""
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "FRACTIONATE_SHAPE_CHECKS": "off"}
    with log.open("w") as file:
        try:
            done = subprocess.run(
                [sys.executable, *command.words], cwd=ROOT, env=env, stdout=file, stderr=file, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s"
    return f"exit code {done.returncode}" if done.returncode else ""


def pack(out: Path, folder: Path) -> list[Path]:
    """Everything small into one archive, and finished teachers beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "gpu.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for file in (*sorted(out.glob("*.log")), *sorted(out.glob("*.csv")), *sorted(out.glob("rows"))):
            tar.add(file, file.relative_to(out).as_posix())
    teachers = list((out / "table").glob("teacher-*/summary.json"))
    return [archive, *(keep_teachers(out / "table", folder / "teachers", 10**9) if teachers else [])]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=int, choices=PARTS, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of logs, CSVs and runs")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--data", type=Path, default=None, help="folder that holds cifar-100-python")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="sizes of a test")
    parser.add_argument("--pack", type=Path, default=None, help="folder for what is to be carried away")
    parser.add_argument("--seeds", type=int, default=3, help="of the table")
    parser.add_argument("changes", nargs="*", help="field=value for every run of the table, such as graph=true")
    options = parser.parse_args(arguments)
    options.out, options.table = options.out.resolve(), ("--seeds", str(options.seeds))
    options.data = None if options.data is None else options.data.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    failed = run(list(commands(options)), options.out, options.minutes)
    if options.pack:
        for file in pack(options.out, options.pack):
            print(f"{file}: {file.stat().st_size:,} bytes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
