"""What an epoch's end shows of the streams besides their gradients: moves, layers, and what reaches the logits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..methods import Method
from ..optim import StreamAdamW, StreamGrads, StreamSGD
from ..rows import Logits, Progress

if TYPE_CHECKING:
    from .build import Training

BUCKETS = (1, 2, 3, 4, 5, 6, 11, 21, 51, 101, 201, 501)  # first ranks of what is averaged together


def layers_of(student: nn.Module, trained: Iterable[Tensor]) -> list[str]:
    """The layer of every trained parameter: the module right below the network; ``method`` for what it learns itself.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> layers_of(net, net.parameters())
        ['0', '0', '1', '1']
    """
    names = {id(p): name.partition(".")[0] for name, p in student.named_parameters()}
    return [names.get(id(p), "method") for p in trained]


def by_layer(grads: StreamGrads, layers: Mapping[int, str]) -> dict[str, list[Tensor]]:
    """Gradients of every layer and stream as one vector, named ``layer|stream``; a missing one is 0.

    Args:
        grads: of one step.
        layers: layer of a parameter, by its id.
    """
    found: dict[str, list[Tensor]] = {}
    for stream, row in grads.streams.items():
        for p, g in zip(grads.parameters, row, strict=True):
            if p.requires_grad:
                name = f"{layers.get(id(p), 'method')}|{stream}"
                found.setdefault(name, []).append((torch.zeros_like(p) if g is None else g.detach()).flatten())
    return {name: [torch.cat(parts)] for name, parts in found.items()}


@torch.no_grad()
def update_shares(optimizer: StreamSGD | StreamAdamW) -> dict[str, float]:
    """Part of every stream's buffer in the last move: its norm times its gain, of the sum of all; 0 before the first.

    Buffers hold weight decay too, where it rides in one. Streams may cancel, so the parts say nothing of the move's
    length.

    Example:
        >>> import fractionate as fr
        >>> p = torch.zeros(1)
        >>> optimizer = fr.StreamSGD([p], lr=1.0, momentum={"a": 0.5, "b": 0.5})
        >>> optimizer.step({"a": [torch.tensor([3.0])], "b": [torch.tensor([-1.0])]})
        >>> update_shares(optimizer)
        {'a': 0.75, 'b': 0.25}
    """
    momenta = optimizer.momenta
    base = momenta.base
    squares = dict.fromkeys(momenta, 0.0)
    for state in optimizer.state.values():
        for name in squares:
            if name in state:
                squares[name] += float(state[name].double().square().sum())
    heavy = getattr(optimizer, "gain", "") == "heavy-ball" and base is not None
    sizes = {
        name: x**0.5 * momenta.gains.get(name, 1.0) * ((1 - (base or 0.0)) / (1 - momenta[name]) if heavy else 1.0)
        for name, x in squares.items()
    }
    total = sum(sizes.values())
    return {name: x / total if total else 0.0 for name, x in sizes.items()}


def ranks_seen(training: Training, steps: int) -> dict[str, float]:
    """Columns ``rank/<stream>|<first rank>`` for the first batch of the first epoch; nothing of training is changed.

    Args:
        training: after an epoch.
        steps: of an epoch.
    """
    t, mode = training, training.student.training
    if t.teacher is None:
        return {}
    t.student.eval()
    with torch.no_grad():
        lg = t.task.rows(t.student, t.teacher, next(iter(t.train.batches(1))))
    t.student.train(mode)
    done, epoch = max(0, t.step - 1), max(1, t.epoch)
    progress = Progress(step=done, epoch=epoch, epochs=t.run.epochs, steps=t.run.epochs * steps)
    return {f"rank/{name}": x for name, x in sizes_by_rank(t.method, lg, progress).items()}


def sizes_by_rank(method: Method, lg: Logits, progress: Progress) -> dict[str, float]:
    """Mean absolute gradient at the student's logits by the teacher's rank, per row, named ``stream|first rank``.

    Ranks are averaged in growing groups: 1, 2, 3, 4, 5, 6 to 10, 11 to 20, 21 to 50 and so on.

    Args:
        method: its streams are looked at one by one.
        lg: rows; their student's logits need no graph.
        progress: decides the weights.
    """
    with torch.enable_grad():
        z = lg.student.detach().clone().requires_grad_()
        losses = method.stream_losses(replace(lg, student=z), progress, merge=False)
        order = lg.rank_by.sort(dim=1, descending=True, stable=True).indices
        found = {}
        for name, loss in losses.items():
            if not loss.requires_grad:  # reads no logit
                continue
            grad = torch.autograd.grad(loss, z, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
            sizes = (grad.abs() * lg.rows).gather(1, order).mean(0).double().cpu()
            for first, after in zip(BUCKETS, (*BUCKETS[1:], None), strict=True):
                part = sizes[first - 1 : None if after is None else after - 1]
                if len(part):
                    found[f"{name}|{first}"] = float(part.mean())
    return found
