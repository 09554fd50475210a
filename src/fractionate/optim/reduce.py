"""Stream gradients summed over processes: each stream's while the next one is differentiated."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .grads import Grads

T = TypeVar("T")
Kind = tuple[torch.dtype, torch.device]


class PeerLost(ConnectionError):
    """Another process of the run has ended, or does not answer."""


class AllReduce:
    """Sums the gradients of every stream over the processes of a group.

    g_c = scale * sum over processes r of g_c^r, for every stream c. One flat buffer of [streams, parameters] per dtype
    is kept; a stream's row is on its way while ``stream_grads`` differentiates the next one. The gradients that
    come back are views of that buffer: the next step overwrites them.

    Every process must differentiate the same streams in the same order, and its losses must reach the same parameters.

    Args:
        group: the processes; by default all of them.
        scale: factor on every process's gradients; by default 1 / processes, so that losses averaged over equally many
            rows on every process become the loss averaged over all rows.

    Raises:
        ValueError: ``torch.distributed`` has not been initialised.

    Example:
        >>> import tempfile, torch, fractionate as fr
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=0, world_size=1)
        ...     net = torch.nn.Linear(3, 1, bias=False)
        ...     grads = fr.stream_grads({"loss": net(torch.ones(1, 3)).sum()}, net, reduce=fr.AllReduce())
        ...     torch.distributed.destroy_process_group()
        >>> grads["loss"][0].tolist()
        [[1.0, 1.0, 1.0]]
    """

    def __init__(self, group: dist.ProcessGroup | None = None, *, scale: float | None = None) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise ValueError(
                "AllReduce: torch.distributed has not been initialised; start the program with torchrun and call "
                "torch.distributed.init_process_group() first"
            )
        self.group = group
        self.scale = 1 / dist.get_world_size(group) if scale is None else scale
        self._rows: dict[str, _Row] = {}
        self._pending: list[dist.Work] = []

    def start(self, stream: str, parameters: Sequence[Tensor], grads: Grads) -> Grads:
        """Begin to sum one stream's gradients; the views that come back hold the sums after :meth:`finish`.

        Args:
            stream: its name.
            parameters: what the gradients belong to.
            grads: one per parameter; ``None`` stays ``None``.
        """
        row = self._rows.get(stream)
        if row is None or not row.fits(parameters):
            row = self._rows[stream] = _Row(parameters)
        row.fill(grads, self.scale)
        for flat in row.flat.values():
            self._pending.append(heard(partial(dist.all_reduce, flat, group=self.group, async_op=True)))
        return tuple(None if g is None else view for g, view in zip(grads, row.views, strict=True))

    def finish(self) -> None:
        """Wait for all that was begun.

        Raises:
            PeerLost: a process has ended, or does not answer within the group's timeout.
        """
        while self._pending:
            heard(self._pending.pop(0).wait)


class _Row:
    """Memory of one stream, laid out as its parameters, those of one kind one after the other."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = tuple(parameters)
        sizes: dict[Kind, int] = {}
        places = []
        for p in parameters:
            kind = (p.dtype, p.device)
            places.append((kind, sizes.get(kind, 0)))
            sizes[kind] = sizes.get(kind, 0) + p.numel()
        self.flat = {kind: torch.zeros(size, dtype=kind[0], device=kind[1]) for kind, size in sizes.items()}
        self.views = [
            like(self.flat[kind][start : start + p.numel()], p)
            for p, (kind, start) in zip(parameters, places, strict=True)
        ]

    def fits(self, parameters: Sequence[Tensor]) -> bool:
        return len(parameters) == len(self.parameters) and all(map(operator.is_, parameters, self.parameters))

    def fill(self, grads: Grads, scale: float) -> None:
        there = [(view, g) for view, g in zip(self.views, grads, strict=True) if g is not None]
        if len(there) < len(self.views):
            for flat in self.flat.values():
                flat.zero_()
        if there:
            views, found = (list(x) for x in zip(*there, strict=True))
            torch._foreach_copy_(views, found)
        if scale != 1:
            torch._foreach_mul_(list(self.flat.values()), scale)


def like(flat: Tensor, p: Tensor) -> Tensor:
    """The numbers of ``flat`` as a tensor of the shape of ``p``, in its order in memory if that has no gaps."""
    gapless = p.is_contiguous() or p.is_contiguous(memory_format=torch.channels_last)
    return flat.as_strided(p.shape, p.stride(), flat.storage_offset()) if gapless else flat.view(p.shape)


def heard(call: Callable[[], T]) -> T:
    """A call to other processes, whose failure is said in words.

    Raises:
        PeerLost: nobody answers.
    """
    try:
        return call()
    except RuntimeError as error:
        why = " ".join(str(error).split())[:200]
        raise PeerLost(f"another process of this run has ended or does not answer ({why})") from error
