"""Residual networks for 32 x 32 images: resnet8 .. resnet110, and the four times wider resnet8x4 and resnet32x4."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .._typing import Float
from .cifar_parts import conv, he_normal, pool

NARROW = (16, 16, 32, 64)
WIDE = (32, 64, 128, 256)


class Block(nn.Module):
    """Two 3 x 3 convolutions beside an identity, or beside a 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, stride=stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs), nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride=stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """Post-activation: the sum passes through the last ReLU."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x), inplace=True)


class ResNet(nn.Module):
    """6 m + 2 layers in three stages of m blocks, at sizes 32, 16 and 8.

    Args:
        depth: 6 m + 2.
        widths: channels of the stem and of the three stages, :data:`NARROW` or :data:`WIDE`.
        num_classes: number of logits.

    Raises:
        ValueError: a depth that is not 6 m + 2.

    Source: arXiv 1512.03385 (section 4.2); the wide ones are those of the distillation literature.

    Example:
        >>> import torch
        >>> net = ResNet(8, NARROW, num_classes=100)
        >>> net(torch.zeros(2, 3, 32, 32)).shape, [t.shape[1] for t in net.features(torch.zeros(2, 3, 32, 32))]
        (torch.Size([2, 100]), [16, 16, 32, 64, 64])
    """

    def __init__(self, depth: int, widths: tuple[int, int, int, int] = NARROW, *, num_classes: int) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"ResNet: depth must be 6 m + 2 (8, 14, 20, ...), got {depth}")
        blocks = (depth - 2) // 6
        self.conv1, self.bn1 = conv(3, widths[0]), nn.BatchNorm2d(widths[0])
        self.layer1 = _stage(widths[0], widths[1], blocks, stride=1)
        self.layer2 = _stage(widths[1], widths[2], blocks, stride=2)
        self.layer3 = _stage(widths[2], widths[3], blocks, stride=2)
        self.fc = nn.Linear(widths[3], num_classes)
        he_normal(self)

    def features(self, x: Float[Tensor, "n ch h w"]) -> list[Tensor]:
        """Stem, three stages, pooled vector."""
        taps = [F.relu(self.bn1(self.conv1(x)), inplace=True)]
        for stage in (self.layer1, self.layer2, self.layer3):
            taps.append(stage(taps[-1]))
        return [*taps, pool(taps[-1])]

    def forward(self, x: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n c"]:
        """Images -> logits."""
        return self.fc(self.features(x)[-1])


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (Block(outputs, outputs, 1) for _ in range(blocks - 1))
    return nn.Sequential(Block(inputs, outputs, stride), *rest)
