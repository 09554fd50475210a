"""What the exchange between processes costs: the same training step with it and without it, on this machine.

Every process takes the step of a data-parallel run on images of its own, with given teacher logits. Run

    python -m benchmarks.scaling [--processes 2] [--student resnet8x4] [--batch 64] [--device cuda]

Two clocks read the same rounds. The wall clock runs from a common start until the last process is done, so a step
without exchange ends with the slowest process too. The processor's clock counts the work of all threads of all
processes, those that send and receive included, and no waiting.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import multiprocessing, nn

import fractionate as fr
from fractionate.models.cifar import CIFAR
from fractionate.train.step import Part, train_step
from fractionate.world import Wishes, current, joined

from .communication import payload
from .measure import Work, agree, interleave, moved
from .record import append, parser, prepare, rows, show
from .step import DECAY, DKD, LR, MOMENTUM, PROGRESS, Batch

METHODS = {"kd": fr.methods.kd(), "dkd+deepkd": fr.methods.deepkd(DKD)}
APART, WAITING = "no exchange", "no exchange, then wait for each other"
GRADIENTS, UPDATE = "exchange of gradients", "exchange of the update"
ONLY = "the exchange of gradients alone, no step"
WHOLE = "one process takes all images"
GOAL = 1.05
WALL, PROCESSOR = "", ", processor time"
# Clock -> what stands for all processes.
CLOCKS: dict[str, Callable[[Sequence[float]], float]] = {WALL: max, PROCESSOR: sum}
Seconds = dict[str, list[float]]


def step_of(net: nn.Module, batch: Batch, method: fr.Method, exchange: str, share: float = 1.0) -> Work:
    """A step as the trainer takes it.

    Args:
        net: student.
        batch: images of this process.
        method: losses and streams.
        exchange: what the processes tell each other.
        share: of this process in the images of the step.
    """
    merge, params = method.exact_merge(DECAY), list(net.parameters())
    opt = fr.StreamSGD(params, lr=LR, momentum=method.momenta(MOMENTUM, merge), weight_decay=DECAY)
    reduce = fr.AllReduce(scale=1.0) if exchange == GRADIENTS else None
    update, wishes = fr.UpdateAllReduce(opt), Wishes(current())
    scale = share * (dist.get_world_size() if exchange == UPDATE else 1)

    def step() -> None:
        lg = fr.Logits(net(batch.images), batch.teacher, batch.target)
        train_step(params, method, opt, [Part(lg, scale=scale)], PROGRESS, merge, reduce=reduce)
        if exchange in (GRADIENTS, UPDATE):
            wishes.exchange(0)
        elif exchange == WAITING:
            dist.barrier()

    def step_with_update() -> None:
        with update:
            step()

    return step_with_update if exchange == UPDATE else step


def exchange_of(net: nn.Module, method: fr.Method) -> Work:
    """What a step hands over, with nothing to hide behind; the processes have just met, so nobody is late."""
    reduce, params = fr.AllReduce(scale=1.0), list(net.parameters())
    row = tuple(torch.zeros_like(p) for p in params)

    def exchange() -> None:
        for stream in method.momenta(MOMENTUM, method.exact_merge(DECAY)):
            reduce.start(stream, params, row)
        reduce.finish()

    return exchange


def part(batch: Batch, size: int) -> Batch:
    """This process's images."""
    own = copy.copy(batch)
    rows_ = slice(dist.get_rank() * size, (dist.get_rank() + 1) * size)
    own.images, own.target, own.teacher = batch.images[rows_], batch.target[rows_], batch.teacher[rows_]
    return own


def contenders(net: nn.Module, batch: Batch, size: int, method: fr.Method) -> dict[str, tuple[nn.Module, Work]]:
    """Each with a copy of the student; ``batch`` holds the images of all processes, ``size`` of them for each."""
    share, own = 1 / dist.get_world_size(), part(batch, size)
    nets = {name: copy.deepcopy(net) for name in (APART, WAITING, GRADIENTS, UPDATE, WHOLE)}
    made = {name: (n, step_of(n, own, method, name, share)) for name, n in nets.items() if name != WHOLE}
    alone = step_of(nets[WHOLE], batch, method, WHOLE) if dist.get_rank() == 0 else lambda: None
    return {**made, WHOLE: (nets[WHOLE], alone)}


def check(net: nn.Module, classes: int, method: fr.Method) -> None:
    """Whatever is exchanged, the weights are those of one process: in float64, without batch statistics."""
    net = copy.deepcopy(net).double().eval()
    whole = Batch(2 * dist.get_world_size(), classes, next(net.parameters()), torch.contiguous_format)
    made = contenders(net, whole, 2, method)
    for _, work in made.values():
        work()
        work()
    if dist.get_rank() == 0:
        for name in (GRADIENTS, UPDATE):
            agree(moved(made[name][0], net), moved(made[WHOLE][0], net), f"{name} and {WHOLE}")


