"""Which classes the teacher ranks first; equal logits are ordered by class index, on every device."""

from __future__ import annotations

import torch
from torch import Tensor

from .._spoken import spoken
from .._typing import Float, Int
from ..rows.checks import can_look

# From this many classes per wanted one, looking at blocks is as fast as torch.topk on CPU, and needs no second look.
MANY = 4096


@spoken
def top_classes(logits: Float[Tensor, "n c"], k: int, *, largest: bool = True) -> Int[Tensor, "n k"]:
    """Indices of the k largest (or smallest) logits of each row, best first, ties towards the lower index.

    ``torch.topk`` leaves the order of equal values open, so a partition could depend on the kernel. On CPU only
    the rows that have equal values among the first k + 1 are ranked again; where values must not be read (CUDA,
    compile) every row is ranked by blocks of classes.

    Args:
        logits: ``[n, c]``.
        k: 1..c.

    Example:
        >>> import torch
        >>> top_classes(torch.tensor([[1.0, 2.0, 2.0, 0.0]]), 2)
        tensor([[1, 2]])
    """
    n, c = logits.shape
    if k == 1:  # these two promise the first of equal values
        return logits.argmax(1, keepdim=True) if largest else logits.argmin(1, keepdim=True)
    if not can_look(logits) or k * MANY <= c:
        return ranked_by_blocks(logits, k, largest)
    values, index = logits.topk(min(k + 1, c), dim=1, largest=largest)
    tied = (values[:, 1:] == values[:, :-1]).any(1)
    if n and bool(tied.any()):
        index = index[:, :k].clone()
        index[tied] = ranked_by_blocks(logits[tied], k, largest)
    return index[:, :k]


def top_set(logits: Float[Tensor, "n c"], k: int) -> Int[Tensor, "n k"]:
    """Indices of the k largest logits of each row in any order, ties towards the lower index: one pass, no sorting.

    Args:
        logits: ``[n, c]``, on a CPU, where values may be read.
        k: 1..c.

    Example:
        >>> import torch
        >>> top_set(torch.tensor([[1.0, 2.0, 2.0, 0.0, 2.0]]), 2).sort().values
        tensor([[1, 2]])
    """
    if k == logits.shape[1]:
        return torch.arange(k, device=logits.device).expand(len(logits), -1)
    values, index = logits.topk(k + 1, dim=1, sorted=False)
    least = values.amin(1, keepdim=True)  # the first that is left out, unless others are as large
    found = index.scatter(1, values.argmin(1, keepdim=True), index[:, -1:])[:, :k]
    tied = (values == least).sum(1) > 1
    if bool(tied.any()):
        z, limit = logits[tied], least[tied]
        above, equal = z > limit, z == limit
        equal &= equal.cumsum(1) <= k - above.sum(1, keepdim=True)
        found[tied] = (above | equal).nonzero()[:, 1].view(-1, k)
    return found


def ranked_by_blocks(logits: Float[Tensor, "n c"], k: int, largest: bool) -> Int[Tensor, "n k"]:
    """As :func:`top_classes`, with one pass over the logits and no look at a value.

    Cut a row into blocks of consecutive classes and rank the blocks by their best logit, ties towards the lower
    block. A class outside the first k blocks is no winner: the best class of each of these k blocks comes before it,
    being larger, or equal with a lower index. So only the k blocks, and what is left over at the end of the row, are
    sorted: 2 to 2.5 sqrt(c k) numbers, as blocks have sqrt(c / k) classes, rounded down to a power of two.
    """
    c = logits.shape[1]
    if c < 16 * k:  # little would be saved
        return logits.sort(dim=1, descending=largest, stable=True).indices[:, :k]
    size = 1
    while 4 * size * size * k <= c:
        size *= 2
    inside = c - c % size
    blocks = logits[:, :inside].unflatten(1, (-1, size))
    best = blocks.amax(2) if largest else blocks.amin(2)
    # In the order of the row again, so that position among the candidates decides ties as the class index does.
    chosen = ranked_by_blocks(best, k, largest).sort(dim=1).values[:, :, None]
    classes = (chosen * size + torch.arange(size, device=logits.device)).flatten(1)
    over = torch.arange(inside, c, device=logits.device).expand(len(logits), -1)
    classes = torch.cat([classes, over], 1)
    order = logits.gather(1, classes).sort(dim=1, descending=largest, stable=True).indices
    return classes.gather(1, order[:, :k])


class OtherK(ValueError):
    """A number of classes that these rows do not have; ``usable`` is one that they have."""

    def __init__(self, said: str, usable: int) -> None:
        super().__init__(said)
        self.usable = usable


def need_k(where: str, k: int, low: int, high: int) -> None:
    """Refuse a number of classes outside low..high.

    Raises:
        OtherK: a ValueError.
    """
    if isinstance(k, bool) or not isinstance(k, int) or not low <= k <= high:
        said = f"{where}: k must be an integer in {low}..{high} for these classes, got {k!r}"
        raise OtherK(said, max(low, high // 2))
