"""Networks with a map of logits, small enough for tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def tiny(num_classes: int) -> nn.Module:
    """Logits at a quarter of the size, enlarged."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, num_classes, 3, stride=2, padding=1),
        nn.Upsample(scale_factor=4, mode="bilinear", align_corners=True),
    )


def plain(num_classes: int) -> nn.Module:
    """Without norms, so that a batch can be taken in parts; logits at half the size."""
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, num_classes, 1))


class WithAuxiliary(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 6, 3, 2, 1)
        self.classifier = nn.Conv2d(6, num_classes, 1)
        self.aux_classifier = nn.Conv2d(6, num_classes, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.backbone(images).relu()
        size = images.shape[2:]
        return {
            name: nn.functional.interpolate(head(features), size, mode="bilinear", align_corners=True)
            for name, head in (("out", self.classifier), ("aux", self.aux_classifier))
        }


def with_auxiliary(num_classes: int) -> nn.Module:
    return WithAuxiliary(num_classes)


def blind(num_classes: int) -> nn.Module:
    """It gives logits of a whole image, no map."""
    return _Flat(num_classes)


class _Flat(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(torch.flatten(images.mean((2, 3)), 1))
