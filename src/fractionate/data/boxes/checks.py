"""Boxes in another form than COCO's: corners or shares of the image are numbers too, and would train a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...pictures.heads import printable
from ..dense.reading import Place, name

BEYOND = 1.5  # pixels: rounding may put an edge so far outside of its image
MOST, FEW = 0.2, 2  # which part of the boxes may reach farther, as those of people at the edge do; and how many always
WANTED = "a bbox must be [left, top, width, height] in pixels"


def check_boxes(file: Place, annotations: Sequence[Mapping[str, Any]], sizes: Mapping[Any, tuple[int, int]]) -> None:
    """Refuse boxes that are hardly [left, top, width, height] in pixels.

    Args:
        file: of messages.
        annotations: each with a bbox of four numbers, and an image.
        sizes: height and width of the images.

    Raises:
        ValueError: all numbers are at most 1, or many boxes reach beyond their images.
    """
    if 0 < max((max(map(abs, one["bbox"])) for one in annotations), default=0) <= 1:
        raise ValueError(
            f"{name(file)}: no bbox of {len(annotations)} has a number above 1, so they seem to be shares of the "
            f"image: {WANTED}; multiply them by the image's width and height (and YOLO's begin with the centre)"
        )
    beyond = [one for one in annotations if _reaches_out(one["bbox"], *sizes[one["image_id"]])]
    if len(beyond) <= max(FEW, MOST * len(annotations)):
        return
    first, corners = beyond[0], all(x <= right and y <= low for x, y, right, low in (a["bbox"] for a in annotations))
    height, width = sizes[first["image_id"]]
    told = "; these seem to be [left, top, right, bottom]: take left and top off the other two" if corners else ""
    raise ValueError(
        f"{name(file)}: {len(beyond)} of {len(annotations)} boxes reach beyond their images, as that of annotation "
        f"{printable(first.get('id'))}, {printable(first['bbox'])} in {width} x {height} pixels: {WANTED}{told}"
    )


def _reaches_out(box: Sequence[float], height: int, width: int) -> bool:
    left, top, across, down = box
    return min(left, top) < -BEYOND or left + across > width + BEYOND or top + down > height + BEYOND
