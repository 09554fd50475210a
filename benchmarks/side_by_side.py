"""Several students of one teacher at a time on one device: one after the other, in streams, in processes.

Counts the time of all students together, divided by their number, against that of one student alone: a way that gains
nothing shows a ratio of 1. Each student takes the trainer's step (DeepKD over DKD, the teacher's logits given); on a
GPU also as a CUDA graph of its own, which plays one batch again and again. Run

    python -m benchmarks.side_by_side [--student resnet8x4] [--together 1 2 5] [--device cuda]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier

import torch

from fractionate.data import Batch
from fractionate.models.cifar import CIFAR

from .measure import Work
from .record import Row, append, parser, prepare, show
from .trainer import images, ours

WARM_UP = 3
PATIENCE = 300.0  # seconds for all processes to be ready; without it, one that fails would leave the others waiting
TURNS, STREAMS, PROCESSES = "one after the other", "a stream each", "a process each"
GRAPHS, GRAPH_STREAMS = "a graph each, one after the other", "a graph and a stream each"


def student(options: argparse.Namespace, device: torch.device, seed: int) -> Work:
    """One student's step."""
    torch.manual_seed(seed)
    net = CIFAR[options.student](options.classes).to(device).train()
    batches = list(images(options.batch, options.classes, device).batches(1))
    given = 4 * torch.randn(options.batch, options.classes, device=device)

    def teacher(batch: Batch) -> tuple[torch.Tensor, None]:
        return given, None

    return ours(net, batches, teacher)


def in_turns(works: Sequence[Work], steps: int, device: torch.device) -> float:
    """Seconds for ``steps`` steps of every student, one student's step after another's."""
    wait(device)
    started = time.perf_counter()
    for _ in range(steps):
        for work in works:
            work()
    wait(device)
    return time.perf_counter() - started


def in_streams(works: Sequence[Work], steps: int, device: torch.device) -> float:
    """The same, every student in a CUDA stream of its own."""
    streams = [torch.cuda.Stream(device) for _ in works]
    wait(device)
    started = time.perf_counter()
    for _ in range(steps):
        for work, stream in zip(works, streams, strict=True):
            with torch.cuda.stream(stream):
                work()
    wait(device)
    return time.perf_counter() - started


def graphed(work: Work, device: torch.device) -> Work:
    """A student's step recorded once; what is played is always the same batch."""
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def in_processes(options: argparse.Namespace, together: int) -> float:
    """The same, every student in a process of its own; all begin at once, and the last one's time counts."""
    context = multiprocessing.get_context("spawn")
    barrier, times = context.Barrier(together), context.SimpleQueue()
    workers = [
        context.Process(target=_process, args=(options, seed, barrier, times), daemon=True) for seed in range(together)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError(f"a process ended with {[worker.exitcode for worker in workers]}")
    return max(times.get() for _ in workers)


def _process(options: argparse.Namespace, seed: int, barrier: Barrier, times: multiprocessing.SimpleQueue) -> None:
    device = prepare(options)
    work = student(options, device, seed)
    for _ in range(WARM_UP):
        work()
    wait(device)
    barrier.wait(timeout=PATIENCE)
    times.put(in_turns([work], options.steps, device))


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ways(options: argparse.Namespace, device: torch.device, together: int) -> dict[str, Callable[[], float]]:
    """What is compared: functions that return seconds."""
    works = [student(options, device, seed) for seed in range(together)]
    for work in works * WARM_UP:
        work()
    steps = options.steps
    found = {TURNS: lambda: in_turns(works, steps, device), PROCESSES: lambda: in_processes(options, together)}
    if device.type == "cuda":
        graphs = [graphed(work, device) for work in works]
        found |= {
            STREAMS: lambda: in_streams(works, steps, device),
            GRAPHS: lambda: in_turns(graphs, steps, device),
            GRAPH_STREAMS: lambda: in_streams(graphs, steps, device),
        }
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV."""
    options = _options(arguments)
    device = prepare(options)
    base: list[float] = []
    for together in options.together:
        case = f"{together} x {options.student}, batch {options.batch}, {options.steps} steps each, {device.type}"
        made = ways(options, device, together)
        seconds: dict[str, list[float]] = {name: [] for name in made}
        for _ in range(options.rounds):
            for name, run in made.items():
                seconds[name].append(run() / together)  # of one student
        base = base or seconds[TURNS]
        found = [
            Row(case, name, 1e3 * statistics.median(times) / options.steps, "one student alone", *_ratio(times, base))
            for name, times in seconds.items()
        ]
        show(found)
        append(found, options.csv, device)
    if device.type != "cuda":
        print("streams and graphs: not measured, no CUDA device")


def _ratio(times: list[float], base: list[float]) -> tuple[float, float, float, int]:
    quotients = sorted(a / b for a, b in zip(times, base, strict=True))
    middle = statistics.median(quotients)
    return round(middle, 4), round(quotients[0], 4), round(quotients[-1], 4), len(times)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("side_by_side", __doc__.splitlines()[0], rounds=3)
    made.add_argument("--student", default="resnet8x4", choices=list(CIFAR), metavar="NAME")
    made.add_argument("--together", nargs="+", type=int, default=[1, 2, 5])
    made.add_argument("--batch", type=int, default=64)
    made.add_argument("--classes", type=int, default=100)
    made.add_argument("--steps", type=int, default=200)
    options = made.parse_args(arguments)
    if options.toy:
        options.student, options.together, options.batch, options.classes = "resnet8", [1, 2], 4, 10
        options.steps, options.rounds = 2, 1
    return options


if __name__ == "__main__":
    main()
