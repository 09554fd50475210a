"""What the examples learn: 16 numbers in 10 classes, teachers that were trained, a student with few labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Problem:
    """Teachers that know the task, few images to train a student on, many to test it with."""

    teachers: tuple[nn.Sequential, ...]
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @property
    def teacher(self) -> nn.Sequential:
        """The first teacher."""
        return self.teachers[0]

    def accuracy(self, network: nn.Module) -> float:
        """Share of the test images that a network classifies as the truth does."""
        with torch.no_grad():
            return float((network(self.test_images).argmax(1) == self.test_labels).float().mean())


def network(width: int) -> nn.Sequential:
    """16 -> width -> 10: two layers and a ReLU between them."""
    return nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 10))


def problem(teachers: int = 1, labelled: int = 64, seed: int = 0) -> Problem:
    """The truth is a fixed random network; each teacher has learned it from images of its own."""
    torch.manual_seed(seed)
    truth, images = network(8), torch.randn(4096, 16)
    with torch.no_grad():
        logits = truth(images)
        labels = (logits - logits.mean(0)).argmax(1)
    parts = zip(images[:3072].chunk(teachers), labels[:3072].chunk(teachers), strict=True)
    return Problem(
        tuple(trained_teacher(*part) for part in parts),
        images[:labelled],
        labels[:labelled],
        images[3072:],
        labels[3072:],
    )


def trained_teacher(images: Tensor, labels: Tensor) -> nn.Sequential:
    """Plain supervised training; frozen afterwards."""
    teacher = network(64)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(teacher(images), labels).backward()
        optimizer.step()
    return teacher.requires_grad_(False)
