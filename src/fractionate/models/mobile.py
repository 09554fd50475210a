"""Light networks: MobileNetV1 for photos; for 32 x 32 images MobileNetV2 at half width, ShuffleNet V1 and V2."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._typing import Float
from .plain import conv, he_normal, pool, small_linear

# Expansion, channels at width 1, blocks, stride of the first block.
MOBILE = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
TAPPED = (1, 2, 4, 6)  # stages after which the published networks tap features
MOBILE_LAST = 1280


# Output channels and stride of the blocks of version 1, behind a first convolution to 32 channels of stride 2.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *(((512, 1),) * 5), (1024, 2), (1024, 1))


class MobileNetV1(nn.Module):
    """Thirteen pairs of a 3 x 3 convolution per channel and a 1 x 1 one; 224 x 224 images end at 7 x 7.

    Published code for ImageNet calls it MobileNetV2; its weights fit (``model.0.0.weight`` ... ``fc.bias``).

    Args:
        num_classes: number of logits.

    Source: arXiv 1704.04861.

    Example:
        >>> import torch
        >>> MobileNetV1(num_classes=5)(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 5])
    """

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        blocks, inputs = [nn.Sequential(*_activated(conv(3, 32, stride=2)))], 32
        for outputs, stride in BLOCKS:
            parts = (conv(inputs, inputs, stride=stride, groups=inputs), conv(inputs, outputs, 1))
            blocks.append(nn.Sequential(*(layer for part in parts for layer in _activated(part))))
            inputs = outputs
        self.model = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, num_classes)

    def features(self, x: Float[Tensor, "n ch h w"]) -> list[Tensor]:
        """The output of every block, pooled vector last."""
        taps = []
        for block in self.model:
            x = block(x)
            taps.append(x)
        return [*taps, pool(x)]

    def forward(self, x: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n c"]:
        """Images -> logits."""
        return self.fc(pool(self.model(x)))


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
        for expansion, full, blocks, stride in MOBILE:
            outputs = int(full * width)
            first = InvertedResidual(channels, outputs, stride, expansion)
            rest = (InvertedResidual(outputs, outputs, 1, expansion) for _ in range(blocks - 1))
            self.blocks.append(nn.Sequential(first, *rest))
            channels = outputs
        self.conv2 = nn.Sequential(*_activated(conv(channels, MOBILE_LAST, 1)))
        self.classifier = nn.Sequential(small_linear(nn.Linear(MOBILE_LAST, num_classes)))
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


STEM = 24
GROUPS = 3
STAGES_V1 = ((240, 4), (480, 8), (960, 4))  # channels, blocks
STAGES_V2 = ((116, 4), (232, 8), (464, 4))
LAST_V2 = 1024


def shuffle(x: Float[Tensor, "n ch h w"], groups: int) -> Float[Tensor, "n ch h w"]:
    """Take one channel of every group in turn.

    Example:
        >>> shuffle(torch.arange(6.0).view(1, 6, 1, 1), 2).flatten().tolist()
        [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class BlockV1(nn.Module):
    """Grouped 1 x 1, shuffle, 3 x 3 per channel, grouped 1 x 1; added to the input, at stride 2 beside its average."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        new = outputs - inputs if stride == 2 else outputs
        inner = new // 4
        self.stride = stride
        self.groups = 1 if inputs == STEM else groups  # the few channels of the stem are not grouped
        self.conv1, self.bn1 = conv(inputs, inner, 1, groups=self.groups), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = conv(inner, inner, stride=stride, groups=inner), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = conv(inner, new, 1, groups=groups), nn.BatchNorm2d(new)

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """The sum, or the joined channels, activated."""
        out = shuffle(F.relu(self.bn1(self.conv1(x)), inplace=True), self.groups)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        if self.stride == 1:
            return F.relu(out + x, inplace=True)
        return F.relu(torch.cat([out, F.avg_pool2d(x, 3, stride=2, padding=1)], 1), inplace=True)


class ShuffleNetV1(nn.Module):
    """1 x 1 stem and three stages at sizes 16, 8 and 4.

    Args:
        num_classes: number of logits.

    Source: arXiv 1707.01083 (g = 3).

    Example:
        >>> import torch
        >>> net = ShuffleNetV1(num_classes=100)
        >>> net(torch.zeros(2, 3, 32, 32)).shape, [t.shape[1] for t in net.features(torch.zeros(2, 3, 32, 32))]
        (torch.Size([2, 100]), [24, 240, 480, 960, 960])
    """

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(3, STEM, 1), nn.BatchNorm2d(STEM)
        inputs = STEM
        for i, (outputs, blocks) in enumerate(STAGES_V1, start=1):
            rest = (BlockV1(outputs, outputs, 1, GROUPS) for _ in range(blocks - 1))
            self.add_module(f"layer{i}", nn.Sequential(BlockV1(inputs, outputs, 2, GROUPS), *rest))
            inputs = outputs
        self.linear = nn.Linear(inputs, num_classes)

    def features(self, x: Float[Tensor, "n ch h w"]) -> list[Tensor]:
        """Stem, three stages, pooled vector."""
        taps = [F.relu(self.bn1(self.conv1(x)), inplace=True)]
        for i in (1, 2, 3):
            taps.append(self.get_submodule(f"layer{i}")(taps[-1]))
        return [*taps, pool(taps[-1])]

    def forward(self, x: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n c"]:
        """Images -> logits."""
        return self.linear(self.features(x)[-1])


class DownV2(nn.Module):
    """Halves the size: the whole input goes through both branches, half the channels come from each."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1, self.bn1 = conv(inputs, inputs, stride=2, groups=inputs), nn.BatchNorm2d(inputs)
        self.conv2, self.bn2 = conv(inputs, half, 1), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv(inputs, half, 1), nn.BatchNorm2d(half)
        self.conv4, self.bn4 = conv(half, half, stride=2, groups=half), nn.BatchNorm2d(half)
        self.conv5, self.bn5 = conv(half, half, 1), nn.BatchNorm2d(half)

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """The short branch first, then shuffled."""
        short = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))), inplace=True)
        long = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(x)), inplace=True)))
        long = F.relu(self.bn5(self.conv5(long)), inplace=True)
        return shuffle(torch.cat([short, long], 1), 2)


