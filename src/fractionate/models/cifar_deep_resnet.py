"""The four-stage residual networks of ImageNet with a stem for 32 x 32 images: resnet18 and resnet50."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .._typing import Float
from .cifar_parts import conv, he_normal, pool

WIDTHS = (64, 128, 256, 512)


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
        self.conv1, self.bn1 = conv(3, WIDTHS[0]), nn.BatchNorm2d(WIDTHS[0])
        inputs = WIDTHS[0]
        for i, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True), start=1):
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
