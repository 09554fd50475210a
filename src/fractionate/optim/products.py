"""Inner products of streams, and the weights that combine rules make of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from .grads import StreamGrads, dense
from .sharded import local, summed

CLOSED = 1e-13  # relative, by which a vector may miss the shortest one: some roundings of a float64
PART = 32768  # entries of a gradient at a time
LEAST = 1e-8  # of a loss whose logarithm is differentiated


class BrokenGradient(ValueError):
    """A gradient that is not finite has no direction to combine.

    Args:
        stream: whose.
        square: its squared norm.
    """

    def __init__(self, stream: str, square: float) -> None:
        super().__init__(
            f"combine: the gradient of stream {stream!r} is not finite (its squared norm is {square}); leave the step "
            f"out, lower the learning rate, or look at that stream's loss"
        )
        self.stream, self.square = stream, square


@torch.no_grad()
def products(grads: StreamGrads | Mapping[str, Sequence[Tensor | None]]) -> Tensor:
    """<g_i, g_j> over all parameters, ``[k, k]`` float64 on the CPU; over all shards of sharded ones.

    Raises:
        BrokenGradient: one is not finite.
    """
    total, layout = torch.zeros(len(grads), len(grads), dtype=torch.float64), None
    for column in columns(grads):
        like = first(column)
        if like is not None:
            layout = like
            part = _product(_here(column, like))
            total = total.to(part.device) + part
    found = (total if layout is None else summed(total, layout)).cpu()
    for name, square in zip(grads, found.diagonal().tolist(), strict=True):
        if not math.isfinite(square):
            raise BrokenGradient(name, square)
    return found


def columns(grads: StreamGrads | Mapping[str, Sequence[Tensor | None]]) -> list[list[Tensor | None]]:
    """Per parameter the gradient of every stream, dense and without history.

    Raises:
        ValueError: streams of different numbers of gradients.
    """
    sizes = {name: len(row) for name, row in grads.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"combine: every stream needs a gradient, or None, for each parameter; got {sizes} of them")
    return [[None if g is None else dense(g.detach()) for g in column] for column in zip(*grads.values(), strict=True)]


def first(column: Iterable[Tensor | None]) -> Tensor | None:
    """The gradient of the first stream that has one."""
    return next((g for g in column if g is not None), None)


def block(column: Sequence[Tensor | None]) -> Tensor | None:
    """One parameter's gradients as ``[streams, numbers]``, on this process; ``None`` where no stream reaches it."""
    like = first(column)
    if like is None:
        return None
    return torch.stack(_here(column, like)).flatten(1)


def _here(column: Sequence[Tensor | None], like: Tensor) -> list[Tensor]:
    """This process's part of every gradient, missing ones as zeros."""
    there = [torch.zeros_like(like) if g is None else g for g in column]
    return local(there, like=[like] * len(there))


def _product(rows: Sequence[Tensor]) -> Tensor:
    """``[k, k]`` float64; on a CPU in parts whose copies in float64 stay in its cache."""
    flat = [x.cpu().flatten() if x.device.type == "mps" else x.flatten() for x in rows]  # which has no float64
    count, device = flat[0].numel(), flat[0].device
    size = min(PART, count) if device.type == "cpu" else count
    wide = torch.empty(len(flat), size, dtype=torch.float64, device=device)
    total = torch.zeros(len(flat), len(flat), dtype=torch.float64, device=device)
    for start in range(0, count, max(size, 1)):
        part = wide[:, : count - start]
        for mine, x in zip(part, flat, strict=True):
            mine.copy_(x[start : start + size])
        total.addmm_(part, part.T)
    return total


def projection_weights(found: Tensor, orders: Sequence[Sequence[int]]) -> list[float]:
    """PCGrad's weights out of the inner products ``[k, k]``: row i is projected in the order ``orders[i]``."""
    shares = torch.eye(len(found), dtype=found.dtype)
    for i, order in enumerate(orders):
        for j in order:
            against = float(shares[i] @ found[j])
            if j != i and against < 0 and found[j, j] > 0:
                shares[i, j] -= against / found[j, j]
    return shares.sum(0).tolist()


