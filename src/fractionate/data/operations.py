"""One operation per image of a batch: the choice is made on the CPU, images of one operation are treated together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .._typing import Float, Int
from .device import sent

# [n, ch, h, w] uint8 images and [n] float64 levels on the CPU -> images; see ``tones`` and ``places``
Operation = Callable[[Tensor, Tensor], Tensor]


def apply(
    operations: Sequence[Operation], images: Tensor, which: Int[Tensor, " n"], level: Float[Tensor, " n"]
) -> Tensor:
    """One operation per image.

    Args:
        operations: to choose from.
        images: ``[n, ch, h, w]`` uint8.
        which: position of every image's operation, on the CPU.
        level: float64, on the CPU.

    Example:
        >>> from fractionate.data.tones import identity, invert
        >>> images = torch.tensor([10, 20], dtype=torch.uint8).reshape(2, 1, 1, 1)
        >>> which = torch.tensor([1, 0])
        >>> apply([invert, identity], images, which, torch.zeros(2).double()).flatten().tolist()
        [10, 235]
    """
    order = which.argsort(stable=True)
    counts = torch.bincount(which, minlength=len(operations)).tolist()
    groups = images.contiguous().index_select(0, sent(order, images.device)).split(counts)
    levels = level[order].split(counts)
    done = [f(x, v) for f, x, v in zip(operations, groups, levels, strict=True) if len(x)]
    return torch.cat(done).index_select(0, sent(order.argsort(), images.device)) if done else images


def check_images(images: Tensor) -> None:
    """Refuse what no operation can work on."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"augmentation needs uint8 images [n, 1 or 3, h, w], got {images.dtype} {list(images.shape)}")
