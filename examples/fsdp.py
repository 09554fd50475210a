"""Distil into a transformer whose weights are spread over the processes: shards of FSDP2, gradients of several streams.

Run: torchrun --nproc-per-node 2 examples/fsdp.py
Alone, `python examples/fsdp.py` trains the same student whole; the weights agree up to rounding.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import fractionate as fr

WORDS, LENGTH, CLASSES, BATCH = 12, 6, 8, 32  # a batch is divided over the processes
METHOD = fr.methods.deepkd(fr.methods.dkd(beta=2.0, warmup=1), delta=0.05)


class Block(nn.Module):
    """Attention and a two-layer network, each added to its normalised input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = nn.MultiheadAttention(width, num_heads=2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[n, words, width] to the same."""
        y = self.norms[0](x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norms[1](x))


class Transformer(nn.Module):
    """Classifies sequences of words."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Parameter(torch.randn(LENGTH, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, words: Tensor) -> Tensor:
        """[n, words] to logits [n, classes]."""
        x = self.words(words) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def shard(student: Transformer, processes: int) -> Transformer:
    """Every block on its own, so that only one of them is whole at a time; then what is left."""
    mesh = init_device_mesh("cpu", (processes,))  # with GPUs: "cuda", and all tensors there
    for block in student.blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(student, mesh=mesh)


def train(student: nn.Module, teacher: nn.Module, rank: int = 0, size: int = 1, steps: int = 60) -> fr.StreamSGD:
    """The loop of one process; nothing in it knows about shards."""
    optimizer = fr.StreamSGD(student.parameters(), lr=0.05, momentum=METHOD.momenta(0.9), weight_decay=5e-4)
    for step in range(steps):
        words = batch(step).chunk(size)[rank]  # equally many rows everywhere: FSDP averages over the processes
        with torch.no_grad():
            logits = teacher(words)
        rows = fr.Logits(student(words), logits, logits.argmax(1))
        losses = METHOD.stream_losses(rows, fr.Progress(step=step, epoch=1, epochs=1))
        grads = fr.optim.clip_total(fr.stream_grads(losses, student), 5.0)  # the norm is that of all shards
        optimizer.step(grads)
    return optimizer


def batch(step: int) -> Tensor:
    return torch.randint(WORDS, (BATCH, LENGTH), generator=torch.Generator().manual_seed(step))


def main() -> dict[str, Any]:
    """The trained student and the optimizer's buffers, whole; the main process would save them."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if size > 1:
        dist.init_process_group("gloo")  # with GPUs: "nccl"
    torch.manual_seed(0)  # the same weights everywhere, before they are divided
    teacher, student = Transformer(32, 2).requires_grad_(False), Transformer(16, 2)
    teacher.head.weight.mul_(4)
    if size > 1:
        shard(student, size)
    optimizer = train(student, teacher, rank, size)
    with torch.no_grad():
        test = torch.cat([batch(step) for step in range(-8, 0)])
        agreed = float((student(test).argmax(1) == teacher(test).argmax(1)).double().mean())
    whole = fr.optim.unsharded({"student": student.state_dict(), "optimizer": optimizer.state_dict()})
    held = sum(p.to_local().numel() if size > 1 else p.numel() for p in student.parameters())
    if rank == 0:
        print(f"{size} processes, {held} weights in this one; agrees with its teacher on {agreed:.1%} of new sequences")
    if size > 1:
        dist.destroy_process_group()
    return {**whole, "agreed": agreed, "held": held}


if __name__ == "__main__":
    main()
