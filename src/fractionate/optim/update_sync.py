"""Processes that exchange the move of the weights in place of the gradients: one row of numbers, not one per stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from .reduce import AllReduce
from .sharded import is_sharded


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
        ValueError: ``torch.distributed`` has not been initialised, or parameters are sharded.

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
