"""Weights of detectors that know COCO's categories, for sets with some of them: rows of the head are picked by name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoints import load_checkpoint

HEAD = ("cls_score", "bbox_pred")
SIDES = 4
NONE = "N/A"  # an id of COCO that names nothing


def of_coco(net: nn.Module, path: str | Path, classes: Sequence[str]) -> bool:
    """Fill a detector from a file whose head knows all of COCO's ids, as torchvision's checkpoints do (91 numbers).

    Of that head the background and the categories that ``classes`` names are taken, in their order, so that every
    region gets the logits and offsets of the file's network for them.

    Args:
        net: Faster R-CNN for the categories of ``classes`` and the background; unchanged where nothing is loaded.
        path: file of weights, which fit but for the head.
        classes: names of the categories.

    Returns:
        Whether it was filled; not if a category is none of COCO's, or the head is another one.

    Raises:
        ValueError: the file does not fit in more than its head.
    """
    predictor: Any = getattr(getattr(net, "roi_heads", None), "box_predictor", None)
    if predictor is None or not classes:  # no detector, whose names come with torchvision
        return False
    there = coco_names()
    if not set(classes) <= set(there[1:]) - {NONE}:
        return False
    rows = torch.tensor([0, *(there.index(name) for name in classes)])
    own = {name: getattr(predictor, name) for name in HEAD}
    wide = {name: nn.Linear(own[name].in_features, width) for name, width in zip(HEAD, _widths(there), strict=True)}
    for name, layer in wide.items():
        setattr(predictor, name, layer)
    try:
        load_checkpoint(net, path)
    finally:
        for name, layer in own.items():
            setattr(predictor, name, layer)
    with torch.no_grad():
        for name, count in zip(HEAD, (1, SIDES), strict=True):
            for key in ("weight", "bias"):
                full = getattr(wide[name], key)
                picked = full.view(len(there), count, *full.shape[1:])[rows].flatten(0, 1)
                getattr(own[name], key).copy_(picked)
    return True


def _widths(names: Sequence[str]) -> tuple[int, int]:
    return len(names), SIDES * len(names)


def coco_names() -> list[str]:
    """COCO's categories by id, the background first; ``"N/A"`` where an id names nothing."""
    weights: Any = importlib.import_module("torchvision.models.detection").FasterRCNN_ResNet50_FPN_Weights
    found: list[str] = weights.COCO_V1.meta["categories"]
    return found
