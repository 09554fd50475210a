"""How long 240 epochs take: a few epochs of real training, data and evaluation included, one way after the other.

    python -m benchmarks.pace --data DIR [--epochs 3] [--device cuda]
    python -m benchmarks.pace --noise --ways --together 1 4 8

``--noise`` takes a quarter as many random pixels, of the same shape, and counts their epoch four times. ``--together``
trains so many methods in lockstep, by ``fractionate compare --together``; the time between two ends of an epoch counts.
The teacher has random weights and the learning rate is next to 0, so that nothing diverges; neither changes a time. The
last epoch counts, so that what happens once (compiling, filling a table, recording a graph) does not; it is printed
beside it. A way that this machine cannot take (a graph without a CUDA device) is named and leaves no row. Seconds are
of this machine and no ratio.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file

from fractionate.config.files import override
from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run
from fractionate.models import create
from fractionate.recipes.cifar100 import student
from fractionate.train.build import prepare
from fractionate.train.loop import Loop

from .pieces import noise
from .record import Row, append, parser, show
from .record import prepare as prepared

PUBLISHED = 240
AIM, STRETCH = 4.0, 2.0  # minutes of one H200-class GPU
CALM = 1e-7  # learning rate
WAYS: dict[str, tuple[str, ...]] = {
    "as usual": (),
    "bfloat16": ("precision=bfloat16",),
    "graph": ("graph=true",),
    "graph, bfloat16": ("graph=true", "precision=bfloat16"),
    "graph, bfloat16, full table": ("graph=true", "precision=bfloat16", "teacher_table=full"),
}
METHODS = ("ce", "kd", "dkd", "gdkd", "dkd+dot", "dkd+deepkd", "dkd+deepkd(rule=published-code)", "kd+deepkd")
FAST = ("graph=true", "precision=bfloat16")
NOISE = (125, 25)  # training and test images of a class: a quarter of CIFAR-100
TOY = ("data={name: digits, labels_per_class: 5, batch_size: 16, shift: 1}", "student=convnet_8_16")


def run_of(options: argparse.Namespace, changes: Sequence[str]) -> Run:
    """DeepKD over DKD for the pair of the options."""
    made = student(
        MethodSpec.parse("dkd+deepkd"), Network(options.teacher), name=options.student, epochs=options.epochs
    )
    data = [f"data.root={options.data}"] if options.data else []
    made = override(made, [*data, f"device={options.device}", *(TOY if options.toy else ()), *changes])
    made = replace(made, learning_rate=replace(made.learning_rate, schedule="constant", milestones=()))
    return replace(made, optimizer=replace(made.optimizer, lr=CALM))


class NotTaken(Exception):
    """Steps are not taken in the way that was asked for; says why."""


def seconds_of(run: Run) -> tuple[float, float]:
    """Of the last epoch, and of everything before the second.

    Raises:
        NotTaken: the config asks for a graph, and none was recorded.
    """
    started = time.perf_counter()
    loop = Loop(prepare(run))
    _check_graph(loop)
    ends = [time.perf_counter() for _ in loop.records()]
    _check_graph(loop)  # recording may have failed
    return [b - a for a, b in pairwise(ends)][-1], ends[0] - started


def _check_graph(loop: Loop) -> None:
    if loop.captured and loop.captured.reason:
        raise NotTaken(loop.captured.reason)


def seconds_together(options: argparse.Namespace, count: int, folder: Path) -> tuple[float, float]:
    """Of the last epoch of so many students in lockstep, and of everything before the second.

    Raises:
        NotTaken: the command failed; says why.
    """
    weights, out = folder / "teacher.safetensors", folder / f"together-{count}"
    teacher, student = ("resnet8", "resnet8") if options.toy else (options.teacher, options.student)
    net = create(teacher, num_classes=100)
    save_file({key: value.clone() for key, value in net.state_dict().items()}, weights)
    changes = [f"device={options.device}", f"optimizer.lr={CALM}", "learning_rate={schedule: constant}"]
    changes += [] if options.toy else FAST
    words = ["compare", "cifar100", *changes, "--teacher-checkpoint", weights, "--teacher", teacher]
    words += ["--student", student, "--data", options.data, "--seeds", 1, "--epochs", options.epochs]
    words += ["--out", out, "--methods", *METHODS[:count], "--workers", 1, "--together"]
    started, ends = time.perf_counter(), [0.0]
    with (folder / f"together-{count}.log").open("w") as log:
        child = subprocess.Popen([sys.executable, "-m", "fractionate", *map(str, words)], stdout=log, stderr=log)
        running = True
        while running:
            running = child.poll() is None
            lines = [len(f.read_bytes().splitlines()) for f in out.rglob("seed-*/metrics.jsonl")]
            while len(lines) == count and min(lines) >= len(ends):  # an epoch ends when every student has its line
                ends.append(time.perf_counter() - started)
            time.sleep(0.02)
    if child.returncode or len(ends) <= options.epochs:
        raise NotTaken((Path(log.name).read_text(errors="replace").splitlines() or ["no word"])[-1])
    return ends[-1] - ends[-2], ends[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV; a way at a time, so that one that fails takes no other with it."""
    options = _options(arguments)
    device = prepared(options)
    with tempfile.TemporaryDirectory() as folder:
        if options.noise:
            options.data = Path(folder)
            noise(options.data, (2, 1) if options.toy else NOISE)
        _measure(options, device, Path(folder))


