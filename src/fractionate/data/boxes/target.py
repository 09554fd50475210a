"""Boxes of a batch as one tensor, so that a batch with boxes is divided, sent and kept as any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..._typing import Float, Int

FRAME, PADDING = -1.0, 0.0  # in the place of a label: what is known of the image; nothing
COLUMNS = 7
DRAWS = 1 << 24  # numbers that float32 holds exactly


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of one image.

    Args:
        boxes: ``[k, 4]`` left, top, right, bottom in pixels of the image as it is shown.
        labels: ``[k]`` int64, from 1; 0 is the background, as in torchvision.
        area: ``[k]`` of the objects, in pixels of the file.
        crowd: ``[k]`` whether a box holds a crowd: neither trained on nor missed.
        size: height and width of the image, without the padding of its batch.
        factor: pixels of the file per pixel shown.
        draw: number from which everything is drawn that chance decides about this image in this epoch.
    """

    boxes: Float[Tensor, "k 4"]
    labels: Int[Tensor, " k"]
    area: Float[Tensor, " k"]
    crowd: Tensor
    size: tuple[int, int]
    factor: float = 1.0
    draw: int = 0

    @property
    def trained(self) -> tuple[Float[Tensor, "j 4"], Int[Tensor, " j"]]:
        """Boxes and labels without those of crowds."""
        return self.boxes[~self.crowd], self.labels[~self.crowd]


def packed(images: Sequence[Known]) -> Float[Tensor, "n m 7"]:
    """One tensor: a line about every image, then a line for each of its boxes, filled up with lines of zeros.

    Example:
        >>> one = Known(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([7]), torch.ones(1), torch.tensor([False]),
        ...             size=(8, 9), draw=5)
        >>> packed([one]).shape, unpacked(packed([one]))[0].labels, unpacked(packed([one]))[0].size
        (torch.Size([1, 2, 7]), tensor([7]), (8, 9))
    """
    table = torch.zeros(len(images), 1 + max((len(x.labels) for x in images), default=0), COLUMNS)
    for line, x in zip(table, images, strict=True):
        height, width = x.size
        line[0] = torch.tensor([FRAME, 0.0, 0.0, width, height, x.factor, x.draw % DRAWS])
        columns = [x.labels.float()[:, None], x.boxes, x.area[:, None], x.crowd.float()[:, None]]
        line[1 : 1 + len(x.labels)] = torch.cat(columns, 1)
    return table


def unpacked(target: Tensor) -> list[Known]:
    """What :func:`packed` has put together.

    Raises:
        ValueError: another tensor.
    """
    if target.ndim != 3 or target.shape[2] != COLUMNS or not bool((target[:, 0, 0] == FRAME).all()):
        raise ValueError(
            f"a batch with boxes has the target [images, 1 + boxes, {COLUMNS}] of fractionate.data.boxes.packed, got "
            f"{list(target.shape)}"
        )
    found = []
    frames = target[:, 0].tolist()
    for lines, (_, _, _, width, height, factor, draw) in zip(target, frames, strict=True):
        there = lines[lines[:, 0] > PADDING]
        labels, boxes, area, crowd = there[:, 0].long(), there[:, 1:5], there[:, 5], there[:, 6] > 0
        found.append(Known(boxes, labels, area, crowd, (int(height), int(width)), factor, int(draw)))
    return found