def measured(options: argparse.Namespace, method: fr.Method) -> dict[str, Seconds]:
    """Seconds of every contender in every round, by both clocks."""
    torch.manual_seed(0)  # the same network and images everywhere
    device = torch.device(options.device)
    net = CIFAR[options.student](options.classes).to(device).train()
    check(net, options.classes, method)
    every = options.batch * options.processes
    whole = Batch(every, options.classes, next(net.parameters()), torch.contiguous_format)
    works = {name: work for name, (_, work) in contenders(net, whole, options.batch, method).items()}
    works[ONLY] = exchange_of(net, method)
    processor: Seconds = {name: [] for name in works}
    counted = {name: partial(_counted, work, processor[name]) for name, work in works.items()}
    found = {WALL: interleave(counted, options.rounds, device, before=dist.barrier)}
    if device.type == "cpu":  # as interleave does, without the first round
        found[PROCESSOR] = {name: times[1:] for name, times in processor.items()}
    return {clock: together(current().everyones(seconds), clock) for clock, seconds in found.items()}


def _counted(work: Work, into: list[float]) -> None:
    start = time.process_time()
    work()
    into.append(time.process_time() - start)


def _process(rank: int, folder: str, port: int, options: argparse.Namespace) -> None:
    """One of the processes, as if torchrun had started it."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": options.processes, "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in place.items()}}
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(options.threads)
    with joined() as world:
        found = {name: measured(options, method) for name, method in METHODS.items()}
        if world.main:
            (Path(folder) / "seconds.json").write_text(json.dumps(found))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def together(everyones: Sequence[Mapping[str, list[float]]], clock: str) -> Seconds:
    """One time per contender and round, for all processes."""
    combined = CLOCKS[clock]
    return {name: [combined(x) for x in zip(*(s[name] for s in everyones), strict=True)] for name in everyones[0]}


def parameters(student: str, classes: int) -> int:
    """Numbers in one row of gradients."""
    with torch.device("meta"):
        return sum(p.numel() for p in CIFAR[student](classes).parameters())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV."""
    options = _options(arguments)
    device = prepare(options)
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_process, (folder, _free_port(), options), nprocs=options.processes)
        measured_by = json.loads((Path(folder) / "seconds.json").read_text())
    for name, method in METHODS.items():
        case = f"{name}, {options.student}, {options.processes} processes, {options.batch} images each, {device.type}"
        for clock, seconds in measured_by[name].items():
            found = rows(case + clock, {key: times for key, times in seconds.items() if key != WHOLE}, APART)
            show(found)
            append(found, options.csv, device)
            for row in found:
                if row.contender in (GRADIENTS, UPDATE):
                    word = "met" if row.ratio <= GOAL else "missed"
                    print(f"  {row.contender}: {row.ratio:.3f} times the step without it, goal {GOAL}, {word}")
            _say_scaling(case + clock, seconds, options, device)
        _say_bytes(method, options)


def _say_bytes(method: fr.Method, options: argparse.Namespace) -> None:
    """What one process hands over per step."""
    n, streams = parameters(options.student, options.classes), len(method.momenta(MOMENTUM, method.exact_merge(DECAY)))
    sent = {GRADIENTS: payload(n, streams), UPDATE: payload(n, streams, update=True)}
    print("  summed per step: " + ", ".join(f"{size / 1e6:.2f} MB ({name})" for name, size in sent.items()))


def _say_scaling(case: str, seconds: Seconds, options: argparse.Namespace, device: torch.device) -> None:
    """The same images by one process and by all of them; by processor time, the work of one and of all."""
    found = rows(f"{case}: scaling", {key: seconds[key] for key in (WHOLE, GRADIENTS, UPDATE)}, WHOLE)
    show(found)
    append(found, options.csv, device)
    for row in found[1:]:
        speedup = 1 / row.ratio
        share = speedup if PROCESSOR in case else speedup / options.processes
        print(f"  {row.contender}: {100 * share:.0f} % efficiency")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("scaling", __doc__.splitlines()[0], rounds=15)
    made.add_argument("--processes", type=int, default=2)
    made.add_argument("--student", default="resnet8x4", choices=list(CIFAR), metavar="NAME", help="CIFAR network")
    made.add_argument("--batch", type=int, default=64, help="images of each process (default %(default)s)")
    made.add_argument("--classes", type=int, default=100)
    made.set_defaults(threads=1)  # each process has a core of its own
    options = made.parse_args(arguments)
    if options.toy:
        options.student, options.batch, options.classes, options.rounds = "resnet8", 4, 10, 2
    return options


if __name__ == "__main__":
    main()
