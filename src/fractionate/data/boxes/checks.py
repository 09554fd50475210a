"""What would train a detector and is wrong: boxes in another form than COCO's, and images or boxes listed twice."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
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


def tell_repeated(file: Place, files: Mapping[Any, str], annotations: Sequence[Mapping[str, Any]]) -> None:
    """Say how many images are listed under a second id, and how many boxes are there twice.

    Args:
        file: of messages.
        files: names of the images' files, by id.
        annotations: each with an image, a category and a bbox.

    Warns:
        UserWarning: there are some.
    """
    if again := _repeated((said, known) for known, said in files.items()):
        single, (picture, first, second) = len(again) == 1, again[0]
        warnings.warn(
            f"{name(file)}: {len(again)} image{' is' if single else 's are'} listed a second time, as "
            f"{printable(picture)} with the ids {printable(first)} and {printable(second)}, and count{'s' * single} "
            f"twice; keep one of each",
            stacklevel=2,
        )
    # By what they say: annotations that were copied may have one id, or none.
    boxes = (((one["image_id"], one["category_id"], *one["bbox"]), None) for one in annotations)
    if again := _repeated(boxes):
        single, ((image, _, *box), *_) = len(again) == 1, again[0]
        warnings.warn(
            f"{name(file)}: {len(again)} {'box repeats' if single else 'boxes repeat'} another one of the same image "
            f"and category, as {box} in {printable(files[image])}, and count{'s' * single} as one more object; keep "
            f"one of each",
            stacklevel=2,
        )


def _repeated(listed: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any, Any]]:
    """What is there already, with the id that was the first to name it, and the one that does so again."""
    seen: dict[Any, Any] = {}
    again = []
    for what, known in listed:
        if what in seen:
            again.append((what, seen[what], known))
        else:
            seen[what] = known
    return again


def _reaches_out(box: Sequence[float], height: int, width: int) -> bool:
    left, top, across, down = box
    return min(left, top) < -BEYOND or left + across > width + BEYOND or top + down > height + BEYOND
