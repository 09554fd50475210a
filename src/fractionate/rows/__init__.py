"""Rows: the unit of every loss. An image, a valid pixel, a region, an anchor, a side of a box and a token are all rows.

This room is the only place that flattens logits and drops ignored positions.
"""

from .boxes import anchors, sides
from .checks import can_look
from .layouts import images, rois, tokens
from .logits import Logits, blame, with_logits, with_weight
from .maps import Corners, Labels, fitted_maps, pixels
from .reduce import Progress, chunked, chunks, weighted_mean

__all__ = [
    "Corners",
    "Labels",
    "Logits",
    "Progress",
    "anchors",
    "blame",
    "can_look",
    "chunked",
    "chunks",
    "fitted_maps",
    "images",
    "pixels",
    "rois",
    "sides",
    "tokens",
    "weighted_mean",
    "with_logits",
    "with_weight",
]
