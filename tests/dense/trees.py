"""Small sets with a class for every pixel, written in the layouts of the field."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 11
GREYS = np.linspace(20, 235, CLASSES).astype(np.uint8)


def pair(seed: int, height: int = 20, width: int = 28, labels: Sequence[int] = range(CLASSES), void: int | None = 11):
    """Blocks of labels, and an image from whose grey they can be read; the corner has no label."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(np.array(labels), (-(-height // 4), -(-width // 4)))
    mask = np.kron(coarse, np.ones((4, 4), int))[:height, :width].astype(np.uint8)
    grey = GREYS[np.minimum(mask, CLASSES - 1)]
    image = np.stack([grey, 255 - grey, grey // 2], 2) + rng.integers(0, 20, (height, width, 3))
    if void is not None:
        mask[:3, :3] = void
    return image.clip(0, 255).astype(np.uint8), mask


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def camvid(root: Path, train: int = 6, test: int = 3, *, segnet: bool = False, **options: int) -> Path:
    """The layout with folders images and masks, or SegNet's."""
    for k, (part, count) in enumerate({"train": train, "val": 2, "test": test}.items()):
        for i in range(count):
            image, mask = pair(100 * k + i, **options)
            places = (root / part, root / f"{part}annot") if segnet else (root / "images" / part, root / "masks" / part)
            save(places[0] / f"seq_{i:03}.png", image)
            save(places[1] / f"seq_{i:03}.png", mask)
    return root


def zipped(root: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(root.rglob("*.png")):
            archive.write(path, path.relative_to(root).as_posix())
    return file


def cityscapes(root: Path, kind: str = "labelIds") -> Path:
    """Two cities to train on; the masks hold every id from 0 to 33, and 255 for -1."""
    ids = np.resize(np.array([*range(34), 255], np.uint8), (32, 64))
    for split, city in (("train", "aachen"), ("train", "bochum"), ("val", "lindau"), ("test", "berlin")):
        stem = f"{city}_000000_000019"
        mask = np.zeros_like(ids) if split == "test" else np.minimum(ids, 18) if kind == "labelTrainIds" else ids
        save(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", pair(1, 32, 64)[0])
        save(root / "gtFine" / split / city / f"{stem}_gtFine_{kind}.png", mask)
    return root


def ade20k(root: Path) -> Path:
    for part, count in (("training", 2), ("validation", 1)):
        for i in range(count):
            image, mask = pair(i, labels=(0, 1, 150), void=None)
            save(root / "images" / part / f"ADE_{part[:5]}_{i:08}.png", image)
            save(root / "annotations" / part / f"ADE_{part[:5]}_{i:08}.png", mask)
    return root


def voc(root: Path) -> Path:
    base = root / "VOCdevkit" / "VOC2012"
    for part, names in {"train": ("2007_1", "2007_2"), "val": ("2007_3",)}.items():
        for name in names:
            image, mask = pair(len(name), labels=(0, 5, 20), void=255)
            (base / "JPEGImages").mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(base / "JPEGImages" / f"{name}.jpg")
            painted = Image.fromarray(mask)
            painted.putpalette([v for c in range(256) for v in (c, 255 - c, 0)])
            (base / "SegmentationClass").mkdir(parents=True, exist_ok=True)
            painted.save(base / "SegmentationClass" / f"{name}.png")
        lists = base / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{part}.txt").write_text("\n".join(names) + "\n")
    return root


def masks(root: Path, count: int = 10, classes: int = 3) -> Path:
    for i in range(count):
        image, mask = pair(i, labels=range(classes), void=255)
        save(root / "images" / f"{i}.png", image)
        save(root / "masks" / f"{i}.png", mask)
    return root
