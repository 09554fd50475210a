"""Loss and gradient with respect to the student's logits: the package, the operations of published code, and ``a + b``.

Run ``python -m benchmarks.losses --threads 1 [--clock cpu] [--device cuda]``. Every shape is timed in interleaved
rounds against the published operations (the ratio) and ``a + b`` on the same logits (the floor: two reads, one write).
The extra peak memory of the largest shape is measured in a fresh process each, on Linux.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tests.reference import published_operations as published
from torch import Tensor

import fractionate as fr

from .measure import agree, interleave, reset_peak, resident, saved_bytes
from .record import Row, append, parser, prepare, rows, show

T, K = 4.0, 5
# Shape -> share of the rounds: an hour is not needed to know a ratio of 0.1.
SIZES = {(64, 100): 1.0, (512, 1000): 0.4, (256, 21841): 0.15, (1024, 32000): 0.08}
TOY = {(8, 10): 1.0}
LARGEST, TOY_LARGEST = (4096, 32000), (256, 8192)
OURS, THEIRS, FLOOR = "fractionate", "published operations", "a + b"
FREE, COMPILED = "fractionate, terms free of charge", "fractionate, compiled"
EMPTY = "an empty function"
SMALL = 10_000  # logits up to which the calls around the terms are worth a line
UNIT = "one tensor of logits"
# What is aimed at: the ratio to the published operations per shape, to the floor, and tensors of extra memory.
GOALS = {
    "dkd": {(64, 100): 0.20, (512, 1000): 0.30, (256, 21841): 0.25, (1024, 32000): 0.10},
    "gdkd": {(64, 100): 0.50, (512, 1000): 0.30, (256, 21841): 0.15, (1024, 32000): 0.10},
}
FLOOR_GOAL, FLOOR_SHAPE, MEMORY_GOAL = 3.0, (1024, 32000), 1.15
# Of other directions, at the same shape: the ratio, and tensors of extra memory (the gradient, and two rows).
TURNED_GOALS, TURNED_MEMORY_GOAL = {"reverse": 0.15, "jsd": 0.15}, 1.05
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
Terms = Callable[[fr.Logits], Mapping[str, Tensor]]
Shape = tuple[int, int]


def turned(direction: str) -> tuple[fr.Method, Terms]:
    """KD of another direction, and the plain operations for it."""
    given = fr.methods.kd(temperature=T, direction=direction)
    return given, lambda lg: published.directed(lg.student, lg.teacher, direction.partition("(")[0], T)


METHODS: dict[str, tuple[fr.Method, Terms]] = {
    "kd": (fr.methods.kd(temperature=T), lambda lg: published.kd(lg.student, lg.teacher, T)),
    "dkd": (fr.methods.dkd(temperature=T), lambda lg: published.dkd(lg.student, lg.teacher, lg.target, T)),
    "gdkd": (fr.methods.gdkd(temperature=T, k=K), lambda lg: published.gdkd(lg.student, lg.teacher, K, T)),
    "reverse": turned("reverse"),
    "jsd": turned("jsd(beta=0.5)"),
    "skew": turned("skew(lam=0.1)"),
    "skew_reverse": turned("skew_reverse(lam=0.1)"),
}


class Line(NamedTuple):
    """One line of the table at the end."""

    what: str
    method: str
    measured: float
    goal: float | None


def rows_of(n: int, classes: int, device: torch.device, dtype: torch.dtype = torch.float32) -> fr.Logits:
    """Random logits; the student's are a leaf."""
    student, teacher = ((s * torch.randn(n, classes)).to(device, dtype) for s in (2, 4))
    return fr.Logits(student.requires_grad_(), teacher, torch.randint(classes, (n,)).to(device))


def distillation(name: str) -> fr.Method:
    """The method without its cross-entropy."""
    method = METHODS[name][0]
    return fr.only(method, [c for c in method.parts if c != "task"])


