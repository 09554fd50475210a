"""Wide residual networks for 32 x 32 images: wrn_16_1, wrn_16_2, wrn_40_1, wrn_40_2."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._typing import Float
from .cifar_parts import conv, he_normal, pool


class Block(nn.Module):
    """Batch norm and ReLU before each 3 x 3 convolution; beside it the identity, or a 1 x 1 of the activated input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, stride=stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs)
        self.convShortcut = None if inputs == outputs else conv(inputs, outputs, 1, stride=stride)

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """Pre-activation: the sum is not activated."""
        active = F.relu(self.bn1(x), inplace=True)
        out = self.conv2(F.relu(self.bn2(self.conv1(active)), inplace=True))
        return out + (x if self.convShortcut is None else self.convShortcut(active))


class Stage(nn.Module):
    """Blocks in a row; the first one changes width and size."""

    def __init__(self, inputs: int, outputs: int, blocks: int, stride: int) -> None:
        super().__init__()
        rest = (Block(outputs, outputs, 1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(Block(inputs, outputs, stride), *rest)

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """All blocks."""
        return self.layer(x)


class WideResNet(nn.Module):
    """6 m + 4 layers in three stages of m blocks, at sizes 32, 16 and 8.

    Args:
        depth: 6 m + 4.
        widen: factor on the widths 16, 32, 64.
        num_classes: number of logits.
        published_bn: in training, let three batch norms (those that open stages 2 and 3, and the last one) see their
            input twice, as the published code does to tap features: their running statistics then move with momentum
            0.19 instead of 0.1. For bit-compatible runs only; logits in training do not depend on it.

    Raises:
        ValueError: a depth that is not 6 m + 4.

    Source: arXiv 1605.07146.

    Example:
        >>> import torch
        >>> net = WideResNet(16, 2, num_classes=100)
        >>> net(torch.zeros(2, 3, 32, 32)).shape, [t.shape[1] for t in net.features(torch.zeros(2, 3, 32, 32))]
        (torch.Size([2, 100]), [16, 32, 64, 128, 128])
    """

    def __init__(self, depth: int, widen: int, *, num_classes: int, published_bn: bool = False) -> None:
        super().__init__()
        if depth < 10 or depth % 6 != 4:
            raise ValueError(f"WideResNet: depth must be 6 m + 4 (10, 16, 22, ...), got {depth}")
        blocks = (depth - 4) // 6
        self.published_bn = published_bn
        self.conv1 = conv(3, 16)
        self.block1 = Stage(16, 16 * widen, blocks, stride=1)
        self.block2 = Stage(16 * widen, 32 * widen, blocks, stride=2)
        self.block3 = Stage(32 * widen, 64 * widen, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.fc = nn.Linear(64 * widen, num_classes)
        he_normal(self)
        nn.init.zeros_(self.fc.bias)

    def features(self, x: Float[Tensor, "n ch h w"]) -> list[Tensor]:
        """Stem, stages 1 and 2 (not activated), the activated output of stage 3, pooled vector."""
        taps = [self.conv1(x)]
        for stage in (self.block1, self.block2, self.block3):
            taps.append(stage(taps[-1]))
        if self.published_bn and self.training:
            self._again(taps)
        taps[-1] = F.relu(self.bn1(taps[-1]), inplace=True)
        return [*taps, pool(taps[-1])]

    def forward(self, x: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n c"]:
        """Images -> logits."""
        return self.fc(self.features(x)[-1])

    @torch.no_grad()
    def _again(self, taps: list[Tensor]) -> None:
        norms = ("block2.layer.0.bn1", "block3.layer.0.bn1", "bn1")
        for norm, tap in zip(norms, taps[1:], strict=True):
            self.get_submodule(norm)(tap)
