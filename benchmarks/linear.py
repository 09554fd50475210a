"""Extra peak memory and time of one loss and its gradients, from hidden states and from [tokens, vocabulary] logits.

Run ``python -m benchmarks.linear`` on Linux (CPU). Every line is a fresh process; memory is the highest resident size
during the loss and its backward pass minus the size before (hidden states, matrices and stored teachers are there
before), in units of one float32 [tokens, vocabulary] tensor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

import fractionate as fr

from .measure import agree, reset_peak, resident
from .record import ROOT, Row, append, show

Way = Literal["logits", "linear", "linear-top"]
Teacher = fr.LinearLogits | fr.TopLogits
PATHS: tuple[Way, ...] = get_args(Way)
UNIT = "one tensor of logits"
# Direction -> TRL's and Liger's beta.
BETAS = {"forward": 0.0, "reverse": 1.0, "jsd": 0.5}
OTHERS = ("logits", "linear", "liger", "trl")
WORDS = {
    "logits": "plain path",
    "linear": "fractionate, chunks of {}",
    "liger": "Liger Kernel, chunks of {}",
    "trl": "TRL, its own chunks",
}
METHODS = {
    "kd": fr.methods.kd(temperature=1.0),
    "kd(reverse)": fr.methods.kd(temperature=1.0, direction="reverse"),
    "kd(jsd)": fr.methods.kd(temperature=1.0, direction="jsd"),
    "gdkd": fr.methods.gdkd(temperature=1.0),
    "dot(gdkd)": fr.methods.dot(fr.methods.gdkd(temperature=1.0)),
    **{name: fr.only(fr.methods.kd(temperature=1.0, kd_weight=1.0, direction=name), ["kd"]) for name in BETAS},
}


class Case(NamedTuple):
    """One process: which path, which method, which sizes (``chunk`` tokens at a time)."""

    path: str
    method: str
    tokens: int
    classes: int
    width: int
    chunk: int


class Cost(NamedTuple):
    """Extra peak memory in [tokens, vocabulary] float32 tensors, and seconds of one loss with gradients."""

    tensors: float
    seconds: float


def losses(case: Case, hidden: Tensor, head: nn.Linear, target: Tensor, teacher: Teacher) -> dict[str, Tensor]:
    """One loss per stream."""
    method = METHODS[case.method]
    if case.path in ("liger", "trl"):
        return {"loss": _of_others(case, hidden, head.weight, target, teacher)}
    if case.path != "logits":
        return fr.linear_stream_losses(method, hidden, head.weight, target, teacher=teacher, chunk=case.chunk)
    with torch.no_grad():
        logits = nn.functional.linear(teacher.hidden, teacher.weight)
    return method.stream_losses(fr.Logits(head(hidden), logits, target))


def _of_others(case: Case, hidden: Tensor, weight: Tensor, target: Tensor, teacher: Any) -> Tensor:
    """The same divergence by another package."""
    beta = BETAS[case.method]
    if case.path == "liger":
        from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDLoss

        loss = LigerFusedLinearJSDLoss(0.0, 1.0, beta=beta, compiled=False, chunk_size=case.chunk)
        return loss(hidden, weight, teacher.hidden, teacher.weight, target)
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    plain = (beta, 1.0, 1.0, None, 1.0, None)  # beta, temperature, and no scale and no cap of either network
    return ChunkedDivergenceFunction.apply(hidden, weight, None, teacher.hidden, teacher.weight, None, *plain)[0].mean()


def step(case: Case) -> None:
    """One loss with its gradients by hidden states and matrix; the teacher's logits are made inside, or stored."""
    hidden = torch.randn(case.tokens, case.width, requires_grad=True)
    head = nn.Linear(case.width, case.classes, bias=False)
    target = torch.randint(case.classes, (case.tokens,))
    if case.path == "linear-top":
        values, order = torch.randn(case.tokens, 16).sort(dim=1, descending=True)
        index = torch.arange(16).expand_as(order)
        teacher = fr.TopLogits(values, index, torch.full((case.tokens,), 5.0))
    else:
        teacher = fr.LinearLogits(torch.randn(case.tokens, case.width), torch.randn(case.classes, case.width))
    reset_peak()
    before, start = resident(), time.process_time()
    made = losses(case, hidden, head, target, teacher)
    fr.stream_grads(made, [hidden, head.weight])
    seconds = time.process_time() - start
    unit = 4 * case.tokens * case.classes
    print(json.dumps(Cost((resident(peak=True) - before) / unit, seconds)._asdict()))


def measured(case: Case, threads: int = 1) -> Cost:
    """The cost of a case, in a fresh process that has run a small one before."""
    run = [sys.executable, "-m", "benchmarks.linear", "--case", json.dumps(case), "--threads", str(threads)]
    root = Path(__file__).parent.parent
    found = subprocess.run(run, cwd=root, capture_output=True, text=True, check=True)
    return Cost(**json.loads(found.stdout.splitlines()[-1]))


def same(direction: str) -> None:
    """All contenders give one value and one gradient, on a small problem."""
    torch.manual_seed(0)
    hidden, head, target = torch.randn(24, 16, requires_grad=True), nn.Linear(16, 300, bias=False), torch.arange(24)
    teacher = fr.LinearLogits(torch.randn(24, 16), torch.randn(300, 16))
    found = []
    for path in OTHERS:
        (loss,) = losses(Case(path, direction, 24, 300, 16, 8), hidden, head, target, teacher).values()
        found.append([loss.detach(), *torch.autograd.grad(loss, [hidden, head.weight])])
    for other in found[1:]:
        agree(other, found[0], direction, tolerance=1e-5)  # float32


def beside(args: argparse.Namespace) -> None:
    """Memory and time of all contenders, one process each, into the CSV."""
    chunk = args.chunks[0]
    for direction in BETAS:
        same(direction)
        rows = []
        for path in OTHERS:
            cost = measured(Case(path, direction, args.tokens, args.classes, args.width, chunk), args.threads)
            case = f"{direction}, {args.tokens} x {args.classes}, width {args.width}, extra peak memory"
            ratio, milliseconds = round(cost.tensors, 4), round(1e3 * cost.seconds, 4)
            rows.append(Row(case, WORDS[path].format(chunk), milliseconds, UNIT, ratio, ratio, ratio, 1))
        show(rows)
        append(rows, args.csv, torch.device("cpu"))


def main(argv: list[str] | None = None) -> None:
    """Print a table; or, with ``--case``, one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=lambda text: Case(*json.loads(text)))
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=32000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--chunks", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--beside", action="store_true", help="beside Liger Kernel and TRL, into the CSV")
    parser.add_argument("--csv", type=Path, default=ROOT / "results" / "linear.csv")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.case:
        step(args.case._replace(tokens=8, classes=50))
        step(args.case)
        return
    if args.beside:
        beside(args)
        return
    print(f"tokens {args.tokens}, vocabulary {args.classes}, width {args.width}, {args.threads} threads")
    for method in [name for name in METHODS if name not in BETAS]:
        for path in PATHS:
            for chunk in args.chunks if path != "logits" else [args.tokens]:
                case = Case(path, method, args.tokens, args.classes, args.width, chunk)
                cost = measured(case, args.threads)
                print(
                    f"{method:10} {path:10} chunk {chunk:5} {cost.tensors:6.2f} tensors {cost.seconds:6.2f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
