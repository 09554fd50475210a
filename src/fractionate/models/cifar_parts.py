"""What the CIFAR networks share: a convolution that keeps the size, pooling, and initial weights.

Every network here has ``forward(x)`` -> logits and ``features(x)`` -> taps: the output of every stage in order, the map
that is pooled, and last the pooled vector that enters the classifier. All of them take images of any size from
32 x 32 on.
"""

from __future__ import annotations

from torch import Tensor, nn

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
