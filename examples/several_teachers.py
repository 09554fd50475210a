"""Several teachers: their mixture as one teacher, or a gradient stream for each, with a momentum of its own.

Run: python examples/several_teachers.py
"""

from __future__ import annotations

import torch
from problem import Problem, network, problem
from torch import nn

import fractionate as fr

EPOCHS = 100
M = fr.methods
WAYS = {
    "the mixture": M.mixture_of_teachers(M.kd()),
    "a part each, one momentum": M.per_teacher(M.kd(), n=3),
    "a stream each": M.per_teacher(M.kd(), n=3, shifts=[0.05, 0.0, -0.05]),
    "by role, under deepkd": M.deepkd(M.per_teacher(M.dkd(beta=2.0), n=3), delta=0.05),
}


def student_of(method: fr.Method, data: Problem) -> nn.Module:
    """A student of all teachers: the first is ``Logits.teacher``, the others are ``Logits.teachers``."""
    torch.manual_seed(1)
    student = network(32)
    optimizer = fr.StreamSGD(student.parameters(), lr=0.02, momentum=method.momenta(0.9))
    for epoch in range(1, EPOCHS + 1):
        first, *others = (teacher(data.images) for teacher in data.teachers)
        rows = fr.Logits(student(data.images), first, data.labels, teachers=tuple(others))
        losses = method.stream_losses(rows, fr.Progress(epoch=epoch, epochs=EPOCHS))
        optimizer.step(fr.stream_grads(losses, student))
    return student


def main() -> dict[str, float]:
    """Test accuracy of each teacher and of each way to use them, on one seed."""
    data = problem(teachers=3)
    for k, teacher in enumerate(data.teachers, 1):
        print(f"teacher {k:<27d} {data.accuracy(teacher):6.1%}")
    found = {}
    for name, method in WAYS.items():
        found[name] = data.accuracy(student_of(method, data))
        print(f"{name:26s} {method.backward_passes} backward {found[name]:6.1%}")
    return found


if __name__ == "__main__":
    main()
