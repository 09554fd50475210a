"""The update alone: streams against loops over tensors and against torch.optim, on the tensors of real students.

Run ``python -m benchmarks.optimizer [--device cuda]``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from tests.reference.published_step import PublishedStep
from torch import Tensor, nn

import fractionate as fr
from fractionate.models.cifar import CIFAR

from .measure import Work, agree, interleave, moved
from .record import append, parser, prepare, rows, show

LR, MOMENTUM, DECAY, DELTA = 0.05, 0.9, 5e-4, 0.075
STREAMS = ("task", "target", "nontarget")
DEEPKD = fr.methods.deepkd(fr.methods.dkd(), delta=DELTA)
CODE = fr.methods.deepkd(fr.methods.dkd(), delta=DELTA, rule="published-code")
STUDENTS = ("resnet8x4", "resnet110", "vgg13")
LOOPS, TWO, THREE = "loops, three buffers", "StreamSGD, two streams", "StreamSGD, three streams"
ONE, SGD, SGD_LOOP = "StreamSGD, one stream", "torch SGD (foreach)", "torch SGD (its default)"
ADAM_ONE, ADAM_TWO = "StreamAdamW, one stream", "StreamAdamW, two streams"
ADAM, ADAM_FUSED = "torch AdamW (foreach)", "torch AdamW (fused)"
CODE_LOOPS, CODE_OURS = "loops, published code", "StreamSGD, published code"
MOMENTA = {name: MOMENTUM + d for name, d in (("task", DELTA), ("target", -DELTA), ("nontarget", DELTA))}


def streams(net: nn.Module, grads: dict[str, list[Tensor]], method: fr.Method, merge: bool | None) -> Work:
    """StreamSGD on the streams of a method, merged ones with the sum of their gradients."""
    params = tuple(net.parameters())
    momenta = method.momenta(MOMENTUM, merge)
    opt = fr.StreamSGD(params, lr=LR, momentum=momenta, weight_decay=DECAY)
    given = {name: tuple(_sum(grads, name.split("+"))) for name in momenta}
    return lambda: opt.step(fr.StreamGrads(given, params))


def loops(net: nn.Module, grads: dict[str, list[Tensor]], rule: Literal["paper", "published-code"]) -> Work:
    """Three buffers, one tensor after the other."""
    opt = PublishedStep(list(net.parameters()), lr=LR, momenta=MOMENTA, weight_decay=DECAY, rule=rule)
    return lambda: opt.step(grads)


def one_stream(net: nn.Module, grads: dict[str, list[Tensor]]) -> Work:
    """StreamSGD as a plain optimizer."""
    params = tuple(net.parameters())
    opt = fr.StreamSGD(params, lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    given = {"loss": tuple(_sum(grads, STREAMS))}
    return lambda: opt.step(fr.StreamGrads(given, params))


def torch_sgd(net: nn.Module, grads: dict[str, list[Tensor]], foreach: bool | None) -> Work:
    """torch's own, on the summed gradient."""
    for p, g in zip(net.parameters(), _sum(grads, STREAMS), strict=True):
        p.grad = g
    opt = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY, foreach=foreach)
    return opt.step


def adamw_streams(net: nn.Module, grads: dict[str, list[Tensor]], merged: bool) -> Work:
    """StreamAdamW on the two streams of DeepKD, or on their sum."""
    params = tuple(net.parameters())
    momenta = {"+".join(STREAMS): MOMENTUM} if merged else DEEPKD.momenta(MOMENTUM)
    opt = fr.StreamAdamW(params, lr=LR / 100, betas=momenta, weight_decay=DECAY)
    given = {name: tuple(_sum(grads, name.split("+"))) for name in momenta}
    return lambda: opt.step(fr.StreamGrads(given, params))


