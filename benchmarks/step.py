"""One training step: two backward passes (DeepKD) against one (the same losses in one stream) and published code.

A step is the student's forward pass, losses, backward passes and update; the teacher's logits are given. Run

    python -m benchmarks.step [--student resnet8x4] [--batch 64] [--channels-last] [--device cuda]
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence

import torch
from tests.reference import published_operations as published
from tests.reference.basics import warmup
from tests.reference.published_step import PublishedStep
from torch import Tensor, nn

import fractionate as fr
from fractionate.models.cifar import CIFAR

from .measure import Work, agree, interleave, moved
from .record import append, parser, prepare, rows, show

LR, MOMENTUM, DECAY, DELTA = 0.05, 0.9, 5e-4, 0.075
ALPHA, BETA, TEMPERATURE, WARMUP = 1.0, 8.0, 4.0, 20
PROGRESS = fr.Progress(epoch=3)
DKD = fr.methods.dkd(alpha=ALPHA, beta=BETA, temperature=TEMPERATURE, warmup=WARMUP)
ONE, TWO = "one backward pass (dkd)", "two backward passes (dkd+deepkd)"
THREE, PUBLISHED = "three (dkd+deepkd, published-code)", "three, published operations and loops"
SGD = "one, published operations, torch SGD"
TARGET = 1.75


class Batch:
    """Images, labels and teacher logits of one step."""

    def __init__(self, size: int, classes: int, like: Tensor, layout: torch.memory_format) -> None:
        self.images = torch.randn(size, 3, 32, 32).to(like).to(memory_format=layout)
        self.target = torch.randint(classes, (size,)).to(like.device)
        self.teacher = (4 * torch.randn(size, classes)).to(like)


def ours(net: nn.Module, batch: Batch, method: fr.Method) -> Work:
    """forward, stream losses, stream gradients, StreamSGD."""
    merge = method.exact_merge(DECAY)
    opt = fr.StreamSGD(net.parameters(), lr=LR, momentum=method.momenta(MOMENTUM, merge), weight_decay=DECAY)

    def step() -> None:
        lg = fr.Logits(net(batch.images), batch.teacher, batch.target)
        opt.step(fr.stream_grads(method.stream_losses(lg, PROGRESS, merge), net))

    return step


def published_losses(z: Tensor, teacher: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The three losses by the operations of published code."""
    w = warmup(PROGRESS.epoch, WARMUP)
    terms = published.dkd(z, teacher, target, TEMPERATURE)
    return {
        "task": nn.functional.cross_entropy(z, target),
        "target": w * ALPHA * terms["target"].mean(),
        "nontarget": w * BETA * terms["nontarget"].mean(),
    }


def theirs(net: nn.Module, batch: Batch) -> Work:
    """Three backward passes through p.grad, then loops over tensors (the paper's rule)."""
    momenta = {"task": MOMENTUM + DELTA, "target": MOMENTUM - DELTA, "nontarget": MOMENTUM + DELTA}
    opt = PublishedStep(list(net.parameters()), lr=LR, momenta=momenta, weight_decay=DECAY, rule="paper")
    return lambda: opt.step(opt.backward(published_losses(net(batch.images), batch.teacher, batch.target)))


def plain(net: nn.Module, batch: Batch) -> Work:
    """loss.backward() and torch.optim.SGD."""
    opt = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)

    def step() -> None:
        opt.zero_grad()
        losses = published_losses(net(batch.images), batch.teacher, batch.target)
        torch.stack(list(losses.values())).sum().backward()
        opt.step()

    return step


def contenders(net: nn.Module, batch: Batch) -> dict[str, tuple[nn.Module, Work]]:
    """Each with a copy of the student."""
    deepkd = fr.methods.deepkd(DKD, delta=DELTA)
    made: dict[str, Callable[[nn.Module, Batch], Work]] = {
        ONE: lambda n, b: ours(n, b, DKD),
        TWO: lambda n, b: ours(n, b, deepkd),
        THREE: lambda n, b: ours(n, b, fr.methods.deepkd(DKD, delta=DELTA, rule="published-code")),
        PUBLISHED: theirs,
        SGD: plain,
    }
    nets = {name: copy.deepcopy(net) for name in made}
    return {name: (nets[name], made[name](nets[name], batch)) for name in made}


def check(net: nn.Module, classes: int, layout: torch.memory_format) -> None:
    """The same weights come out of the package and of published code, in float64 on four images."""
    net = copy.deepcopy(net).double()
    made = contenders(net, Batch(4, classes, next(net.parameters()), layout))
    for _, work in made.values():
        work()
        work()
    for a, b in ((TWO, PUBLISHED), (ONE, SGD)):
        agree(moved(made[a][0], net), moved(made[b][0], net), f"{a} and {b}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV."""
    options = _options(arguments)
    device = prepare(options)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    net = CIFAR[options.student](options.classes).to(device).to(memory_format=layout).train()
    check(net, options.classes, layout)
    batch = Batch(options.batch, options.classes, next(net.parameters()), layout)
    words = "channels_last" if options.channels_last else "contiguous"
    case = f"{options.student}, batch {options.batch}, {options.classes} classes, {words}, {device.type}"
    works = {name: work for name, (_, work) in contenders(net, batch).items()}
    seconds = interleave(works, options.rounds, device)
    found = rows(case, seconds, ONE)
    show(found)
    two = next(row for row in found if row.contender == TWO)
    print(f"  two backward passes cost {two.ratio:.2f} times one (aim: at most {TARGET})")
    append(found, options.csv, device)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("step", __doc__.splitlines()[0], rounds=11)
    made.add_argument("--student", default="resnet8x4", choices=list(CIFAR), metavar="NAME", help="CIFAR network")
    made.add_argument("--batch", type=int, default=64)
    made.add_argument("--classes", type=int, default=100)
    made.add_argument("--channels-last", action="store_true", help="memory layout of images and weights")
    options = made.parse_args(arguments)
    if options.toy:
        options.student, options.batch, options.classes, options.rounds = "resnet8", 4, 10, 2
    return options


if __name__ == "__main__":
    main()
