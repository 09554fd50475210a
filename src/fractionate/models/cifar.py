"""The networks on which CIFAR-100 distillation is compared, laid out as the published checkpoints are."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from .mobile import MobileNetV2, ShuffleNetV1, ShuffleNetV2
from .plain import VGG
from .residual import NARROW, WIDE, Basic, Bottleneck, DeepResNet, ResNet, WideResNet

# Every name takes the number of classes.
CIFAR: dict[str, Callable[[int], nn.Module]] = {
    "resnet8": lambda c: ResNet(8, NARROW, num_classes=c),
    "resnet14": lambda c: ResNet(14, NARROW, num_classes=c),
    "resnet20": lambda c: ResNet(20, NARROW, num_classes=c),
    "resnet32": lambda c: ResNet(32, NARROW, num_classes=c),
    "resnet44": lambda c: ResNet(44, NARROW, num_classes=c),
    "resnet56": lambda c: ResNet(56, NARROW, num_classes=c),
    "resnet110": lambda c: ResNet(110, NARROW, num_classes=c),
    "resnet8x4": lambda c: ResNet(8, WIDE, num_classes=c),
    "resnet32x4": lambda c: ResNet(32, WIDE, num_classes=c),
    "wrn_16_1": lambda c: WideResNet(16, 1, num_classes=c),
    "wrn_16_2": lambda c: WideResNet(16, 2, num_classes=c),
    "wrn_40_1": lambda c: WideResNet(40, 1, num_classes=c),
    "wrn_40_2": lambda c: WideResNet(40, 2, num_classes=c),
    "vgg8": lambda c: VGG(8, num_classes=c),
    "vgg11": lambda c: VGG(11, num_classes=c),
    "vgg13": lambda c: VGG(13, num_classes=c),
    "vgg16": lambda c: VGG(16, num_classes=c),
    "vgg19": lambda c: VGG(19, num_classes=c),
    "mobilenet_v2": lambda c: MobileNetV2(num_classes=c),
    "shufflenet_v1": lambda c: ShuffleNetV1(num_classes=c),
    "shufflenet_v2": lambda c: ShuffleNetV2(num_classes=c),
    "resnet18": lambda c: DeepResNet(Basic, (2, 2, 2, 2), num_classes=c),
    "resnet50": lambda c: DeepResNet(Bottleneck, (3, 4, 6, 3), num_classes=c),
}

# Published spelling -> name here.
ALIASES: dict[str, str] = {
    "MobileNetV2": "mobilenet_v2",
    "mobile_half": "mobilenet_v2",
    "ShuffleV1": "shufflenet_v1",
    "ShuffleV2": "shufflenet_v2",
    "ResNet18": "resnet18",
    "ResNet50": "resnet50",
}
