"""Detectors without batch norms, small enough for tests."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign


class Trunk(nn.Module):
    """Two levels, at a quarter and an eighth of a side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 5, 2, 2), nn.ReLU(), nn.Conv2d(channels, channels, 3, 2, 1))
        self.deeper = nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        first = self.stem(images).relu()
        return OrderedDict([("0", first), ("1", self.deeper(first).relu())])


def detector(num_classes: int, channels: int = 12, regions: int = 24) -> nn.Module:
    sides = ((8, 16), (24, 32))
    return FasterRCNN(
        Trunk(channels),
        rpn_anchor_generator=AnchorGenerator(sides, ((1.0,),) * 2),
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], 3, 2),
        box_head=TwoMLPHead(channels * 9, 24),
        box_predictor=FastRCNNPredictor(24, num_classes + 1),
        rpn_post_nms_top_n_train=20,
        rpn_post_nms_top_n_test=20,
        rpn_batch_size_per_image=32,
        box_batch_size_per_image=regions,
    )


def small(num_classes: int) -> nn.Module:
    return detector(num_classes)


def larger(num_classes: int) -> nn.Module:
    return detector(num_classes, channels=16)


def flat(num_classes: int) -> nn.Module:
    """No detector."""
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))


def one_stage(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, num_classes, 1))
