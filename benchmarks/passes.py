"""Two backward passes of a student over one graph: one after the other, batched into one, or each over its own graph.

    python -m benchmarks.passes [--students resnet8x4 wrn_16_2] [--rounds 7] [--threads 1] [--device cuda]

autograd runs a backward operation on the stream of its forward operation, so that two passes over one graph cannot lie
side by side on a GPU. Two ways could take their place: ``torch.autograd.grad(..., is_grads_batched=True)``, which runs
every operation once on both streams' gradients, and a forward pass of its own for each of them. A round is forward and
backward down to the gradients of KD's two streams. The benchmark makes sure that all come to the same gradients. On a
CPU the processor's time counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import fractionate as fr
from fractionate.models.cifar import CIFAR

from .measure import agree, interleave, ratio
from .record import append, parser, rows, show
from .record import prepare as prepared
from .step import Batch

METHOD = fr.methods.dot(fr.methods.kd())
AFTER, BATCHED, APART = "one after the other", "in one batched pass", "each over a forward pass of its own"
AIM = 0.9  # of the time: what it would have to save to be worth a second way
Gradients = list[Tensor]


def losses(net: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and a loss per stream."""
    logits = net(batch.images)
    return logits, METHOD.stream_losses(fr.Logits(logits, batch.teacher, batch.target))


def after(net: nn.Module, batch: Batch) -> Gradients:
    """As the package does it."""
    grads = fr.stream_grads(losses(net, batch)[1], net)
    return [g for row in grads.values() for g in row if g is not None]


def batched(net: nn.Module, batch: Batch) -> Gradients:
    """Both gradients at the logits, one behind the other, and a pass of every operation over both."""
    logits, found = losses(net, batch)
    at = torch.stack([torch.autograd.grad(x, logits, retain_graph=True)[0] for x in found.values()])
    grads = torch.autograd.grad(logits, list(net.parameters()), at, is_grads_batched=True)
    return [g[i] for i in range(len(found)) for g in grads]


def apart(net: nn.Module, batch: Batch) -> Gradients:
    """What two branches of a recording would do: nothing of one pass is read by the other."""
    made: Gradients = []
    for name in METHOD.momenta(0.9):
        made += torch.autograd.grad(losses(net, batch)[1][name], list(net.parameters()))
    return made


WAYS: dict[str, Callable[[nn.Module, Batch], Gradients]] = {AFTER: after, BATCHED: batched, APART: apart}


def check(name: str) -> None:
    """The same gradients, in float64 on four images."""
    net = CIFAR[name](10).double().train()
    batch = Batch(4, 10, next(net.parameters()), torch.channels_last)
    found = {way: work(net, batch) for way, work in WAYS.items()}
    for way in (BATCHED, APART):
        agree(found[way], found[AFTER], f"{name}: {way}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV."""
    options = _options(arguments)
    device = prepared(options)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    for name in options.students:
        check(name)
        net = CIFAR[name](100).to(device).to(memory_format=torch.channels_last).train()
        batch = Batch(options.batch, 100, next(net.parameters()), torch.channels_last)
        works = {way: lambda work=work, net=net, batch=batch: work(net, batch) for way, work in WAYS.items()}
        seconds = interleave(works, options.rounds, device, clock)
        found = rows(f"{name}, batch {options.batch}, forward and two backward passes, {device.type}", seconds, AFTER)
        show(found)
        best = min((ratio(seconds, way, AFTER).median, way) for way in (BATCHED, APART))
        print(f"  aim: at most {AIM:g}; {'met' if best[0] <= AIM else 'missed'} ({best[1]}: {best[0]:.2f})")
        append(found, options.csv, device)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("passes", __doc__.splitlines()[0], rounds=7)
    made.add_argument("--students", nargs="+", default=["resnet8x4"], choices=list(CIFAR), metavar="NAME")
    options = made.parse_args(arguments)
    options.batch = 64
    if options.toy:
        options.students, options.batch, options.rounds = ["resnet8"], 4, 2
    return options


if __name__ == "__main__":
    main()
