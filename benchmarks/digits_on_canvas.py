"""Real handwritten digits on textured canvases, as a set of boxes in COCO's format; every image follows from the seed.

One to four digits of scikit-learn (8 x 8 pixels, enlarged to sides of 20 to 56) lie on a canvas of low-frequency noise
with lines across it, in colours of their own, and hardly upon each other. A box is the smallest that holds what is seen
of a digit; its category is the digit (ids 1 to 10). Digits of the test images are none of the training images'. Run

    python -m benchmarks.digits_on_canvas DIR [--train 1000] [--test 300] [--seed 0]
    fractionate compare detection-small --data DIR --seeds 3

The second line is the study: an FPN of 64 channels, 100 proposals, 128 pixels, a ResNet-18 as the teacher of a
MobileNetV3-small, labels alone beside KD, DKD, GDKD and DKD under DeepKD.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fractionate.data import Labelled, digits

SIDE = 128
SMALLEST, LARGEST, MOST = 20, 56, 4  # sides of a digit in pixels, and digits of an image
INK = 0.35  # from which a pixel is seen as a digit's
APART = 0.05  # largest IoU of two digits' squares
TRIES = 20
PRIME = 1_000_003

Box = tuple[int, int, int, int]  # left, top, width, height


def texture(rng: np.random.Generator, side: int = SIDE) -> np.ndarray:
    """``[side, side, 3]`` of 0..1: coarse noise in three sizes, and a few lines."""
    canvas = np.zeros((side, side, 3))
    for cells, share in ((3, 0.5), (9, 0.3), (32, 0.2)):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        canvas += share * np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)) / 255
    for _ in range(int(rng.integers(2, 6))):
        at, wide = int(rng.integers(0, side)), int(rng.integers(1, 4))
        part = (slice(at, at + wide), slice(None)) if rng.random() < 0.5 else (slice(None), slice(at, at + wide))
        canvas[part] = 0.5 * canvas[part] + 0.5 * rng.random(3)
    return 0.25 + 0.5 * canvas


def placed(rng: np.random.Generator, count: int, side: int = SIDE) -> list[tuple[int, int, int]]:
    """Corner and side of up to so many squares that hardly lie upon each other."""
    found: list[tuple[int, int, int]] = []
    for _ in range(TRIES * count):
        size = int(rng.integers(SMALLEST, LARGEST + 1))
        left, top = (int(rng.integers(0, side - size + 1)) for _ in range(2))
        if len(found) < count and all(_iou((left, top, size), other) <= APART for other in found):
            found.append((left, top, size))
    return found


def _iou(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    across, down = (max(0, min(a[i] + a[2], b[i] + b[2]) - max(a[i], b[i])) for i in (0, 1))
    return across * down / (a[2] ** 2 + b[2] ** 2 - across * down)


def image_of(source: Labelled, seed: int, index: int) -> tuple[np.ndarray, list[tuple[int, Box]]]:
    """``[128, 128, 3]`` uint8, and the digit with the box of everything on it; the same for the same numbers."""
    rng = np.random.default_rng([seed, index])
    canvas, said = texture(rng), []
    for left, top, size in placed(rng, int(rng.integers(1, MOST + 1))):
        which = int(rng.integers(len(source.target)))
        small = Image.fromarray(source.images[which, 0].numpy())
        ink = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC)) / 255
        part = canvas[top : top + size, left : left + size]
        light = 1.0 if part.mean() < 0.5 else 0.0  # away from the ground, and a little coloured
        part[:] += ink[..., None] * (np.abs(light - 0.25 * rng.random(3)) - part)
        rows, columns = (np.flatnonzero((ink > INK).any(axis)) for axis in (1, 0))
        box = (left + columns[0], top + rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
        said.append((int(source.target[which]), tuple(int(n) for n in box)))
    return (255 * canvas.clip(0, 1)).round().astype(np.uint8), said


def write(root: Path, train: int, test: int, seed: int) -> None:
    """``images`` and ``annotations`` of both parts."""
    for part, count, first, name in (("train", train, 0, "train"), ("val", test, PRIME, "test")):
        source = digits(name)
        said: dict[str, Any] = {"images": [], "annotations": []}
        said["categories"] = [{"id": digit + 1, "name": str(digit)} for digit in range(10)]
        (root / "images" / part).mkdir(parents=True)
        for i in range(count):
            pixels, found = image_of(source, seed, first + i)
            file = f"{i:06d}.png"
            Image.fromarray(pixels).save(root / "images" / part / file)
            said["images"].append({"id": i, "file_name": file, "height": SIDE, "width": SIDE})
            for digit, (left, top, width, height) in found:
                one = {"id": len(said["annotations"]) + 1, "image_id": i, "category_id": digit + 1, "iscrowd": 0}
                said["annotations"].append({**one, "bbox": [left, top, width, height], "area": width * height})
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(said), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("folder", type=Path, help="a new folder")
    options.add_argument("--train", type=int, default=1000)
    options.add_argument("--test", type=int, default=300)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args(argv)
    if given.folder.exists():
        options.error(f"{given.folder} is there already; name a new folder")
    write(given.folder, given.train, given.test, given.seed)
    print(f"{given.train} training and {given.test} test images in {given.folder}")


if __name__ == "__main__":
    main()
