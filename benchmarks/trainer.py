"""A whole training step, teacher included: DeepKD over DKD by this trainer, against the way published code takes it.

A batch comes with its images; a step is the teacher's logits (computed, or read from a table), the student's forward
pass, losses, backward passes and update. The slow one runs an unchanged teacher, three backward passes and loops over
tensors. Run

    python -m benchmarks.trainer [--students resnet8x4 resnet20] [--teacher resnet32x4] [--compile] [--device cuda]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from tests.reference.published_step import PublishedStep
from torch import nn

import fractionate as fr
from fractionate.data import Batch, Normalization, SmallImages
from fractionate.models.cifar import CIFAR
from fractionate.tasks import make_rows
from fractionate.teachers.live import LiveTeacher, Teacher, folded
from fractionate.teachers.table import TeacherTable
from fractionate.train.step import train_step

from . import optimizer
from .measure import Work, agree, interleave, moved, spread, whole_float32
from .record import append, parser, prepare, rows, show
from .step import DECAY, DELTA, DKD, LR, MOMENTUM, PROGRESS, published_losses

DEEPKD = fr.methods.deepkd(DKD, delta=DELTA)
SLOW = "published: eager teacher, three backward passes, loops"
LIVE, COMPILED, TABLE = "live teacher, folded", "live teacher, folded and compiled", "teacher table"
TWO, ONE, FORWARD = "student, two backward passes", "student, one backward pass", "student, forward pass and losses"
GOALS = {LIVE: {"resnet8x4": 0.62}, COMPILED: {"resnet8x4": 0.62}, TABLE: {"resnet8x4": 0.34, "resnet20": 0.18}}
STUDENT_GOAL, UPDATE_GOAL = 1.72, 0.45
BATCHES = 4


def images(batch: int, classes: int, device: torch.device) -> SmallImages:
    """Noise of the size of CIFAR."""
    pixels = torch.randint(0, 256, (batch * BATCHES, 3, 32, 32), dtype=torch.uint8)
    target = torch.randint(classes, (len(pixels),))
    scale = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return SmallImages(pixels, target, classes, scale, batch, shift=4, flip=True, device=device)


def trained(net: nn.Module) -> nn.Module:
    """Scales and statistics that folding has to respect."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net.eval().requires_grad_(False)


def turning(batches: Sequence[Batch], step: Callable[[Batch], object]) -> Work:
    """Every call takes the next batch."""
    calls = iter(range(10**9))
    return lambda: step(batches[next(calls) % len(batches)])


def ours(net: nn.Module, batches: Sequence[Batch], teacher: Teacher, method: fr.Method = DEEPKD) -> Work:
    """The trainer's step."""
    net, merge = net.to(memory_format=torch.channels_last), method.exact_merge(DECAY)
    opt = fr.StreamSGD(net.parameters(), lr=LR, momentum=method.momenta(MOMENTUM, merge), weight_decay=DECAY)
    params = list(net.parameters())
    return turning(batches, lambda b: train_step(params, method, opt, make_rows(net, teacher, b), PROGRESS, merge))


def theirs(net: nn.Module, batches: Sequence[Batch], teacher: nn.Module) -> Work:
    """Published code: images in the usual layout, an eager teacher, a backward pass per loss, loops."""
    momenta = {"task": MOMENTUM + DELTA, "target": MOMENTUM - DELTA, "nontarget": MOMENTUM + DELTA}
    opt = PublishedStep(list(net.parameters()), lr=LR, momenta=momenta, weight_decay=DECAY, rule="paper")

    def step(batch: Batch) -> None:
        with torch.no_grad():
            logits = teacher(batch.images)
        opt.step(opt.backward(published_losses(net(batch.images), logits, batch.target)))

    usual = [Batch(b.images.contiguous(), b.target, b.index) for b in batches]
    return turning(usual, step)


def forward(net: nn.Module, batches: Sequence[Batch], teacher: Teacher) -> Work:
    """What comes before the first backward pass."""
    net = net.to(memory_format=torch.channels_last)
    return turning(batches, lambda b: DEEPKD.stream_losses(make_rows(net, teacher, b), PROGRESS))