def contenders(name: str, lg: fr.Logits) -> dict[str, Callable[[], Tensor]]:
    """The distillation terms with the weights of the method, averaged; labels take no part."""
    ours, progress = distillation(name), fr.Progress(epoch=3)
    weights = {c: part.weight(progress) for c, part in ours.parts.items()}

    def theirs() -> Tensor:
        return torch.stack([weights[c] * x.mean() for c, x in METHODS[name][1](lg).items()]).sum()

    return {OURS: lambda: ours.loss(lg, progress), THEIRS: theirs}


class _Free(torch.autograd.Function):
    """Rows of zeros whose gradient is there already: what is left is the cost of the calls around the terms."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, count: int) -> tuple[Tensor, ...]:
        ctx.ready = torch.zeros_like(student)
        return tuple(student.new_zeros(len(student)) for _ in range(count))

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        return ctx.ready, None


class _Empty(torch.autograd.Function):
    """No loss at all: the least that one function written in Python costs."""

    @staticmethod
    def forward(ctx: Any, student: Tensor) -> Tensor:
        ctx.save_for_backward(student)
        return torch.empty(())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return torch.empty_like(ctx.saved_tensors[0])


def free(name: str, lg: fr.Logits) -> Callable[[], Tensor]:
    """The method with terms that compute nothing."""
    ours = distillation(name)

    def terms(lg: fr.Logits, progress: fr.Progress) -> dict[str, Tensor]:
        return dict(zip(ours.parts, _Free.apply(lg.student, len(ours.parts)), strict=True))

    return partial(replace(ours, terms=terms).loss, lg, fr.Progress(epoch=3))


def compiled(name: str, lg: fr.Logits) -> Callable[[], Tensor]:
    """The loss as a user compiles it, rows included."""
    ours, progress = distillation(name), fr.Progress(epoch=3)

    @torch.compile(fullgraph=True)
    def loss(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return ours.loss(fr.Logits(student, teacher, target), progress)

    return lambda: loss(lg.student, lg.teacher, lg.target)


def gradient(loss: Callable[[], Tensor], lg: fr.Logits) -> list[Tensor]:
    """Forward and backward down to the student's logits."""
    return list(torch.autograd.grad(loss(), lg.student))


def check(name: str, classes: int, device: torch.device) -> None:
    """Both give the same gradient, in float64 on four rows."""
    lg = rows_of(4, classes, device, torch.float64)
    made = contenders(name, lg)
    agree(gradient(made[OURS], lg), gradient(made[THEIRS], lg), name)


