"""Rows: the unit of every loss. An image, a valid pixel, a region, an anchor, a side of a box and a token are all rows.

This room is the only place that flattens logits and drops ignored positions.
"""

from .boxes import anchors, sides
from .checks import blame, can_look
from .layouts import images, pixels, rois, tokens
from .logits import Logits, with_logits, with_weight
from .reduce import Progress, chunked, chunks, weighted_mean

__all__ = [
    "Logits",
    "Progress",
    "anchors",
    "blame",
    "can_look",
    "chunked",
    "chunks",
    "images",
    "pixels",
    "rois",
    "sides",
    "tokens",
    "weighted_mean",
    "with_logits",
    "with_weight",
]
