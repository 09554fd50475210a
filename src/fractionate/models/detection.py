"""Detectors of two stages: those of torchvision by name, Faster R-CNN on other backbones, and their parts in use."""

from __future__ import annotations

import importlib
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from .._choices import unknown
from .._typing import Float
from .foreign import described
from .handled import name_of
from .preprocessing import shown_of

PREFIX = "fasterrcnn-"
CHANNELS, PROPOSALS, ANCHORS, WIDTH = 256, 0, 32, 4  # of the FPN; 0 = torchvision's; smallest anchor; head / channels
OPTIONS = {"fpn": CHANNELS, "proposals": PROPOSALS, "anchors": ANCHORS}
STRIDES = (4, 8, 16, 32)
PARTS = ("backbone", "rpn", "roi_heads")
EXTRA = "fractionate[detection]"


def faster_rcnn(name: str, num_classes: int, pretrained: bool) -> nn.Module:
    """Faster R-CNN with an FPN on a backbone of torchvision.

    Args:
        name: ``fasterrcnn-BACKBONE``, a residual or a mobile network of torchvision (``resnet18``, ``resnet101``,
            ``mobilenet_v3_small``); ``+fpn64`` sets the channels of the FPN (256; the head has four times as many),
            ``+proposals100`` the number of proposals per image (torchvision's: 2,000 and 1,000), ``+anchors8`` the
            side of the smallest anchors in pixels (32), which doubles from level to level.
        num_classes: number of categories; the background is a further class, the first.
        pretrained: start from the library's ImageNet weights of the backbone, its batch norms frozen.

    Raises:
        ValueError: an unknown backbone or option.
        ImportError: torchvision is not installed.
    """
    backbone, *written = name.removeprefix(PREFIX).split("+")
    models = _torchvision(name)
    known = [n for n in models.list_models(module=models) if n.startswith(("resnet", "mobilenet"))]
    if backbone not in known:
        raise ValueError(unknown(f"backbone of {PREFIX}BACKBONE", backbone, known))
    options = dict(OPTIONS)
    for word in written:
        found = re.fullmatch(r"([a-z]+)([1-9]\d{0,4})", word)
        if found is None or found[1] not in options:
            raise ValueError(f"{name}: expected +fpnN, +proposalsN or +anchorsN after the backbone, got +{word}")
        options[found[1]] = int(found[2])
    return _built(models, backbone, num_classes, pretrained, options)


def _torchvision(name: str) -> ModuleType:
    try:
        return importlib.import_module("torchvision.models")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "torchvision":
            raise
        raise ImportError(f"model {name!r} needs the package 'torchvision': pip install '{EXTRA}'") from error


def _built(
    models: ModuleType, backbone: str, num_classes: int, pretrained: bool, options: Mapping[str, int]
) -> nn.Module:
    detection = models.detection
    channels, count = options["fpn"], options["proposals"]
    frozen = {"norm_layer": importlib.import_module("torchvision.ops").FrozenBatchNorm2d} if pretrained else {}
    body = models.get_model(backbone, weights="DEFAULT" if pretrained else None, **frozen)
    layers, widths = _levels(body)
    trunk = body if hasattr(body, "layer1") else body.features
    pyramid = detection.backbone_utils.BackboneWithFPN(
        trunk, {at: str(i) for i, at in enumerate(layers)}, widths, channels
    )
    sides = [(options["anchors"] * 2**i,) for i in range(len(layers) + 1)]
    anchors = detection.anchor_utils.AnchorGenerator(tuple(sides), ((0.5, 1.0, 2.0),) * len(sides))
    wide, pooled = WIDTH * channels, 7
    few: dict[str, int] = {}
    if count:
        after = dict.fromkeys(("rpn_post_nms_top_n_train", "rpn_post_nms_top_n_test"), count)
        before = dict.fromkeys(("rpn_pre_nms_top_n_train", "rpn_pre_nms_top_n_test"), 2 * count)
        few = {**after, **before}
    net = detection.FasterRCNN(
        pyramid,
        rpn_anchor_generator=anchors,
        box_head=detection.faster_rcnn.TwoMLPHead(channels * pooled**2, wide),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(wide, num_classes + 1),
        **few,
    )
    return _as_shown(detection, net)


