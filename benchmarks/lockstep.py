"""What students side by side cost: one step of each of K students, one after the other and in lockstep.

    python -m benchmarks.lockstep [--rounds 3] [--threads 1]

Four students (KD, DKD, GDKD, KD with DOT) of one seed learn from one live teacher on the same batches of random pixels
in the size of CIFAR-100. One after the other, each crops its batch and asks the teacher for itself; side by side, the
batch is made once and the teacher asked once. Both take the trainer's own steps, and the benchmark makes sure that both
come to the same weights, bit for bit. The processor's time counts, not the wall clock. The aim: side by side at most
0.75 of one after the other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from fractionate.config.method import MethodSpec
from fractionate.config.run import Network, Run
from fractionate.data import Normalization, SmallImages
from fractionate.models import create
from fractionate.recipes.cifar100 import student
from fractionate.runs.runner import Turns
from fractionate.studies.turns import Student, Surroundings
from fractionate.train.build import prepare
from fractionate.train.lockstep import Common
from fractionate.train.loop import Loop

from .measure import interleave, ratio
from .record import append, parser, rows, show
from .record import prepare as prepared

METHODS = ("kd", "dkd", "gdkd", "kd+dot")
AIM = 0.75
ALONE, TOGETHER = "one after the other", "side by side"


def images(count: int, side: int, batch_size: int) -> SmallImages:
    """Random pixels in the size of CIFAR-100, cropped and flipped as there."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    target = torch.randint(0, 100, (count,), generator=generator)
    return SmallImages(pixels, target, 100, Normalization.of(pixels), batch_size=batch_size, shift=4, flip=True)


def steps_of(run: Run, source: Sequence[SmallImages], teacher: torch.nn.Module, common: Common | None) -> Turns[None]:
    """A run's loop before the first step and after every one."""
    training = prepare(run, teacher=teacher, train=source[0], test=source[1], common=common)
    loop = Loop(training, common)
    yield loop
    for _ in loop.turns():
        yield loop


def group(options: argparse.Namespace, common: Common | None) -> list[Student[None]]:
    """Students that have not begun."""
    source = images((options.rounds + 3) * options.batch, options.side, options.batch)
    test = images(8, options.side, 8)
    torch.manual_seed(1)
    teacher = create(options.teacher, num_classes=100)
    network, around = Network(options.teacher), Surroundings.now()
    made = []
    for name in METHODS:
        run = student(MethodSpec.parse(name), network, name=options.student, epochs=1)
        run = replace(run, device="cpu", threads=1)
        made.append(Student(name, steps_of(run, (source, test), teacher, common), around))
    for one in made:
        one.turn()
    return made


def step(students: Sequence[Student[None]]) -> None:
    """One of every student."""
    for one in students:
        one.turn()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV."""
    options = _options(arguments)
    device = prepared(options)
    groups = {ALONE: group(options, None), TOGETHER: group(options, Common())}
    contenders: dict[str, Callable[[], None]] = {name: partial(step, students) for name, students in groups.items()}
    seconds = interleave(contenders, options.rounds, device, time.process_time)
    _check(groups[ALONE], groups[TOGETHER])
    case = f"{len(METHODS)} x {options.student} from a live {options.teacher}, {options.batch} images, a step, cpu"
    found = rows(case, seconds, ALONE)
    show(found)
    median = ratio(seconds, TOGETHER, ALONE).median
    print(f"  aim: at most {AIM:g}; {'met' if median <= AIM else 'missed'} ({median:.3f})")
    append(found, options.csv, device)


def _check(alone: Sequence[Student[None]], together: Sequence[Student[None]]) -> None:
    """Both ways must have led to the same weights, or their times mean nothing."""
    for a, b in zip(alone, together, strict=True):
        assert a.loop is not None
        assert b.loop is not None
        one, two = (loop.training.student.state_dict() for loop in (a.loop, b.loop))
        other = [name for name in one if not torch.equal(one[name], two[name])]
        if other or a.loop.training.step != b.loop.training.step:
            raise RuntimeError(f"{a.title}: side by side has come to other weights than alone ({other[:1]})")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("lockstep", __doc__.splitlines()[0], rounds=5)
    made.add_argument("--teacher", default="resnet32x4")
    made.add_argument("--student", default="resnet8x4")
    options = made.parse_args(arguments)
    options.batch, options.side = 64, 32
    if options.toy:
        options.teacher, options.student, options.batch, options.rounds = "resnet8", "resnet8", 8, 1
    return options


if __name__ == "__main__":
    main()