def _measure(options: argparse.Namespace, device: torch.device, folder: Path) -> None:
    scale = 500 / NOISE[0] if options.noise and not options.toy else 1.0
    case = f"{options.teacher} -> {options.student}, an epoch, {device.type}"
    base: tuple[str, float] | None = None
    for name in [*options.ways, *(f"together: {count}" for count in options.together)]:
        try:
            if name in WAYS:
                taken, before = seconds_of(run_of(options, WAYS[name]))
            else:
                taken, before = seconds_together(options, int(name.split()[-1]), folder)
        except NotTaken as why:
            print(f"{name}: not measured, because {why}", flush=True)
            continue
        taken *= scale
        base = base or (name, taken)
        quotient = round(taken / base[1], 4)
        found = [Row(case, name, 1e3 * taken, base[0], quotient, quotient, quotient, 1)]
        show(found)
        print(f"  {PUBLISHED} epochs: {_against_the_aim(PUBLISHED * taken / 60, device)}")
        print(f"  before the second epoch: {before:.0f} s", flush=True)
        append(found, options.csv, device)


def _against_the_aim(minutes: float, device: torch.device) -> str:
    """Minutes, and whether they are few enough, where they are of a GPU."""
    if device.type != "cuda":
        return f"{minutes:.1f} min here; the aim, {AIM:g} min on a GPU, is not measured"
    reached = "stretch met" if minutes <= STRETCH else "met" if minutes <= AIM else "missed"
    return f"{minutes:.1f} min, aim {AIM:g} (stretch {STRETCH:g}): {reached}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("pace", __doc__.splitlines()[0], rounds=1)
    made.add_argument("--teacher", default="resnet32x4")
    made.add_argument("--student", default="resnet8x4")
    made.add_argument("--epochs", type=int, default=3)
    made.add_argument("--data", type=Path, default=None, help="folder that holds cifar-100-python")
    made.add_argument("--ways", nargs="*", default=[*WAYS][:-1], choices=[*WAYS], metavar="WAY", help=", ".join(WAYS))
    made.add_argument("--noise", action="store_true", help="random pixels in place of a data set")
    made.add_argument("--together", nargs="*", type=int, default=[], metavar="N", help="students in lockstep")
    options = made.parse_args(arguments)
    if options.together and not options.noise and options.data is None:
        raise ValueError("--together needs --data DIR or --noise")
    if options.toy:
        options.teacher, options.student, options.epochs = "convnet_8_16", "convnet_4_8", 2
        options.ways = ["as usual", "bfloat16"] if options.ways else []
        options.together = [min(2, count) for count in options.together[:1]]
    if options.epochs < 2:
        raise ValueError(f"epochs must be at least 2, got {options.epochs}")
    return options


if __name__ == "__main__":
    main()
