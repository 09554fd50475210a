"""Plain convolutional networks for tiny grey images such as 8 x 8 digits."""

from __future__ import annotations

from torch import Tensor, nn

from .._typing import Float


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