def _levels(body: nn.Module) -> tuple[list[str], list[int]]:
    """Names of the last layers of every stride of :data:`STRIDES`, and their channels."""
    if hasattr(body, "layer1"):
        names = ["layer1", "layer2", "layer3", "layer4"]
        last = [list(body.get_submodule(n).modules()) for n in names]
        found = [next(m for m in reversed(x) if type(m).__name__.endswith("Norm2d")) for x in last]
        return names, [int(norm.weight.shape[0]) for norm in found]  # type: ignore[index]
    side, levels = 64, dict[int, tuple[str, int]]()
    x = torch.zeros(1, 3, side, side)
    training = body.training
    with torch.no_grad():
        for at, layer in body.eval().features.named_children():  # type: ignore[union-attr]
            x = layer(x)
            levels[side // x.shape[2]] = (at, x.shape[1])
    body.train(training)
    return [levels[s][0] for s in STRIDES], [levels[s][1] for s in STRIDES]


def torchvision_detector(models: ModuleType, name: str, num_classes: int, pretrained: bool) -> nn.Module | None:
    """A Faster R-CNN of torchvision; ``None`` where it has none of that name.

    Args:
        models: ``torchvision.models``.
        name: such as ``"fasterrcnn_resnet50_fpn"``.
        num_classes: number of categories; the background is a further class, the first.
        pretrained: start from the library's ImageNet weights of the backbone; everything else is new.

    Raises:
        ValueError: a detector of another kind.
    """
    there = models.list_models(module=models.detection)
    if name not in there:
        return None
    if not name.startswith("fasterrcnn"):
        raise ValueError(
            f"torchvision:{name} has no second stage that classifies regions, which this command distils; take one of "
            f"{', '.join(n for n in there if n.startswith('fasterrcnn'))}, or {PREFIX}BACKBONE. A detector of one "
            f"stage is distilled at its positive anchors (fr.rows.anchors) in a loop of your own: docs/dense.md has one"
        )
    weights = {} if pretrained else {"weights_backbone": None}
    return _as_shown(models.detection, models.get_model(name, weights=None, num_classes=num_classes + 1, **weights))


def _as_shown(detection: ModuleType, net: nn.Module) -> nn.Module:
    """It takes images as the data have them: resized and normalised already."""
    transform: Any = detection.transform.GeneralizedRCNNTransform(0, 0, image_mean=[0.0] * 3, image_std=[1.0] * 3)
    transform.resize = _as_it_is
    net.transform = transform
    return net


def _as_it_is(image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
    return image, target


def check_detector(net: nn.Module, what: str = "network") -> nn.Module:
    """Refuse what is not made of a backbone, a network of proposals, and a head over regions, as torchvision's are.

    Raises:
        ValueError: a part is missing.
    """
    missing = [part for part in PARTS if not isinstance(getattr(net, part, None), nn.Module)]
    if missing:
        raise ValueError(
            f"the {what} {name_of(net)} is no detector of two stages as torchvision builds them (it has no "
            f"{', '.join(missing)}): name torchvision:fasterrcnn_..., {PREFIX}resnet18, or a function that returns a "
            f"torchvision.models.detection.FasterRCNN"
        )
    return net


Features = Mapping[str, Tensor]
Sizes = list[tuple[int, int]]


def features_of(net: nn.Module, images: Float[Tensor, "n ch h w"]) -> Features:
    """Feature maps of the backbone by level."""
    how = shown_of(net)
    found: Any = net.backbone(how.pixels(images) if how else images)  # type: ignore[operator]
    return OrderedDict([("0", found)]) if isinstance(found, Tensor) else found


def classified(
    net: nn.Module, features: Features, boxes: Sequence[Float[Tensor, "_ 4"]], images: Float[Tensor, "n ch h w"]
) -> tuple[Float[Tensor, "r c"], Float[Tensor, "r d"]]:
    """Class logits and box offsets that the head gives regions, those of all images one after the other."""
    heads: Any = net.roi_heads
    pool = heads.box_roi_pool
    if getattr(pool, "scales", None) is not None:  # torchvision keeps those of its first call, whatever that was given
        pool.scales = None
    canvas = [tuple(images.shape[2:])] * len(boxes)  # images without their padding would give other scales
    logits, offsets = heads.box_predictor(heads.box_head(pool(features, list(boxes), canvas)))
    return logits, offsets


def anchors_of(net: nn.Module, images: Tensor, sizes: Sizes, features: Features, like: torch.dtype) -> list[Tensor]:
    """Anchors of every image, as precise as ``like``: those in half precision would lie beside their places."""
    rpn: Any = net.rpn
    held = importlib.import_module("torchvision.models.detection.image_list").ImageList(images, sizes)
    shapes = [torch.zeros((), dtype=like, device=x.device).expand(x.shape) for x in features.values()]
    found: list[Tensor] = rpn.anchor_generator(held, shapes)
    return found


@dataclass(frozen=True, eq=False)
class Proposed:
    """What the first stage says.

    Args:
        boxes: proposals of every image, best first, without gradient.
        objectness: ``[n, a]`` logits of all anchors.
        offsets: ``[n, a, 4]`` of the anchors.
        anchors: ``[a, 4]`` of every image.
    """

    boxes: list[Tensor]
    objectness: Tensor
    offsets: Tensor
    anchors: list[Tensor]


def proposed(net: nn.Module, images: Tensor, sizes: Sizes, features: Features) -> Proposed:
    """Run the first stage; arithmetic on boxes in float32 at least."""
    rpn: Any = net.rpn
    flat = importlib.import_module("torchvision.models.detection.rpn").concat_box_prediction_layers
    said, moved = rpn.head(list(features.values()))
    counts = [x[0].numel() for x in said]
    said, moved = (x if x.dtype == torch.float64 else x.float() for x in flat(said, moved))
    anchors = anchors_of(net, images, sizes, features, said.dtype)
    with torch.no_grad():
        boxes = rpn.box_coder.decode(moved.detach(), anchors).view(len(anchors), -1, 4)
        kept, _ = rpn.filter_proposals(boxes, said.detach(), sizes, counts)
    return Proposed(kept, said.view(len(anchors), -1), moved.view(len(anchors), -1, 4), anchors)


@torch.no_grad()
def detected(net: nn.Module, images: Float[Tensor, "n ch h w"], sizes: Sizes) -> list[dict[str, Tensor]]:
    """Boxes, labels (from 1) and scores of every image, best first, and ``finite``: whether all numbers were.

    Args:
        net: detector, in evaluation mode.
        images: of one size; what is beyond ``sizes`` is padding.
        sizes: height and width of every image.
    """
    heads: Any = check_detector(net).roi_heads
    features = features_of(net, images)
    boxes = proposed(net, images, sizes, features).boxes
    logits, offsets = (x if x.dtype == torch.float64 else x.float() for x in classified(net, features, boxes, images))
    sound = torch.stack([x.flatten(1).isfinite().all(1) for x in features.values()]).all(0)
    counts = [len(b) for b in boxes]
    fine = [bool(s & x.isfinite().all()) for s, x in zip(sound, logits.split(counts), strict=True)]
    found = heads.postprocess_detections(logits, offsets, boxes, sizes)
    return [
        {"boxes": b, "scores": s, "labels": y, "finite": torch.tensor(f)}
        for b, s, y, f in zip(*found, fine, strict=True)
    ]


def whole_logits(net: nn.Module, images: Float[Tensor, "n ch h w"], what: str = "network") -> Float[Tensor, "n c"]:
    """Logits of the categories (not of the background) for every whole image as one region.

    By them networks are compared and their classes counted; errors as :func:`check_detector`.
    """
    features = features_of(check_detector(net, what), images)
    height, width = images.shape[2:]
    box = torch.tensor([[0.0, 0.0, width, height]], dtype=next(iter(features.values())).dtype, device=images.device)
    return classified(net, features, [box] * len(images), images)[0][:, 1:]


def are_detections(output: Any) -> bool:
    """Whether a network returned boxes of every image, as torchvision's detectors do.

    Example:
        >>> are_detections([{"boxes": torch.zeros(0, 4)}]), are_detections(torch.zeros(1, 3))
        (True, False)
    """
    return isinstance(output, list) and all(isinstance(x, dict) and "boxes" in x for x in output)


def numbers_of(output: Any) -> Float[Tensor, "k 6"]:
    """Boxes, labels and scores of all images as one table, to compare two networks by."""
    if not are_detections(output):
        raise ValueError(f"expected boxes of every image, got {described(output)}")
    parts = [
        torch.cat([x["boxes"].double(), x["labels"][:, None].double(), x["scores"][:, None].double()], 1)
        for x in output
    ]
    return torch.cat(parts) if parts else torch.zeros(0, 6)
