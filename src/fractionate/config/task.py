"""What a network is trained for, as a tagged union: classification unless something else is said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .ranges import check_detection, check_segmentation


@dataclass(frozen=True)
class Classification:
    """Telling classes of images apart.

    Args:
        name: ``"classification"``.
    """

    name: Literal["classification"] = field(default="classification", kw_only=True)


@dataclass(frozen=True)
class Segmentation:
    """A class for every pixel: :class:`fractionate.tasks.Segmentation`, whose metric is the mean IoU.

    Args:
        name: ``"segmentation"``.
        logits: at which size student and teacher are compared and the cross-entropy is taken: ``"labels"`` enlarges
            both to the labels' size; ``"head"`` takes the logits before networks enlarge them (an eighth of a side,
            say), with one label for each, and needs a part of the memory.
        labels: with ``"head"``, which label a pixel gets: ``"aligned"``, the nearest one; ``"published"``, up to 7
            pixels off at stride 8, as in the published code.
        auxiliary: weight of the cross-entropy of the student's auxiliary head, as the component ``auxiliary`` in the
            task's stream; 0 = off. Published: 0.4.
        auxiliary_kd: weight of the distillation from the teacher's auxiliary head to the student's: every component of
            the method once more, as ``auxiliary_NAME`` in the stream of ``NAME``; 0 = off. Published: 0.4.
        ignore: pixels with this label are in no loss and no metric. In the data sets of this package those without a
            label, and those beyond the edge of an image, have 255.
        evaluate: ``"whole"`` shows the network a whole image; ``"sliding"`` overlapping windows of the size of the
            training crops, whose probabilities are averaged.
        stride: how far sliding windows lie apart, as a part of their size.
    """

    name: Literal["segmentation"] = field(default="segmentation", kw_only=True)
    logits: Literal["labels", "head"] = "labels"
    labels: Literal["aligned", "published"] = "aligned"
    auxiliary: float = 0.0
    auxiliary_kd: float = 0.0
    ignore: int = 255
    evaluate: Literal["whole", "sliding"] = "whole"
    stride: float = 2 / 3

    def __post_init__(self) -> None:
        check_segmentation(self)


@dataclass(frozen=True)
class Detection:
    """Boxes around objects: :class:`fractionate.tasks.Detection`, whose metric is COCO's average precision.

    Args:
        name: ``"detection"``.
        keep: which of the student's sampled regions are distilled: ``"all"``, or the ``"foreground"``, those that were
            matched with an object. The detector's own losses are those of all regions in either case.
        features: weight of the mean squared difference of both networks' feature maps, as the component ``features`` in
            a stream of its own; 0 = off. Needs as many channels in both.
    """

    name: Literal["detection"] = field(default="detection", kw_only=True)
    keep: Literal["all", "foreground"] = "all"
    features: float = 0.0

    def __post_init__(self) -> None:
        check_detection(self)


TaskConfig = Classification | Segmentation | Detection
