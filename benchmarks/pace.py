"""How long 240 epochs take: a few epochs of real training, data and evaluation included, one way after the other.

    python -m benchmarks.pace --data DIR [--epochs 3] [--device cuda]

The teacher has random weights, which changes no time. The last epoch counts, so that what happens once (compiling,
filling a table, recording a graph) does not; it is printed beside it. Seconds are of this machine and no ratio.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from fractionate.recipes.cifar100 import student
from fractionate.train import Loop, MethodSpec, Network, Run, override, prepare

from .record import Row, append, parser, show
from .record import prepare as prepared

PUBLISHED = 240
WAYS: dict[str, tuple[str, ...]] = {
    "as usual": (),
    "bfloat16": ("precision=bfloat16",),
    "graph": ("graph=true",),
    "graph, bfloat16": ("graph=true", "precision=bfloat16"),
    "graph, bfloat16, full table": ("graph=true", "precision=bfloat16", "teacher_table=full"),
}
TOY = ("data={name: digits, labels_per_class: 5, batch_size: 16, shift: 1}", "student=convnet_8_16")


def run_of(options: argparse.Namespace, changes: Sequence[str]) -> Run:
    """DeepKD over DKD for the pair of the options."""
    made = student(
        MethodSpec.parse("dkd+deepkd"), Network(options.teacher), name=options.student, epochs=options.epochs
    )
    data = [f"data.root={options.data}"] if options.data else []
    made = override(made, [*data, f"device={options.device}", *(TOY if options.toy else ()), *changes])
    return replace(made, learning_rate=replace(made.learning_rate, schedule="constant", milestones=()))


def seconds_of(run: Run) -> tuple[float, float]:
    """Of the last epoch, and of everything before the second."""
    started = time.perf_counter()
    ends = [time.perf_counter() for _ in Loop(prepare(run)).records()]
    return [b - a for a, b in pairwise(ends)][-1], ends[0] - started


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV."""
    options = _options(arguments)
    device = prepared(options)
    times: dict[str, float] = {}
    for name in options.ways:
        times[name], before = seconds_of(run_of(options, WAYS[name]))
        minutes = PUBLISHED * times[name] / 60
        print(
            f"  {name}: {minutes:.1f} min for {PUBLISHED} epochs, and {before:.0f} s before the second one", flush=True
        )
    first = options.ways[0]
    case = f"{options.teacher} -> {options.student}, an epoch, {device.type}"
    found = []
    for name, taken in times.items():
        quotient = round(taken / times[first], 4)
        found.append(Row(case, name, 1e3 * taken, first, quotient, quotient, quotient, 1))
    show(found)
    append(found, options.csv, device)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("pace", __doc__.splitlines()[0], rounds=1)
    made.add_argument("--teacher", default="resnet32x4")
    made.add_argument("--student", default="resnet8x4")
    made.add_argument("--epochs", type=int, default=3)
    made.add_argument("--data", type=Path, default=None, help="folder that holds cifar-100-python")
    made.add_argument("--ways", nargs="+", default=[*WAYS][:-1], choices=[*WAYS], metavar="WAY", help=", ".join(WAYS))
    options = made.parse_args(arguments)
    if options.toy:
        options.teacher, options.student, options.epochs = "convnet_8_16", "convnet_4_8", 2
        options.ways = ["as usual", "bfloat16"]
    if options.epochs < 2:
        raise ValueError(f"epochs must be at least 2, got {options.epochs}")
    return options


if __name__ == "__main__":
    main()
