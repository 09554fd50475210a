"""What processes exchange: the gradients of every stream, or the move of the weights."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from .grads import Grads
from .sharded import is_sharded

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


class UpdateAllReduce:
    """Averages every step's move of the weights over the processes of a group.

    Heavy-ball buffers and moves are affine in the gradient. With g = mean over r of g^r, equal weights, and every
    process keeping buffers of its own gradient g^r, the mean move is that of g, so the weights stay equal everywhere
    and are those of one process with all rows. What is not affine is excluded: clipping before the step, and anything
    that reads the whole gradient (signal-to-noise ratios, norms); the trainer refuses them.

    Args:
        optimizer: a :class:`StreamSGD` whose gradients were not summed over processes. A process with a share s of the
            rows weighs its mean loss by s * processes.
        group: the processes; by default all of them.

    Raises:
        ValueError: ``torch.distributed`` has not been initialised, parameters are sharded, or moves are not affine in
            the gradient (:class:`StreamAdamW`).

    Example:
        >>> import tempfile, fractionate as fr
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     dist.init_process_group("gloo", f"file://{folder}/meet", rank=0, world_size=1)
        ...     net = torch.nn.Linear(1, 1, bias=False)
        ...     _ = torch.nn.init.ones_(net.weight)
        ...     optimizer = fr.StreamSGD(net.parameters(), lr=0.5, momentum=0.9)
        ...     with UpdateAllReduce(optimizer):
        ...         optimizer.step(fr.stream_grads({"loss": net(torch.ones(1, 1)).sum()}, net))
        ...     dist.destroy_process_group()
        >>> net.weight.item()
        0.5
    """

    def __init__(self, optimizer: Optimizer, group: dist.ProcessGroup | None = None) -> None:
        self.optimizer = optimizer
        self._mean = AllReduce(group)
        if is_sharded(self._parameters()):
            raise ValueError(
                "UpdateAllReduce: the parameters are sharded: processes hold different parts of them, whose moves have "
                "no mean. FSDP averages the gradients; step with them as they are"
            )
        if not getattr(optimizer, "affine", False):
            raise ValueError(
                f"UpdateAllReduce: the moves of {type(optimizer).__name__} are not affine in the gradient, so that "
                f"their mean over processes is no step; sum the gradients: stream_grads(..., reduce=fr.AllReduce())"
            )
        self._before: list[Tensor] = []

    def __enter__(self) -> UpdateAllReduce:
        self._hooks = [
            self.optimizer.register_step_pre_hook(self._remember),
            self.optimizer.register_step_post_hook(self._exchange),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def average_buffers(self) -> None:
        """Give every process the mean of all buffers, which then no longer depends on how many processes there are.

        Called before a checkpoint is written; training goes on exactly as it would have, up to rounding.
        """
        streams: dict[str, list[Tensor]] = {}
        for p in self._parameters():
            for stream, buffer in self.optimizer.state.get(p, {}).items():
                streams.setdefault(stream, []).append(buffer)
        for stream, buffers in streams.items():
            torch._foreach_copy_(buffers, self._means(f"buffers of {stream}", buffers, buffers))

    def _means(self, name: str, layout: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
        found = self._mean.start(name, layout, tuple(values))
        self._mean.finish()
        return [x for x in found if x is not None]

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _remember(self, *_: Any) -> None:
        self._before = [p.detach().clone() for p in self._parameters()]

    @torch.no_grad()
    def _exchange(self, *_: Any) -> None:
        params = self._parameters()
        moves = self._means("move", params, torch._foreach_sub(params, self._before))
        torch._foreach_copy_(params, self._before)
        torch._foreach_add_(params, moves)
        self._before = []
