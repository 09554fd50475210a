"""MobileNetV2 at half width for 32 x 32 images."""

from __future__ import annotations

from torch import Tensor, nn

from .._typing import Float
from .cifar_parts import conv, he_normal, pool, small_linear

# Expansion, channels at width 1, blocks, stride of the first block.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
TAPPED = (1, 2, 4, 6)  # stages after which the published networks tap features
LAST = 1280


class InvertedResidual(nn.Module):
    """1 x 1 expansion, 3 x 3 convolution per channel, linear 1 x 1 projection; a shortcut where the shape is kept."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.keeps_shape = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *_activated(conv(inputs, inner, 1)),
            *_activated(conv(inner, inner, stride=stride, groups=inner)),
            conv(inner, outputs, 1),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """No activation after the sum."""
        return x + self.conv(x) if self.keeps_shape else self.conv(x)


class MobileNetV2(nn.Module):
    """Seven stages of inverted residuals; the first convolution has stride 2, so 32 x 32 images end at 2 x 2.

    Args:
        num_classes: number of logits.
        width: factor on all channels but the last 1280.

    Source: arXiv 1801.04381.

    Example:
        >>> import torch
        >>> net = MobileNetV2(num_classes=100)
        >>> net(torch.zeros(2, 3, 32, 32)).shape, [t.shape[1] for t in net.features(torch.zeros(2, 3, 32, 32))]
        (torch.Size([2, 100]), [16, 12, 16, 48, 160, 1280, 1280])
    """

    def __init__(self, *, num_classes: int, width: float = 0.5) -> None:
        super().__init__()
        channels = int(32 * width)
        self.conv1 = nn.Sequential(*_activated(conv(3, channels, stride=2)))
        self.blocks = nn.ModuleList()
        for expansion, full, blocks, stride in STAGES:
            outputs = int(full * width)
            first = InvertedResidual(channels, outputs, stride, expansion)
            rest = (InvertedResidual(outputs, outputs, 1, expansion) for _ in range(blocks - 1))
            self.blocks.append(nn.Sequential(first, *rest))
            channels = outputs
        self.conv2 = nn.Sequential(*_activated(conv(channels, LAST, 1)))
        self.classifier = nn.Sequential(small_linear(nn.Linear(LAST, num_classes)))
        he_normal(self)

    def features(self, x: Float[Tensor, "n ch h w"]) -> list[Tensor]:
        """Stem, stages 2, 3, 5 and 7, the last map, pooled vector."""
        x = self.conv1(x)
        taps = [x]
        for i, stage in enumerate(self.blocks):
            x = stage(x)
            if i in TAPPED:
                taps.append(x)
        x = self.conv2(x)
        return [*taps, x, pool(x)]

    def forward(self, x: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n c"]:
        """Images -> logits."""
        return self.classifier(self.features(x)[-1])


def _activated(layer: nn.Conv2d) -> tuple[nn.Module, ...]:
    return layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU(inplace=True)
