"""Extra peak memory and time of one dense loss and its gradient: pixels as rows, in chunks, and as torch would do it.

Run ``python -m benchmarks.pixels`` on Linux (CPU). Every line is a fresh process; memory is the highest resident size
during the loss and its backward pass minus the size before (both maps and the labels are there before), in units of
the student's map of logits.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import fractionate as fr

from .measure import agree, reset_peak, resident
from .record import ROOT, Row, append, show

METHODS = {
    "kd": fr.methods.kd(),
    "dkd": fr.methods.dkd(),
    "gdkd": fr.methods.gdkd(),
    "deepkd(dkd)": fr.methods.deepkd(fr.methods.dkd()),
}
WAYS = {"rows": "fr.rows.pixels", "chunks": "fr.pixel_losses", "torch": "plain torch (kd)"}


class Case(NamedTuple):
    """One process: which way, which method, which map (``chunk`` pixels at a time)."""

    way: str
    method: str
    classes: int
    height: int
    width: int
    chunk: int


def losses(case: Case, student: Tensor, teacher: Tensor, target: Tensor) -> dict[str, Tensor]:
    """One loss per stream."""
    method = METHODS[case.method]
    if case.way == "rows":
        return method.stream_losses(fr.rows.pixels(student, teacher, target))
    if case.way == "chunks":
        return fr.pixel_losses(method, student, teacher, target, chunk=case.chunk)
    rows, given = (x.movedim(1, -1).flatten(0, 2)[target.flatten() != 255] for x in (student, teacher))
    truth = target.flatten()[target.flatten() != 255]
    distance = F.kl_div((rows / 4).log_softmax(1), (given / 4).softmax(1), reduction="batchmean")
    return {"loss": 0.1 * F.cross_entropy(rows, truth) + 0.9 * 16 * distance}


def maps(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Student, teacher and labels, an eighth of which are void."""
    draw = torch.Generator().manual_seed(0)
    size = (1, case.classes, case.height, case.width)
    student, teacher = (torch.randn(size, generator=draw) for _ in range(2))
    target = torch.randint(case.classes, (1, case.height, case.width), generator=draw)
    target[torch.rand(target.shape, generator=draw) < 0.125] = 255
    return student.requires_grad_(), teacher, target


def step(case: Case) -> None:
    """One loss with its gradient."""
    inputs = maps(case)
    reset_peak()
    before, start = resident(), time.process_time()
    fr.stream_grads(losses(case, *inputs), [inputs[0]])
    seconds = time.process_time() - start
    print(json.dumps([(resident(peak=True) - before) / (4 * inputs[0].numel()), seconds]))


def same(method: str) -> None:
    """All ways give one value and one gradient, on a small map."""
    case = Case("rows", method, 7, 12, 20, 50)
    found = []
    for way in [w for w in WAYS if w != "torch" or method == "kd"]:
        student, *rest = maps(case)
        total = sum(losses(case._replace(way=way), student, *rest).values())
        found.append([total.detach(), *torch.autograd.grad(total, [student])])
    for other in found[1:]:
        agree(other, found[0], method, tolerance=1e-5)  # float32


def measured(case: Case, threads: int, rounds: int) -> list[tuple[float, float]]:
    """Memory and seconds of a case, each round in a fresh process that has run a small one before."""
    run = [sys.executable, "-m", "benchmarks.pixels", "--case", json.dumps(case), "--threads", str(threads)]
    found = []
    for _ in range(rounds):
        done = subprocess.run(run, cwd=ROOT.parent, capture_output=True, text=True, check=True)
        memory, seconds = json.loads(done.stdout.splitlines()[-1])
        found.append((memory, seconds))
    return found


def main(argv: list[str] | None = None) -> None:
    """Print a table, also into a CSV; or, with ``--case``, one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=lambda text: Case(*json.loads(text)))
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--size", type=int, nargs=2, default=[512, 1024])
    parser.add_argument("--chunk", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", type=Path, default=ROOT / "results" / "pixels.csv")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.case:
        step(args.case._replace(height=8, width=8))
        step(args.case)
        return
    for method in METHODS:
        same(method)
        rows = []
        for way in [w for w in WAYS if w != "torch" or method == "kd"]:
            case = Case(way, method, args.classes, *args.size, args.chunk)
            found = measured(case, args.threads, args.rounds)
            memory, seconds = (sorted(x)[len(x) // 2] for x in zip(*found, strict=True))
            low, high = min(found)[0], max(found)[0]
            what = f"{method}, {args.classes} x {args.size[0]} x {args.size[1]}, extra peak memory"
            ratios = (round(x, 4) for x in (memory, low, high))
            rows.append(Row(what, WAYS[way], round(1e3 * seconds, 4), "one map of logits", *ratios, args.rounds))
        show(rows)
        append(rows, args.csv, torch.device("cpu"))


if __name__ == "__main__":
    main()