def timed(name: str, lg: fr.Logits, rounds: int, args: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """Rows against the published operations, and against the floor, from the same rounds."""
    device = lg.student.device
    made = contenders(name, lg)
    if lg.student.numel() <= SMALL:
        made[FREE] = free(name, lg)
        made[EMPTY] = lambda: _Empty.apply(lg.student)
        if args.compile:
            torch.compiler.reset()
            made[COMPILED] = compiled(name, lg)
    works: dict[str, Callable[[], object]] = {who: partial(gradient, loss, lg) for who, loss in made.items()}
    works[FLOOR] = partial(torch.add, lg.student.detach(), lg.teacher)
    seconds = interleave(works, rounds, device, CLOCKS[args.clock])
    saved = {who: saved_bytes(loss) for who, loss in made.items()}
    case = f"{name}, {lg.rows} x {lg.classes}, {device.type}" + (", cpu time" if args.clock == "cpu" else "")
    ratios = rows(case, {who: seconds[who] for who in made}, THEIRS, saved)
    return ratios, rows(f"{case}, floor", {who: seconds[who] for who in (OURS, FLOOR)}, FLOOR)


def peak(name: str, who: str, shape: Shape) -> tuple[float, float]:
    """Extra peak memory of one loss with its gradient in tensors of logits, and its seconds; alters the process."""
    gradient(contenders(name, small := rows_of(8, 10, torch.device("cpu")))[who], small)
    lg = rows_of(*shape, torch.device("cpu"))
    loss = contenders(name, lg)[who]
    reset_peak()
    before, start = resident(), time.perf_counter()
    gradient(loss, lg)
    seconds = time.perf_counter() - start
    return (resident(peak=True) - before) / (4 * lg.rows * lg.classes), seconds


def memory(name: str, shape: Shape, threads: int) -> list[Row]:
    """A row per contender, each from a process of its own."""
    found = []
    for who in (OURS, THEIRS):
        run = [sys.executable, "-m", "benchmarks.losses", "--threads", str(threads)]
        run += ["--peak", json.dumps([name, who, shape])]
        done = subprocess.run(run, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True)
        tensors, seconds = json.loads(done.stdout.splitlines()[-1])
        case = f"{name}, {shape[0]} x {shape[1]}, extra peak memory"
        ratio = round(tensors, 4)
        found.append(Row(case, who, round(1e3 * seconds, 4), UNIT, ratio, ratio, ratio, 1))
    return found


def table(lines: Sequence[Line]) -> None:
    """What was measured beside what is aimed at."""
    print("\nmeasured against the goals (forward and backward; smaller is better)")
    for line in lines:
        goal = (
            "" if line.goal is None else f"  goal {line.goal:5.2f}  {'met' if line.measured <= line.goal else 'missed'}"
        )
        print(f"  {line.what:<48}  {line.method:<12}  {line.measured:6.3f}{goal}")


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    made = parser("losses", __doc__.splitlines()[0], rounds=51)
    made.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: time of this process alone")
    made.add_argument(
        "--compile", action="store_true", help="small batches with torch.compile too (needs a C++ compiler)"
    )
    made.add_argument("--small", action="store_true", help="the smallest shape alone")
    made.add_argument("--only", nargs="+", choices=list(METHODS), help="these alone")
    made.add_argument("--no-memory", action="store_true", help="leave out the processes that measure memory")
    made.add_argument("--peak", type=json.loads, help=argparse.SUPPRESS)
    return made.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV."""
    args = options(arguments)
    device = prepare(args)
    if args.peak:
        print(json.dumps(peak(*args.peak)))
        return
    lines = []
    sizes = dict(list(SIZES.items())[:1]) if args.small else SIZES
    for shape, share in (TOY if args.toy else sizes).items():
        lg = rows_of(*shape, device)
        rounds = 2 if args.toy else max(3, round(share * args.rounds))
        for name in args.only or METHODS:
            check(name, lg.classes, device)
            for found in timed(name, lg, rounds, args):
                show(found)
                append(found, args.csv, device)
                lines.append(_line(name, shape, found[0]))
    if not (args.no_memory or args.small) and device.type == "cpu" and Path("/proc/self/clear_refs").exists():
        for name in ("dkd",) if args.toy else args.only or METHODS:
            found = memory(name, TOY_LARGEST if args.toy else LARGEST, torch.get_num_threads())
            show(found)
            append(found, args.csv, device)
            aim = MEMORY_GOAL if name in GOALS else TURNED_MEMORY_GOAL
            goal = None if args.toy or name not in {*GOALS, *TURNED_GOALS} else aim
            lines.append(Line(found[0].case.partition(", ")[2], name, found[0].ratio, goal))
    table(sorted(lines, key=lambda line: line.what.endswith(FLOOR)))


def _line(name: str, shape: Shape, ours: Row) -> Line:
    floor, large = ours.against == FLOOR, shape == FLOOR_SHAPE
    if floor:
        goal = FLOOR_GOAL if large and name in GOALS else None
    else:
        goal = GOALS.get(name, {}).get(shape) or (TURNED_GOALS.get(name) if large else None)
    return Line(f"{shape[0]} x {shape[1]}, time against {ours.against}", name, ours.ratio, goal)


if __name__ == "__main__":
    main()
