"""Small sets in COCO's format: coloured rectangles on a grey ground, their colour says the category."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IDS = (1, 3, 90)  # with gaps
NAMES = ("red", "green", "blue")


def picture(seed: int, side: int = 48, most: int = 3) -> tuple[np.ndarray, list[tuple[int, list[float]]]]:
    """An image, and the place of the category in :data:`IDS` with the box of every rectangle."""
    rng = np.random.default_rng(seed)
    image = rng.integers(80, 150, (side, side + 16, 3)).astype(np.uint8)
    found = []
    for _ in range(int(rng.integers(1, most + 1))):
        kind, width, height = int(rng.integers(3)), int(rng.integers(10, 24)), int(rng.integers(10, 24))
        left, top = int(rng.integers(0, side + 16 - width)), int(rng.integers(0, side - height))
        image[top : top + height, left : left + width] = 30
        image[top : top + height, left : left + width, kind] = 230
        found.append((kind, [left, top, width, height]))
    return image, found


def coco(root: Path, train: int = 8, val: int = 4, change: Any = None) -> Path:
    """``annotations/instances_{train,val}2017.json`` and ``train2017``, ``val2017``; the last of each has no box.

    Args:
        root: written to.
        train, val: images of each part.
        change: function of a part's name and its annotations, as they are before they are written.
    """
    for part, count, first in (("train2017", train, 0), ("val2017", val, 1000)):
        (root / part).mkdir(parents=True)
        said: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        said["categories"] = [{"id": i, "name": n} for i, n in zip(IDS, NAMES, strict=True)]
        for i in range(count):
            image, boxes = picture(first + i)
            name = f"{first + i:012d}.png"
            Image.fromarray(image).save(root / part / name)
            said["images"].append(
                {"id": first + i, "file_name": name, "height": image.shape[0], "width": image.shape[1]}
            )
            for kind, box in boxes if i < count - 1 else ():
                one = {"id": len(said["annotations"]) + 1, "image_id": first + i, "category_id": IDS[kind]}
                said["annotations"].append({**one, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
        if change is not None:
            change(part, said)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(said))
    return root
