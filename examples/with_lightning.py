"""Gradient streams in a LightningModule, on any number of processes.

Run: torchrun --nproc-per-node 2 examples/with_lightning.py
Alone, `python examples/with_lightning.py` makes the same steps with the whole batch.
"""

from __future__ import annotations

import os

import lightning
from problem import Problem, network, problem
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import fractionate as fr

EPOCHS, BATCH = 20, 16  # a batch of all processes together
METHOD = fr.methods.deepkd(fr.methods.dkd(beta=2.0), delta=0.05)


class Distil(lightning.LightningModule):
    """The streams are summed over the processes by ``fr.AllReduce``; DistributedDataParallel has no part in it."""

    def __init__(self, data: Problem) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.student, self.teacher, self.data = network(32), data.teacher, data

    def on_fit_start(self) -> None:
        """Strategy "ddp" has connected the processes by now and given them the main one's weights."""
        self.reduce = fr.AllReduce() if self.trainer.world_size > 1 else None

    def configure_optimizers(self) -> fr.StreamSGD:
        """One momentum per stream."""
        return fr.StreamSGD(self.student.parameters(), lr=0.02, momentum=METHOD.momenta(0.9), weight_decay=5e-4)

    def train_dataloader(self) -> DataLoader:
        """Process r of n gets every n-th row from the r-th on.

        Without a sampler Lightning puts in its own, which divides as well, but shuffles otherwise than one process.
        """
        rows, size = TensorDataset(self.data.images, self.data.labels), self.trainer.world_size
        sampler = DistributedSampler(rows, num_replicas=size, rank=self.trainer.global_rank, seed=0)
        return DataLoader(rows, batch_size=BATCH // size, sampler=sampler)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """One step of every stream."""
        images, labels = batch
        rows = fr.Logits(self.student(images), self.teacher(images), labels)
        losses = METHOD.stream_losses(rows, fr.Progress(epoch=self.current_epoch + 1, epochs=EPOCHS))
        grads = fr.stream_grads(losses, self.student, reduce=self.reduce)  # the bare module, not the trainer's wrapper
        self.optimizers(use_pl_optimizer=False).step(grads)


def main() -> nn.Module:
    """The trained student; every process has the same."""
    data, size = problem(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes on this host, as torchrun says
    module = Distil(data)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=size,
        strategy="ddp" if size > 1 else "auto",
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module)
    if trainer.is_global_zero:
        print(f"{size} processes, accuracy {data.accuracy(module.student):.1%}")
    return module.student


if __name__ == "__main__":
    main()