def torch_adamw(net: nn.Module, grads: dict[str, list[Tensor]], fused: bool) -> Work:
    """torch's own, on the summed gradient."""
    for p, g in zip(net.parameters(), _sum(grads, STREAMS), strict=True):
        p.grad = g
    kernels = {"fused": True} if fused else {"foreach": True}
    return torch.optim.AdamW(net.parameters(), lr=LR / 100, weight_decay=DECAY, **kernels).step


def adamw_contenders(net: nn.Module) -> dict[str, tuple[nn.Module, Work]]:
    """Each with parameters of its own."""
    grads = {name: [1e-3 * torch.randn_like(p) for p in net.parameters()] for name in STREAMS}
    nets = {name: copy.deepcopy(net) for name in (ADAM_ONE, ADAM_TWO, ADAM, ADAM_FUSED)}
    works = {
        ADAM_ONE: adamw_streams(nets[ADAM_ONE], grads, merged=True),
        ADAM_TWO: adamw_streams(nets[ADAM_TWO], grads, merged=False),
        ADAM: torch_adamw(nets[ADAM], grads, fused=False),
        ADAM_FUSED: torch_adamw(nets[ADAM_FUSED], grads, fused=True),
    }
    return {name: (nets[name], work) for name, work in works.items()}


def contenders(net: nn.Module) -> dict[str, tuple[nn.Module, Work]]:
    """Each with parameters of its own."""
    grads = {name: [1e-3 * torch.randn_like(p) for p in net.parameters()] for name in STREAMS}
    nets = {name: copy.deepcopy(net) for name in (LOOPS, TWO, THREE, ONE, SGD, SGD_LOOP, CODE_LOOPS, CODE_OURS)}
    works = {
        LOOPS: loops(nets[LOOPS], grads, "paper"),
        TWO: streams(nets[TWO], grads, DEEPKD, True),
        THREE: streams(nets[THREE], grads, DEEPKD, False),
        CODE_LOOPS: loops(nets[CODE_LOOPS], grads, "published-code"),
        CODE_OURS: streams(nets[CODE_OURS], grads, CODE, None),
        ONE: one_stream(nets[ONE], grads),
        SGD: torch_sgd(nets[SGD], grads, foreach=True),
        SGD_LOOP: torch_sgd(nets[SGD_LOOP], grads, foreach=None),
    }
    return {name: (nets[name], work) for name, work in works.items()}


def check(net: nn.Module) -> None:
    """Equal rules move the parameters equally, in float64."""
    net = copy.deepcopy(net).double()
    made = contenders(net)
    for _, work in made.values():
        for _ in range(3):
            work()
    for a, b in ((TWO, LOOPS), (THREE, LOOPS), (CODE_OURS, CODE_LOOPS), (ONE, SGD), (SGD_LOOP, SGD)):
        agree(moved(made[a][0], net), moved(made[b][0], net), f"{a} and {b}")
    made = adamw_contenders(net)
    for _, work in made.values():
        for _ in range(3):
            work()
    for name in (ADAM_ONE, ADAM_FUSED):
        agree(moved(made[name][0], net), moved(made[ADAM][0], net), f"{name} and {ADAM}")


def _sum(grads: dict[str, list[Tensor]], names: Sequence[str]) -> list[Tensor]:
    return [torch.stack(columns).sum(0) for columns in zip(*(grads[name] for name in names), strict=True)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, append to the CSV."""
    options = parser("optimizer", __doc__.splitlines()[0], rounds=51).parse_args(arguments)
    device = prepare(options)
    rounds, students = (2, ("resnet8",)) if options.toy else (options.rounds, STUDENTS)
    for name in students:
        net = CIFAR[name](100).to(device)
        tensors = list(net.parameters())
        case = f"{name}: {len(tensors)} tensors, {sum(p.numel() for p in tensors)} parameters, {device.type}"
        check(net)
        for made, against in ((contenders(net), LOOPS), (adamw_contenders(net), ADAM)):
            works = {name: work for name, (_, work) in made.items()}
            found = rows(case, interleave(works, rounds, device), against)
            show(found)
            append(found, options.csv, device)


if __name__ == "__main__":
    main()