def random_orders(count: int, seed: int | None) -> list[list[int]]:
    """An order of all streams for each of them; which one makes no difference to two."""
    if count < 3:
        return [list(range(count))] * count
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return [torch.randperm(count, generator=generator).tolist() for _ in range(count)]


def shortest(found: Tensor) -> list[float]:
    """argmin w' G w over the simplex, out of the inner products ``[k, k]``; streams without a gradient get nothing.

    All get the same where none has a gradient.
    """
    there = [i for i in range(len(found)) if found[i, i] > 0]
    if not there:
        return [1 / len(found)] * len(found)
    inside = found[there][:, there]
    shares = dict(zip(there, _of_two(inside) if len(there) == 2 else _wolfe(inside), strict=True))
    return [shares.get(i, 0.0) for i in range(len(found))]


def _of_two(found: Tensor) -> list[float]:
    (one, both), (_, two) = found.tolist()
    apart = one + two - 2 * both
    share = min(max((two - both) / apart, 0.0), 1.0) if apart > 0 else 0.5
    return [share, 1 - share]


def _wolfe(found: Tensor) -> list[float]:
    """Wolfe's algorithm: a corral of streams grows by the one that points most against, and loses negative weights."""
    lengths = found.diagonal().sqrt()
    corral = [int(lengths.argmin())]
    w = torch.zeros_like(lengths)
    w[corral] = 1
    for _ in range(100 * len(w)):
        slopes = found @ w
        missing = (w @ slopes - slopes) / lengths
        new = int(missing.argmax())
        if new in corral or float(missing[new]) <= CLOSED * float(lengths[corral].max()):
            break
        corral.append(new)
        while bool(((target := _in_plane(found, corral)) <= 0).any()):
            corral, w = _inside(corral, w, target)
        w = torch.zeros_like(w)
        w[corral] = target
        if new not in corral:  # nothing was gained but rounding
            break
    return w.tolist()


def _inside(corral: list[int], w: Tensor, target: Tensor) -> tuple[list[int], Tensor]:
    """As far towards the target as no weight turns negative; those that vanish leave."""
    old, falling = w[corral], target <= 0
    way = float((old[falling] / (old - target)[falling]).min())
    moved = torch.zeros_like(w)
    moved[corral] = (old + way * (target - old)).clamp(min=0)
    stay = [i for i in corral if moved[i] > CLOSED]
    moved[[i for i in corral if i not in stay]] = 0
    return stay, moved


def _in_plane(found: Tensor, corral: list[int]) -> Tensor:
    """Weights that add up to 1, of any sign, of the shortest vector in the plane through some gradients."""
    count = len(corral)
    inside = found[corral][:, corral]
    system = torch.ones(count + 1, count + 1, dtype=found.dtype)
    system[:count, :count] = inside / inside.diagonal().max()
    system[count, count] = 0
    right = torch.zeros(count + 1, 1, dtype=found.dtype)
    right[count] = 1
    return torch.linalg.lstsq(system, right, driver="gelsd").solution[:count, 0]


def log_scales(streams: Iterable[str], losses: Mapping[str, Tensor | float] | None) -> list[float]:
    """1 / L of every stream, the factor of its gradient in that of log L.

    Raises:
        ValueError: a loss that is missing, or not above 0.
    """
    names = list(streams)
    lacking = [name for name in names if losses is None or name not in losses]
    if losses is None or lacking:
        raise ValueError(f"combine: logarithms need the loss of every stream, and there is none of {lacking}")
    found = {name: float(torch.as_tensor(losses[name]).detach()) for name in names}
    for name, value in found.items():
        if not 0 < value < math.inf:
            raise ValueError(
                f"combine: the loss of stream {name!r} is {value:g}, and only one above 0 has a logarithm to "
                f"differentiate; combine by min_norm without logarithms, or leave this stream out"
            )
    return [1 / max(value, LEAST) for value in found.values()]
