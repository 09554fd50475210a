"""A small float64 student, its rows, and a training loop: what the optimizer tests run on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import fractionate as fr
from fractionate import Logits, Method, StreamSGD

CLASSES = 7
DKD = fr.methods.dkd(warmup=1)


def network(seed: int = 0) -> nn.Sequential:
    """6 -> 5 -> 7 with tanh: four parameters, reached by every stream."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, CLASSES)).double()


def rows(net: nn.Module, step: int) -> Logits:
    """The student's logits on the batch of this step, a teacher's and labels; equal for every call."""
    random = torch.Generator().manual_seed(step)
    x = torch.randn(4, 6, generator=random).double()
    teacher = 3 * torch.randn(4, CLASSES, generator=random).double()
    return Logits(net(x), teacher, torch.randint(CLASSES, (4,), generator=random))


def step_once(
    net: nn.Module, opt: StreamSGD, method: Method, step: int, merge: bool | None = None, skip: str | None = None
) -> None:
    """One step on the batch of that number; ``skip`` leaves a component out of its stream."""
    if skip is not None:
        method = fr.only(method, [name for name in method.parts if name != skip])
    opt.step(fr.stream_grads(method.stream_losses(rows(net, step), merge=merge), net))


def trained(
    method: Method,
    steps: int = 12,
    *,
    m: float = 0.9,
    merge: bool | None = None,
    skip_at: Callable[[int], str | None] = lambda step: None,
    **options: object,
) -> tuple[nn.Sequential, StreamSGD]:
    """The student and its optimizer after some steps."""
    net = network()
    opt = StreamSGD(net.parameters(), lr=0.05, momentum=method.momenta(m, merge=merge), **options)
    for step in range(steps):
        step_once(net, opt, method, step, merge, skip_at(step))
    return net, opt


def buffer_sum(opt: StreamSGD, p: Tensor) -> Tensor:
    """The buffers of all streams of one parameter, added up."""
    return torch.stack(list(opt.state[p].values())).sum(0)


class Shifted(nn.Module):
    """A weight that is the sum of two parameters, whose gradients autograd lays into one memory.

    Args:
        shape: of the second parameter.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base, self.delta = nn.Parameter(torch.randn(5, 6)), nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.base + self.delta.view(5, 6))
