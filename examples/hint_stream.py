"""A hint on features as a gradient stream of its own, beside DeepKD's three, with a momentum of its own.

The package sees no features: the loss per row is computed here, with its graph, and handed over in ``Logits.extra``.

Run: python examples/hint_stream.py
"""

from __future__ import annotations

import torch
from problem import Problem, network, problem
from torch import nn

import fractionate as fr

EPOCHS = 150
M = fr.methods
WITHOUT = M.deepkd(M.dkd(beta=2.0), delta=0.05)
WITH = M.with_extra(WITHOUT, name="hint", weight=0.5, shift=-0.1)


def student_of(method: fr.Method, data: Problem) -> tuple[nn.Module, list[str]]:
    """A student, and the names of the streams it was trained with."""
    torch.manual_seed(1)
    student, regressor = network(32), nn.Linear(32, 64)  # the student's 32 features onto the teacher's 64
    trained = nn.ModuleList([student, regressor])
    optimizer = fr.StreamSGD(trained.parameters(), lr=0.02, momentum=method.momenta(0.9))
    body, head = student[:2], student[2]
    for epoch in range(1, EPOCHS + 1):
        features = body(data.images)
        gap = regressor(features) - data.teacher[:2](data.images)
        extra = {"hint": gap.square().mean(1)}  # one value per row, like every component
        rows = fr.Logits(head(features), data.teacher(data.images), data.labels, extra=extra)
        losses = method.stream_losses(rows, fr.Progress(epoch=epoch, epochs=EPOCHS))
        optimizer.step(fr.stream_grads(losses, trained))
    return student, list(losses)


def main() -> dict[str, float]:
    """Test accuracy without and with the hint, on one seed."""
    data, found = problem(), {}
    for name, method in (("without hint", WITHOUT), ("with hint", WITH)):
        student, streams = student_of(method, data)
        found[name] = data.accuracy(student)
        momenta = ", ".join(f"{stream} {method.momenta(0.9)[stream]:.2f}" for stream in streams)
        print(f"{name:13s} {found[name]:6.1%}   momenta: {momenta}")
    return found


if __name__ == "__main__":
    main()
