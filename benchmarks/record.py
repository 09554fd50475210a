"""What a run leaves behind: lines on the terminal, and rows in a CSV with where and when they were measured."""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import torch

import fractionate

from .measure import Spread, ratio, spread

ROOT = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Row:
    """One contender of one case.

    Args:
        case: what was worked on.
        contender: who worked.
        milliseconds: median of all rounds.
        against: the contender that ``ratio`` divides by.
        ratio: median over the rounds of the quotient of times.
        ratio_low, ratio_high: its quartiles.
        rounds: interleaved rounds.
        saved_mib: memory kept between forward and backward, where it was measured.
    """

    case: str
    contender: str
    milliseconds: float
    against: str
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds: int
    saved_mib: float | None = None


def rows(
    case: str, seconds: Mapping[str, list[float]], against: str, saved: Mapping[str, int] | None = None
) -> list[Row]:
    """A row per contender, each against the same one."""
    found = []
    for name, times in seconds.items():
        quotient: Spread = ratio(seconds, name, against)
        mib = None if saved is None else round(saved[name] / 2**20, 3)
        milliseconds = round(1e3 * spread(times).median, 4)
        numbers = (round(x, 4) for x in (quotient.median, quotient.low, quotient.high))
        found.append(Row(case, name, milliseconds, against, *numbers, len(times), mib))
    return found


def show(found: Sequence[Row]) -> None:
    """A plain table: median time, ratio with its quartiles, memory."""
    print(found[0].case)
    width = max(len(row.contender) for row in found)
    for row in found:
        quartiles = f"[{row.ratio_low:.2f} .. {row.ratio_high:.2f}]"
        memory = "" if row.saved_mib is None else f"  keeps {row.saved_mib:9.2f} MiB"
        print(f"  {row.contender:<{width}}  {row.milliseconds:10.3f} ms  x {row.ratio:6.2f} {quartiles:<16}{memory}")
    rounds = found[0].rounds
    how = f"median and quartiles of {rounds} interleaved rounds" if rounds > 1 else "measured once"
    print(f"  ratios: {how}, against {found[0].against!r}")


def append(found: Sequence[Row], path: Path, device: torch.device) -> None:
    """Add the rows to a CSV, with date, commit, versions and machine.

    Raises:
        ValueError: the file holds other columns.
    """
    where = _where(device)
    columns = [*where, *(f.name for f in fields(Row))]
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists() or not path.stat().st_size
    if not fresh:
        with path.open(newline="") as file:
            header = next(csv.reader(file))
        if header != columns:
            raise ValueError(f"{path} has the columns {header}, this benchmark writes {columns}; give another --csv")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if fresh:
            writer.writeheader()
        for row in found:
            writer.writerow(where | asdict(row))
    print(f"  appended to {path}")


def _where(device: torch.device) -> dict[str, object]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "fractionate": fractionate.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _commit() -> str:
    """Short hash, with ``+`` if tracked files were changed since; empty outside a git checkout."""
    head = _git("rev-parse", "--short", "HEAD")
    return head + ("+" if head and _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*command: str) -> str:
    run = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else ""


def parser(name: str, description: str, rounds: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    made.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds (default %(default)s)")
    made.add_argument("--threads", type=int, default=None, help="threads of torch (default: torch's choice)")
    made.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    made.add_argument("--csv", type=Path, default=ROOT / "results" / f"{name}.csv", help="file to append to")
    made.add_argument("--toy", action="store_true", help="sizes of a test: seconds, and no meaning")
    return made


def prepare(options: argparse.Namespace) -> torch.device:
    """Threads, seed and device."""
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    return torch.device(options.device)
