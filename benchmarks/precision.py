"""What bfloat16 costs in accuracy: paired seeds of the small study in float32 and in bfloat16. Resumes.

    python -m benchmarks.precision --data DIR [--out runs/precision] [--minutes 9] [--seeds 3] [--methods dkd]

The students share one teacher, the kept one of cifar100-small, and differ in ``precision`` alone. Printed are, for
every method, the difference of the paired last epochs with its 95 % Student interval, and the quotient of their times;
the same command goes on where it stopped, and says what is missing until then. ``precision=auto`` is worth taking where
the interval holds 0 or lies close to it, and the quotient is well below 1.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fractionate.config.files import override
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network
from fractionate.recipes.cifar100_small import TEACHER, student
from fractionate.report.words import paired_difference
from fractionate.runs.folder import RunFolder
from fractionate.runs.stop import Stopped, deadline
from fractionate.studies.chosen import folder_name
from fractionate.studies.display import display
from fractionate.studies.jobs import Job, Options, run_jobs
from fractionate.train.device import fast_precision, place

from .cifar100_table import Lines
from .keep import KEPT

PRECISIONS = ("float32", "bfloat16")
WEIGHTS = KEPT / "cifar100-small" / "teacher" / "student.safetensors"


def jobs_of(options: argparse.Namespace) -> list[Job]:
    """Both precisions of a seed, side by side, so that an interrupted study is balanced."""
    made = []
    for seed in range(options.seeds):
        for name in options.methods:
            spec = MethodSpec.parse(name)
            run = student(spec, Network(options.teacher, options.weights), name=options.student, seed=seed)
            run = override(replace(run, teacher_table="off"), options.changes)
            for precision in PRECISIONS:
                folder = options.out / precision / folder_name(spec) / f"seed-{seed}"
                made.append(Job(f"{name}, {precision}, seed {seed}", override(run, [f"precision={precision}"]), folder))
    return made


def told(options: argparse.Namespace, name: str) -> str:
    """The paired difference of a method, in one line."""
    found: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    seconds: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for seed in range(options.seeds):
        pair = [RunFolder(options.out / p / folder_name(MethodSpec.parse(name)) / f"seed-{seed}") for p in PRECISIONS]
        if all(run.finished for run in pair):
            for precision, run in zip(PRECISIONS, pair, strict=True):
                found[precision].append(run.summary()["last_top1"])
                seconds[precision].append(run.summary()["seconds"])
    count = len(found["float32"])
    if not count:
        return f"{name}: no pair is finished"
    quotient = statistics.median(b / a for a, b in zip(*seconds.values(), strict=True))
    means = ", ".join(f"{p} {statistics.mean(found[p]):.2f} %" for p in PRECISIONS)
    head = f"{name}: {means}; time x {quotient:.2f}; {count} of {options.seeds} pairs"
    if count < 2:
        return f"{head}; one pair gives no interval"
    gap = paired_difference(found["bfloat16"], found["float32"])
    return f"{head}; difference {gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}] points, 95 %"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, and say what is known."""
    options, console = _options(arguments), Lines()
    print("precision=auto here: {}, because {}".format(*fast_precision(place("cpu"))))
    limits = Options(
        resume=True, command=("python", "-m", "benchmarks.precision"), deadline=deadline(60 * options.minutes)
    )
    jobs, code = jobs_of(options), 0
    try:
        with display(console, jobs) as listen:  # type: ignore[arg-type]
            run_jobs(jobs, limits, listen)
    except Stopped as stopped:
        print(stopped)
        code = stopped.exit_code
    for name in options.methods:
        print(told(options, name))
    return code


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=None, help="folder that holds cifar-100-python")
    parser.add_argument("--out", type=Path, default=Path("runs/precision"))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=["dkd"])
    parser.add_argument("--teacher", default=TEACHER)
    parser.add_argument("--weights", default=str(WEIGHTS), help="of the teacher")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("changes", nargs="*", help="field=value for every run, such as epochs=2")
    options = parser.parse_args(arguments)
    options.changes = ["device=cpu", *([f"data.root={options.data}"] if options.data else []), *options.changes]
    return options


if __name__ == "__main__":
    sys.exit(main())
