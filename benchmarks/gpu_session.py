"""What waits for a GPU, in an order of worth, for one that is lent for fifteen minutes and takes 64 MiB at a time.

On the machine that the repository lies on (a minute or two; --data holds cifar-100-python):

    python -m benchmarks.gpu_session prepare --data DATA     makes .carried (data in pieces, wheels); says what to send

There, once per transfer, with the repository and one piece each time:

    python -m benchmarks.gpu_session first  --piece .carried/piece-1    at most 3 minutes: tests, kernels, pace, losses
    python -m benchmarks.gpu_session second --piece .carried/piece-2    at most 9: the short teacher, then the students
    python -m benchmarks.gpu_session again  --from FOLDER               more seeds, the long teacher, further pairs

Every command goes on where it was: what is done is not done again, and runs resume inside an epoch. It packs after
every step and before its minutes are over, into --pack (by default the environment variable OUT): at most eight files
of 16 MiB, the evidence first. ``--from`` puts back on a new machine what was packed on another.

``first``: tests marked gpu, the Triton kernels against their twins, the losses in GPU time, and the pace of an epoch
way by way on random pixels: as usual, as a graph, in bfloat16, and of 1, 4 and 8 students in lockstep. ``second``: the
teacher's short recipe, its weights kept as float16 at once; then seed 0 of eight methods in lockstep. How long the
students train follows from the measured pace: 240 epochs if they fit, else all of them shortened alike, which the
rows and the table say.

The machine needs torch, numpy, Pillow, PyYAML, rich and safetensors, for the tests pytest, hypothesis, jaxtyping and
scikit-learn too. Configs are read with pydantic and commands with tyro; where they are missing they are taken from the
wheels in .carried/wheels, which are unpacked and not installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import carried, pieces
from .session import ROOT, Clock, run

PLACE = ROOT / ".carried"
MINUTES = {"first": 3.0, "second": 9.0, "again": 9.0}
HERE = Path(tempfile.gettempdir()) / "fractionate-gpu"  # the same on every machine: a run knows its data by their path


def prepare(options: argparse.Namespace) -> int:
    """Cut the data so that a piece fits beside the repository, fetch wheels, and say what to send."""
    if options.data is None:
        raise ValueError("prepare needs --data DIR, the folder that holds cifar-100-python")
    wheels = PLACE / "wheels"
    shutil.rmtree(PLACE, ignore_errors=True)
    if options.wheels:
        carried.fetch_wheels(wheels)
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    own = sum((ROOT / name).stat().st_size for name in tracked.split("\0") if name and (ROOT / name).is_file())
    own += _bytes(wheels)
    data = options.data
    if not (data / pieces.FOLDER).is_dir() and not pieces.join(data := PLACE / "whole", [options.data]):
        raise ValueError(f"{options.data} holds neither {pieces.FOLDER} nor all of its pieces")
    (whole,) = pieces.split(data, PLACE, 1)
    size, room = _bytes(whole), carried.TRANSFER - own - 2**20
    parts = max(options.parts, -(-size // max(1, room)))
    shutil.rmtree(whole)
    if room <= 0 or parts > 8:
        raise ValueError(f"the repository has {own:,} bytes, so no piece of the data fits beside it into 64 MiB")
    print(f"the repository and the wheels: {own:,} bytes; the data: {size:,}, in {parts} pieces")
    for number, folder in enumerate(pieces.split(data, PLACE, parts), 1):
        part = "second" if number == parts else "first"
        print(f"  carry .carried/wheels and {folder.relative_to(ROOT)} ({own + _bytes(folder):,} bytes in all):")
        print(f"  python3 -m benchmarks.gpu_session {part} --piece {folder.relative_to(ROOT)}")
    shutil.rmtree(PLACE / "whole", ignore_errors=True)
    return 0


def _bytes(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def work(options: argparse.Namespace, speed: float) -> int:
    """A part of the session; the code is 1 where a command failed."""
    from .gpu_parts import PARTS, worth  # after the packages that the machine lacks

    clock = Clock(60 * options.minutes, speed)
    out, data = options.out, options.out / "data"
    if options.came_from:
        for name in carried.unpack(options.came_from, out):
            print(f"{name}: goes on")
    if options.piece:
        shutil.copytree(options.piece, out / "pieces" / options.piece.name, dirs_exist_ok=True)
    there = sorted(f for f in (out / "pieces").glob("*") if f.is_dir())
    whole = (data / pieces.FOLDER / "meta").is_file() or (bool(there) and pieces.join(data, there))
    if not whole and options.part != "first":
        lacks = "; ".join(pieces.missing(there))
        raise ValueError(f"{options.part} needs the whole data, and {lacks} are missing: send the other pieces first")

    def packed() -> list[str]:
        return carried.pack(out, options.pack, worth(out))

    failed = []
    for step in PARTS[options.part](options, clock):  # what comes next may follow from what was measured
        failed += run([step], out, clock, packed, options.site)
    for line in packed():
        print(line)
    print(f"{options.part}: {60 * options.minutes - clock.left:.0f} s, packed in {options.pack}")
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None, speed: float = 1.0) -> int:
    """Run a part; ``speed`` plays minutes in seconds, for a rehearsal."""
    options = _options(arguments)
    try:
        if options.part == "prepare":
            return prepare(options)
        options.out.mkdir(parents=True, exist_ok=True)
        options.site = carried.site_of(PLACE / "wheels", options.out)
        return work(options, speed)
    except ValueError as error:
        print(f"gpu_session: {error}", file=sys.stderr)
        return 2


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("prepare", *MINUTES))
    parser.add_argument("--out", type=Path, default=HERE, help="logs, CSVs, runs; outside what is sent anew")
    parser.add_argument("--pack", type=Path, default=None, help="what is to be carried back (default: $OUT)")
    parser.add_argument("--from", dest="came_from", type=Path, default=None, help="what was packed on another machine")
    parser.add_argument("--piece", type=Path, default=None, help="a piece of the data, which is kept in --out")
    parser.add_argument("--data", type=Path, default=None, help="of prepare: folder that holds cifar-100-python")
    parser.add_argument("--parts", type=int, default=2, help="of prepare: pieces, more if they must be")
    parser.add_argument("--no-wheels", dest="wheels", action="store_false", help="of prepare: fetch none")
    parser.add_argument("--minutes", type=float, default=None, help=f"in all; default {MINUTES}")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seeds", type=int, default=3, help="of again")
    usual = ["seeds", "teacher", "pairs"]
    parser.add_argument("--what", nargs="+", default=usual, help="of again, in this order; also steps, speedrun")
    parser.add_argument("--apart", dest="together", action="store_false", help="students one after the other")
    parser.add_argument("--toy", action="store_true", help="sizes of a rehearsal")
    options = parser.parse_args(arguments)
    options.minutes = MINUTES.get(options.part, 0.0) if options.minutes is None else options.minutes
    options.out = options.out.resolve()
    options.pack = (options.pack or Path(os.environ.get("OUT") or options.out / "packed")).resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
