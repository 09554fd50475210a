"""What a detector of two stages learns from an image: its anchors' losses, and regions with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._typing import Float, Int
from ..data.boxes import Known
from ..models.detection import Proposed

BETA = 1 / 9  # of the smooth L1 of offsets, as torchvision has it


@dataclass(frozen=True, eq=False)
class Regions:
    """Sampled regions of all images, one image after the other.

    Args:
        boxes: ``[k, 4]`` of every image.
        labels: ``[r]`` of the objects that they were matched with; 0 is the background.
        offsets: ``[r, 4]`` from the regions to these objects, as the head is to say them; 0 for the background.
        image: ``[r]`` place of each one's image in the batch.
    """

    boxes: list[Float[Tensor, "_ 4"]]
    labels: Int[Tensor, " r"]
    offsets: Float[Tensor, "r 4"]
    image: Int[Tensor, " r"]


def balanced(
    labels: Tensor, size: int, share: float, generator: torch.Generator
) -> tuple[Int[Tensor, " p"], Int[Tensor, " q"]]:
    """Places of a sample: at most so large a share with objects, the rest without; others (below 0) never.

    Args:
        labels: 1 and more for objects, 0 for none.
        size: of the whole sample.
        share: of those with objects.
        generator: on the CPU, so that every device draws the same.

    Example:
        >>> labels = torch.tensor([1, 1, 1, 0, 0, -1])
        >>> [len(x) for x in balanced(labels, 4, 0.5, torch.Generator())]
        [2, 2]
    """
    found = []
    left = size
    for places, most in ((labels >= 1, int(size * share)), (labels == 0, size)):
        at = places.nonzero()[:, 0]
        count = min(len(at), most, left)
        found.append(at[torch.randperm(len(at), generator=generator)[:count].to(at.device)])
        left -= count
    return found[0], found[1]


def anchor_losses(
    net: nn.Module, said: Proposed, known: Sequence[Known], generators: Sequence[torch.Generator]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Of every image, the first stage's loss of objectness and that of its boxes, as torchvision has them.

    Mean binary cross-entropy over the sampled anchors; sum of the smooth L1 over those with objects, by their number.
    """
    rpn: Any = net.rpn
    sampler = rpn.fg_bg_sampler
    losses = []
    for i, (one, generator) in enumerate(zip(known, generators, strict=True)):
        anchors, logits = said.anchors[i], said.objectness[i]
        boxes = one.trained[0].to(anchors.dtype)
        labels, wanted = rpn.assign_targets_to_anchors([anchors], [{"boxes": boxes}])
        have, rest = balanced(labels[0], sampler.batch_size_per_image, sampler.positive_fraction, generator)
        both = torch.cat([have, rest])
        sure = F.binary_cross_entropy_with_logits(logits[both], labels[0][both].to(logits.dtype), reduction="sum")
        goals = rpn.box_coder.encode([wanted[0][have].to(anchors.dtype)], [anchors[have]])[0]
        moved = F.smooth_l1_loss(said.offsets[i][have], goals, beta=BETA, reduction="sum")
        losses.append(torch.stack([sure, moved]) / max(1, len(both)))
    table = torch.stack(losses)
    return table[:, 0], table[:, 1]


@torch.no_grad()
def sampled_regions(
    net: nn.Module, proposals: Sequence[Tensor], known: Sequence[Known], generators: Sequence[torch.Generator]
) -> Regions:
    """Of the proposals and the objects themselves a sample per image, at most a quarter of it with objects."""
    heads: Any = net.roi_heads
    sampler = heads.fg_bg_sampler
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for boxes, one, generator in zip(proposals, known, generators, strict=True):
        objects, names = one.trained[0].to(boxes.dtype), one.trained[1]
        boxes = torch.cat([boxes, objects])
        matches, labels = heads.assign_targets_to_proposals([boxes], [objects], [names])
        both = torch.cat(balanced(labels[0], sampler.batch_size_per_image, sampler.positive_fraction, generator))
        both = both.sort().values
        boxes, kind = boxes[both], labels[0][both]
        goals = torch.zeros_like(boxes)
        if bool((real := kind > 0).any()):
            goals[real] = heads.box_coder.encode([objects[matches[0][both][real]]], [boxes[real]])[0]
        found.append((boxes, kind, goals))
    counts = torch.tensor([len(kind) for _, kind, _ in found])
    image = torch.arange(len(found)).repeat_interleave(counts).to(found[0][0].device)
    return Regions(
        [b for b, *_ in found], torch.cat([k for _, k, _ in found]), torch.cat([g for *_, g in found]), image
    )


def offset_losses(offsets: Float[Tensor, "r d"], regions: Regions) -> Float[Tensor, " r"]:
    """Smooth L1 of every region with an object between what the head says for its class and what it is to say."""
    at = torch.arange(len(regions.labels), device=offsets.device)
    own = offsets.view(len(at), offsets.shape[1] // 4, 4)[at, regions.labels]
    rows = F.smooth_l1_loss(own, regions.offsets.to(own.dtype), beta=BETA, reduction="none").sum(1)
    return rows.where(regions.labels > 0, torch.zeros_like(rows))
