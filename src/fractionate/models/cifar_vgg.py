"""VGG networks with batch norm for 32 x 32 images: vgg8, vgg11, vgg13, vgg16, vgg19."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from .._typing import Float
from .cifar_parts import he_normal, pool, small_linear

# Convolutions in each of the five blocks.
DEPTHS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
LAST_SIZE = 4


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
            if 1 <= i < 4 or (i == 4 and min(x.shape[2:]) > LAST_SIZE):
                x = F.max_pool2d(x, 2)
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
