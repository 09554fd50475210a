"""Gradient streams in an Accelerate loop, on any number of processes.

Run: torchrun --nproc-per-node 2 examples/with_accelerate.py
or:  accelerate launch --cpu --num_processes 2 examples/with_accelerate.py
Alone, `python examples/with_accelerate.py` makes the same steps with the whole batch.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from problem import Problem, network, problem
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fractionate as fr

EPOCHS, BATCH = 20, 16  # a batch of all processes together
METHOD = fr.methods.deepkd(fr.methods.dkd(beta=2.0), delta=0.05)


def train(data: Problem, accelerator: Accelerator) -> nn.Module:
    """Accelerate divides the data; the model and the optimizer stay as they are."""
    student = network(32).to(accelerator.device)
    for x in [*student.parameters(), *student.buffers()]:
        broadcast(x.data)  # start from the main process's weights; the wrapper of prepare(student) would do this
    loader = DataLoader(
        TensorDataset(data.images, data.labels),
        batch_size=BATCH // accelerator.num_processes,  # Accelerate hands every process whole batches in turn
        shuffle=True,
        generator=torch.Generator().manual_seed(0),  # the order does not depend on the number of processes
    )
    loader = accelerator.prepare(loader)
    optimizer = fr.StreamAdamW(student.parameters(), lr=0.01, betas=METHOD.momenta(0.9), weight_decay=0.05)
    reduce = fr.AllReduce() if accelerator.num_processes > 1 else None
    for epoch in range(1, EPOCHS + 1):
        for images, labels in loader:
            rows = fr.Logits(student(images), data.teacher(images), labels)
            losses = METHOD.stream_losses(rows, fr.Progress(epoch=epoch, epochs=EPOCHS))
            optimizer.step(fr.stream_grads(losses, student, reduce=reduce))
    return student


def main() -> nn.Module:
    """The trained student; every process has the same."""
    accelerator, data = Accelerator(cpu=True), problem()
    student = train(data, accelerator)
    accelerator.print(f"{accelerator.num_processes} processes, accuracy {data.accuracy(student):.1%}")
    accelerator.end_training()
    return student


if __name__ == "__main__":
    main()
