"""Residual networks for 32 x 32 images: resnet8 .. resnet110 and their wide forms, resnet18 and resnet50, wrn_*."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._typing import Float
from .plain import conv, he_normal, pool

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


DEEP = (64, 128, 256, 512)


class Basic(nn.Module):
    """Two 3 x 3 convolutions; the output has ``width`` channels."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, width, stride=stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width), nn.BatchNorm2d(width)
        self.shortcut = _shortcut(inputs, width, stride)

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """Post-activation."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x), inplace=True)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (with the stride), 1 x 1; the output has 4 ``width`` channels."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, stride=stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """Post-activation."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x), inplace=True)


class DeepResNet(nn.Module):
    """Four stages at sizes 32, 16, 8 and 4 behind one 3 x 3 convolution, without the early pooling of ImageNet.

    Args:
        block: :class:`Basic` or :class:`Bottleneck`.
        blocks: blocks per stage.
        num_classes: number of logits.

    Source: arXiv 1512.03385.

    Example:
        >>> import torch
        >>> net = DeepResNet(Basic, (1, 1, 1, 1), num_classes=100)
        >>> net(torch.zeros(2, 3, 32, 32)).shape, [t.shape[1] for t in net.features(torch.zeros(2, 3, 32, 32))]
        (torch.Size([2, 100]), [64, 64, 128, 256, 512, 512])
    """

    def __init__(
        self, block: type[Basic] | type[Bottleneck], blocks: tuple[int, int, int, int], *, num_classes: int
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(3, DEEP[0]), nn.BatchNorm2d(DEEP[0])
        inputs = DEEP[0]
        for i, (width, count) in enumerate(zip(DEEP, blocks, strict=True), start=1):
            outputs = width * block.expansion
            rest = (block(outputs, width, 1) for _ in range(count - 1))
            self.add_module(f"layer{i}", nn.Sequential(block(inputs, width, 1 if i == 1 else 2), *rest))
            inputs = outputs
        self.linear = nn.Linear(inputs, num_classes)
        he_normal(self)

    def features(self, x: Float[Tensor, "n ch h w"]) -> list[Tensor]:
        """Stem, four stages, pooled vector."""
        taps = [F.relu(self.bn1(self.conv1(x)), inplace=True)]
        for i in (1, 2, 3, 4):
            taps.append(self.get_submodule(f"layer{i}")(taps[-1]))
        return [*taps, pool(taps[-1])]

    def forward(self, x: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n c"]:
        """Images -> logits."""
        return self.linear(self.features(x)[-1])


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(conv(inputs, outputs, 1, stride=stride), nn.BatchNorm2d(outputs))


class WideBlock(nn.Module):
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


class WideStage(nn.Module):
    """Blocks in a row; the first one changes width and size."""

    def __init__(self, inputs: int, outputs: int, blocks: int, stride: int) -> None:
        super().__init__()
        rest = (WideBlock(outputs, outputs, 1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(WideBlock(inputs, outputs, stride), *rest)

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
        self.block1 = WideStage(16, 16 * widen, blocks, stride=1)
        self.block2 = WideStage(16 * widen, 32 * widen, blocks, stride=2)
        self.block3 = WideStage(32 * widen, 64 * widen, blocks, stride=2)
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