def contenders(
    student: nn.Module, teacher: nn.Module, data: SmallImages, compiled: bool
) -> dict[str, tuple[nn.Module, Work]]:
    """Each with a copy of the student; the table has been read once before, or lies on a GPU as a whole."""
    dtype, table = next(student.parameters()).dtype, TeacherTable(teacher, data)
    if torch.device(data.device).type == "cuda":  # which would wait for the host at every look into another one
        table.fill()
    kept = [table(b) for b in data.batches(1)]
    batches = [replace(b, images=b.images.to(dtype)) for b in data.batches(1)]
    probe, eager = batches[0].images, copy.deepcopy(teacher).to(dtype)
    logits = {id(b): z for b, z in zip(batches, kept, strict=True)}
    given: Teacher = lambda batch: logits[id(batch)]  # noqa: E731
    made: dict[str, Callable[[nn.Module], Work]] = {
        SLOW: lambda net: theirs(net, batches, eager),
        LIVE: lambda net: ours(net, batches, LiveTeacher(folded(eager, probe))),
        TABLE: lambda net: ours(net, batches, table),
        TWO: lambda net: ours(net, batches, given),
        ONE: lambda net: ours(net, batches, given, DKD),
        FORWARD: lambda net: forward(net, batches, given),
    }
    if compiled:
        made[COMPILED] = lambda net: ours(net, batches, LiveTeacher(folded(eager, probe, compiled=True)))
    nets = {name: copy.deepcopy(student).train() for name in made}
    return {name: (nets[name], made[name](nets[name])) for name in made}


def check(student: nn.Module, teacher: nn.Module, data: SmallImages) -> None:
    """All ways move the weights alike: in float64, but for the float32 of the logits in the table."""
    student = copy.deepcopy(student).double()
    made = contenders(student, teacher, data, compiled=False)
    for name in (SLOW, LIVE, TABLE):
        for _ in range(2):
            made[name][1]()
    for name in (LIVE, TABLE):
        agree(moved(made[name][0], student), moved(made[SLOW][0], student), f"{name} and {SLOW}", tolerance=1e-3)


def measured(name: str, options: argparse.Namespace, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every contender for one student."""
    teacher = trained(CIFAR[options.teacher](options.classes).to(device))
    student = CIFAR[name](options.classes).to(device)
    with whole_float32():  # the table's logits are not float64
        check(student, teacher, images(4, options.classes, device))
    made = contenders(student, teacher, images(options.batch, options.classes, device), options.compile)
    works = {key: work for key, (_, work) in made.items()}
    works |= {key: optimizer.contenders(student)[key][1] for key in (optimizer.LOOPS, optimizer.TWO)}
    clock = time.process_time if options.processor_time else time.perf_counter
    return interleave(works, options.rounds, device, clock)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV."""
    options = _options(arguments)
    device = prepare(options)
    for name in options.students:
        seconds = measured(name, options, device)
        case = f"{options.teacher} -> {name}, batch {options.batch}, {options.classes} classes, {device.type}"
        case += ", processor time" if options.processor_time else ""
        for part, names in _groups(seconds).items():
            found = rows(f"{case}: {part}", {key: seconds[key] for key in names}, names[0])
            show(found)
            append(found, options.csv, device)
            for row in found[1:]:
                _goal(name, row.contender, row.ratio)
        _floors(seconds)


def _groups(seconds: dict[str, list[float]]) -> dict[str, list[str]]:
    """What is compared with what; the first name is the base."""
    steps = [SLOW, LIVE, *([COMPILED] if COMPILED in seconds else []), TABLE]
    return {"step": steps, "student": [ONE, TWO, FORWARD], "update": [optimizer.LOOPS, optimizer.TWO]}


def _floors(seconds: dict[str, list[float]]) -> None:
    """What is left where everything but forward and backward passes costs nothing."""
    share = spread([f / b for f, b in zip(seconds[FORWARD], seconds[ONE], strict=True)]).median
    print(f"  no two backward passes cost less than 2 - (share of the forward pass) = {2 - share:.2f} of one")
    parts = zip(seconds[FORWARD], seconds[ONE], seconds[SLOW], strict=True)
    least = spread([(forward + 2 * (one - forward)) / slow for forward, one, slow in parts]).median
    print(f"  one forward pass and two backward passes are {least:.3f} of the published step: the floor of a table's")


def _goal(student: str, contender: str, ratio: float) -> None:
    goals = {TWO: STUDENT_GOAL, optimizer.TWO: UPDATE_GOAL} | {c: g[student] for c, g in GOALS.items() if student in g}
    if contender in goals:
        print(
            f"  {contender}: {ratio:.2f}, goal {goals[contender]}, {'met' if ratio <= goals[contender] else 'missed'}"
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("trainer", __doc__.splitlines()[0], rounds=7)
    made.add_argument("--students", nargs="+", default=["resnet8x4", "resnet20"], choices=list(CIFAR), metavar="NAME")
    made.add_argument("--teacher", default="resnet32x4", choices=list(CIFAR), metavar="NAME")
    made.add_argument("--batch", type=int, default=64)
    made.add_argument("--classes", type=int, default=100)
    made.add_argument("--compile", action="store_true", help="also with the folded teacher compiled")
    made.add_argument("--processor-time", action="store_true", help="count processor time (one thread, busy machine)")
    options = made.parse_args(arguments)
    if options.toy:
        options.students, options.teacher, options.batch, options.classes, options.rounds = (
            ["resnet8"],
            "resnet8",
            4,
            10,
            2,
        )
    return options


if __name__ == "__main__":
    main()