class BlockV2(nn.Module):
    """The first half of the channels passes unchanged, the second through 1 x 1, 3 x 3 per channel and 1 x 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = conv(half, half, 1), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = conv(half, half, groups=half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv(half, half, 1), nn.BatchNorm2d(half)

    def forward(self, x: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n ch h w"]:
        """Shuffled at the end."""
        kept, changed = x.chunk(2, 1)
        out = F.relu(self.bn1(self.conv1(changed)), inplace=True)
        out = F.relu(self.bn3(self.conv3(self.bn2(self.conv2(out)))), inplace=True)
        return shuffle(torch.cat([kept, out], 1), 2)


class ShuffleNetV2(nn.Module):
    """1 x 1 stem, three stages at sizes 16, 8 and 4, and a 1 x 1 convolution to 1024 channels.

    Args:
        num_classes: number of logits.

    Source: arXiv 1807.11164 (1x).

    Example:
        >>> import torch
        >>> net = ShuffleNetV2(num_classes=100)
        >>> net(torch.zeros(2, 3, 32, 32)).shape, [t.shape[1] for t in net.features(torch.zeros(2, 3, 32, 32))]
        (torch.Size([2, 100]), [24, 116, 232, 464, 1024, 1024])
    """

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(3, STEM, 1), nn.BatchNorm2d(STEM)
        inputs = STEM
        for i, (outputs, blocks) in enumerate(STAGES_V2, start=1):
            rest = (BlockV2(outputs) for _ in range(blocks - 1))
            self.add_module(f"layer{i}", nn.Sequential(DownV2(inputs, outputs), *rest))
            inputs = outputs
        self.conv2, self.bn2 = conv(inputs, LAST_V2, 1), nn.BatchNorm2d(LAST_V2)
        self.linear = nn.Linear(LAST_V2, num_classes)

    def features(self, x: Float[Tensor, "n ch h w"]) -> list[Tensor]:
        """Stem, three stages, the last map, pooled vector."""
        taps = [F.relu(self.bn1(self.conv1(x)), inplace=True)]
        for i in (1, 2, 3):
            taps.append(self.get_submodule(f"layer{i}")(taps[-1]))
        last = F.relu(self.bn2(self.conv2(taps[-1])), inplace=True)
        return [*taps, last, pool(last)]

    def forward(self, x: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n c"]:
        """Images -> logits."""
        return self.linear(self.features(x)[-1])
