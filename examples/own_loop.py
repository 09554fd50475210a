"""Distillation in a loop of your own: the loss alone, the optimizer alone, and both.

Run: python examples/own_loop.py
"""

from __future__ import annotations

import torch
from problem import Problem, network, problem
from torch import nn

import fractionate as fr

EPOCHS = 150


def labels_alone(data: Problem) -> nn.Module:
    """What distillation is compared with: the same student, the same steps, no teacher."""
    student = network(32)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(student(data.images), data.labels).backward()
        optimizer.step()
    return student


def loss_only(data: Problem) -> nn.Module:
    """A method's loss is a scalar like any other: keep your optimizer, scheduler, clipping and mixed precision."""
    student, method = network(32), fr.methods.dkd(beta=2.0)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    for epoch in range(1, EPOCHS + 1):
        rows = fr.Logits(student(data.images), data.teacher(data.images), data.labels)
        loss = method.loss(rows, fr.Progress(epoch=epoch, epochs=EPOCHS))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
    return student


def optimizer_only(data: Problem) -> nn.Module:
    """Any named losses are streams; each has a momentum of its own."""
    student = network(32)
    optimizer = fr.StreamSGD(student.parameters(), lr=0.02, momentum={"labels": 0.8, "teacher": 0.95})
    for _ in range(EPOCHS):
        logits = student(data.images)
        losses = {
            "labels": nn.functional.cross_entropy(logits, data.labels),
            "teacher": 0.1 * nn.functional.mse_loss(logits, data.teacher(data.images)),
        }
        optimizer.step(fr.stream_grads(losses, student))
    return student


def both(data: Problem) -> nn.Module:
    """A method names its streams, the optimizer takes their momenta from it."""
    student, method = network(32), fr.methods.deepkd(fr.methods.dkd(beta=2.0), delta=0.05)
    optimizer = fr.StreamSGD(student.parameters(), lr=0.02, momentum=method.momenta(0.9), weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for epoch in range(1, EPOCHS + 1):
        rows = fr.Logits(student(data.images), data.teacher(data.images), data.labels)
        losses = method.stream_losses(rows, fr.Progress(epoch=epoch, epochs=EPOCHS))
        optimizer.step(fr.stream_grads(losses, student))
        scheduler.step()
    return student


def main() -> dict[str, float]:
    """Test accuracy of each way, on one seed."""
    data, found = problem(), {}
    for way in (labels_alone, loss_only, optimizer_only, both):
        torch.manual_seed(1)
        found[way.__name__] = data.accuracy(way(data))
    found["teacher"] = data.accuracy(data.teacher)
    for name, accuracy in found.items():
        print(f"{name:15s} {accuracy:6.1%}")
    return found


if __name__ == "__main__":
    main()
