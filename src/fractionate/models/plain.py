"""Plain convolutional networks, for digits and for 32 x 32 images, and the parts that all CIFAR networks share.

Every network here has ``forward(x)`` -> logits and ``features(x)`` -> taps: the output of every stage in order, the map
that is pooled, and last the pooled vector that enters the classifier. All of them take images of any size from
32 x 32 on.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, fx, nn

from .._typing import Float


def conv(inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, padded so that stride 1 keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)


def pool(x: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n ch"]:
    """Mean over all positions."""
    return x.mean((2, 3))


def he_normal(net: nn.Module) -> None:
    """Convolutions from N(0, 2 / (outputs k^2)), their biases 0; batch norm starts at 1 and 0 anyway.

    Source: arXiv 1502.01852, with the number of outputs as in arXiv 1512.03385.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def small_linear(layer: nn.Linear) -> nn.Linear:
    """A classifier that starts near zero: weights from N(0, 0.01^2), bias 0."""
    nn.init.normal_(layer.weight, 0.0, 0.01)
    nn.init.zeros_(layer.bias)
    return layer


class ConvNet(nn.Module):
    """3 x 3 convolutions with batch norm and ReLU, average pooling, and one linear classifier.

    Args:
        widths: channels of every convolution.
        strides: stride of every convolution.
        num_classes: number of logits.
        channels: channels of the images.
        pool: the last map is pooled to pool x pool; 1 is global average pooling.

    Example:
        >>> import torch
        >>> net = ConvNet((8, 16), (2, 2), num_classes=10)
        >>> net(torch.zeros(5, 1, 8, 8)).shape, [f.shape[1] for f in net.features(torch.zeros(5, 1, 8, 8))]
        (torch.Size([5, 10]), [8, 16])
    """

    def __init__(
        self, widths: tuple[int, ...], strides: tuple[int, ...], *, num_classes: int, channels: int = 1, pool: int = 2
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for width, stride in zip(widths, strides, strict=True):
            conv = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
            self.blocks.append(nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU()))
            channels = width
        self.pool = nn.AdaptiveAvgPool2d(pool)
        self.fc = nn.Linear(pool * pool * channels, num_classes)

    def features(self, x: Float[Tensor, "n ch h w"]) -> list[Tensor]:
        """The output of every block."""
        taps = []
        for block in self.blocks:
            x = block(x)
            taps.append(x)
        return taps

    def forward(self, x: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n c"]:
        """Images -> logits."""
        return self.fc(self.pool(self.features(x)[-1]).flatten(1))


# Convolutions in each of the five blocks.
DEPTHS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
LAST_SIZE = 4


def halved_to_last(x: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n ch h2 w2"]:
    """Maxima of 2 x 2 where the map is larger than 4 x 4."""
    return F.max_pool2d(x, 2) if min(x.shape[2:]) > LAST_SIZE else x


fx.wrap("halved_to_last")  # one step of a trace: it looks at the size


class VGG(nn.Module):
    """Five blocks of 3 x 3 convolutions (with bias), batch norm and ReLU; 2 x 2 maxima between them.

    The maximum after the fourth block is taken only where the map is larger than 4 x 4 (images of 64 x 64).

    Args:
        depth: 8, 11, 13, 16 or 19.
        num_classes: number of logits.

    Raises:
        ValueError: another depth.

    Source: arXiv 1409.1556; the CIFAR form is that of the distillation literature.

    Example:
        >>> import torch
        >>> net = VGG(8, num_classes=100)
        >>> net(torch.zeros(2, 3, 32, 32)).shape, [t.shape[1] for t in net.features(torch.zeros(2, 3, 32, 32))]
        (torch.Size([2, 100]), [64, 128, 256, 512, 512, 512])
    """

    def __init__(self, depth: int, *, num_classes: int) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"VGG: depth is one of {list(DEPTHS)}, got {depth}")
        for i, (inputs, outputs) in enumerate(pairwise((3, *WIDTHS))):
            self.add_module(f"block{i}", _block(inputs, outputs, DEPTHS[depth][i]))
        self.classifier = nn.Linear(WIDTHS[-1], num_classes)
        he_normal(self)
        small_linear(self.classifier)

    def features(self, x: Float[Tensor, "n ch h w"]) -> list[Tensor]:
        """Five blocks (before the maxima), pooled vector."""
        taps: list[Tensor] = []
        for i in range(len(WIDTHS)):
            if i:
                x = F.max_pool2d(x, 2) if i < 4 else halved_to_last(x)
            x = F.relu(self.get_submodule(f"block{i}")(x), inplace=True)
            taps.append(x)
        return [*taps, pool(x)]

    def forward(self, x: Float[Tensor, "n ch h w"]) -> Float[Tensor, "n c"]:
        """Images -> logits."""
        return self.classifier(self.features(x)[-1])


def _block(inputs: int, outputs: int, convolutions: int) -> nn.Sequential:
    """Convolution, norm, ReLU in a row; the last ReLU is the caller's, so that the layout ends with a norm."""
    layers: list[nn.Module] = []
    for i in range(convolutions):
        layers += [nn.Conv2d(outputs if i else inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])
