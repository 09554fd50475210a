"""CIFAR-100 in pieces, for machines that take only so much at a time.

    python -m benchmarks.pieces split DATA DST --parts 3     DST/piece-1 ... DST/piece-3, of equal size
    python -m benchmarks.pieces join DATA PIECE ...          DATA/cifar-100-python, once all pieces are together
    python -m benchmarks.pieces noise DATA                   DATA/cifar-100-python of random pixels, to time steps on

A piece holds two zips, of training and of test images: lossless WebP sheets of 1,000 images (25 rows x 40 columns of
32 x 32 tiles, row by row) in the official order, and ``labels.json``. The pixels come back to the last bit. Needs
numpy, and Pillow with WebP.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fractionate.data.cifar import read_arrays

FOLDER = "cifar-100-python"
SPLITS = ("train", "test")
SIDE, COLUMNS, SHEET = 32, 40, 1000
LABELS = {"fine": "fine_labels", "coarse": "coarse_labels"}
NAMES = {"fine_names": "fine_label_names", "coarse_names": "coarse_label_names"}
Content = dict[str, Any]


def split(data: Path, target: Path, parts: int) -> list[Path]:
    """Write the pieces.

    Args:
        data: folder that holds ``cifar-100-python``.
        target: folder of the pieces.
        parts: how many.

    Returns:
        The folders of the pieces.

    Raises:
        ValueError: there are fewer sheets of training images than pieces.
    """
    names = read_arrays(data / FOLDER / "meta")
    folders = [target / f"piece-{number + 1}" for number in range(parts)]
    for name in SPLITS:
        content = read_arrays(data / FOLDER / name)
        count = len(content["data"])
        starts = range(0, count, SHEET)
        if name == "train" and len(starts) < parts:
            raise ValueError(f"{data} has {len(starts)} sheets of training images, too few for {parts} pieces")
        bounds = [round(len(starts) * i / parts) for i in range(parts + 1)]
        for number, folder in enumerate(folders):
            first, last = (min(count, SHEET * bounds[number + i]) for i in (0, 1))
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / f"cifar100-{name}-{number + 1:02d}.zip", content, names, first, last, count)
    return folders


def _write(path: Path, content: Content, names: Content, first: int, last: int, total: int) -> None:
    facts: Content = {"start": first, "n": last - first, "total": total}
    facts |= {short: content[long][first:last] for short, long in LABELS.items() if long in content}
    facts |= {short: names[long] for short, long in NAMES.items() if long in names}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for number, start in enumerate(range(first, last, SHEET)):
            file.writestr(f"{number:03d}.webp", _sheet(content["data"][start : min(last, start + SHEET)]))
        file.writestr("labels.json", json.dumps(facts), zipfile.ZIP_DEFLATED)


def _sheet(rows: np.ndarray) -> bytes:
    """Up to 1,000 images as one picture, the last row of tiles filled with black."""
    height = -(-len(rows) // COLUMNS)
    tiles = np.zeros((height * COLUMNS, 3, SIDE, SIDE), np.uint8)
    tiles[: len(rows)] = np.asarray(rows).reshape(-1, 3, SIDE, SIDE)
    picture = tiles.reshape(height, COLUMNS, 3, SIDE, SIDE).transpose(0, 3, 1, 4, 2)
    made = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture.reshape(height * SIDE, COLUMNS * SIDE, 3))).save(
        made, "WEBP", lossless=True, quality=25, method=2, exact=True
    )
    return made.getvalue()


def _tiles(path: Path) -> tuple[np.ndarray, Content]:
    """Pixels ``[n, 3072]`` and facts of one zip."""
    with zipfile.ZipFile(path) as file:
        facts, found = json.loads(file.read("labels.json")), []
        for name in sorted(n for n in file.namelist() if n.endswith(".webp")):
            picture = np.asarray(Image.open(io.BytesIO(file.read(name))).convert("RGB"))
            height, width = (size // SIDE for size in picture.shape[:2])
            found.append(picture.reshape(height, SIDE, width, SIDE, 3).transpose(0, 2, 4, 1, 3))
    pixels = np.concatenate([tiles.reshape(-1, 3 * SIDE * SIDE) for tiles in found] or [np.zeros((0, 3072), np.uint8)])
    return pixels[: facts["n"]], facts


def missing(pieces: Sequence[Path]) -> list[str]:
    """Which images these pieces lack, in words; none if they are whole."""
    return [said for name in SPLITS if (said := _gap(name, [facts for _, facts in _facts(name, pieces)]))]


def _facts(name: str, pieces: Sequence[Path]) -> Iterator[tuple[Path, Content]]:
    """The zips of a split, the first images first."""
    found = []
    for path in (f for folder in pieces for f in folder.glob(f"cifar100-{name}*.zip")):
        with zipfile.ZipFile(path) as file:
            found.append((path, json.loads(file.read("labels.json"))))
    return iter(sorted(found, key=lambda pair: pair[1].get("start", 0)))


def _gap(name: str, facts: Sequence[Content]) -> str:
    total = {"train": 50_000, "test": 10_000}[name]
    total, there = next((f["total"] for f in facts if "total" in f), total), 0
    for one in facts:
        if one.get("start", 0) != there:
            break
        there += one["n"]
    return "" if there == total else f"{name} images {there:,} to {total:,}"


def join(data: Path, pieces: Sequence[Path]) -> bool:
    """Write ``data/cifar-100-python`` once all pieces are there; returns whether they are."""
    if missing(pieces):
        return False
    folder, names = data / FOLDER, {}
    folder.mkdir(parents=True, exist_ok=True)
    for name in SPLITS:
        pixels, labels = [], {long: [] for long in LABELS.values()}
        for path, facts in _facts(name, pieces):
            pixels.append(_tiles(path)[0])
            for short, long in LABELS.items():
                labels[long] += facts.get(short, [])
            names = {long: facts[short] for short, long in NAMES.items() if short in facts}
        content = {"data": np.concatenate(pixels), **{key: value for key, value in labels.items() if value}}
        (folder / name).write_bytes(pickle.dumps(content, 4))
    (folder / "meta").write_bytes(pickle.dumps(names, 4))
    return True


def noise(data: Path, each: tuple[int, int] = (500, 100), classes: int = 100) -> None:
    """Write ``data/cifar-100-python`` of random pixels: a step on them takes as long as one on photographs."""
    folder, random = data / FOLDER, np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in zip(SPLITS, each, strict=True):
        labels = [*range(classes)] * count
        pixels = random.integers(0, 256, (len(labels), 3 * SIDE * SIDE), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "fine_labels": labels}, 4))
    meta = {"fine_label_names": [f"class {number}" for number in range(classes)]}
    (folder / "meta").write_bytes(pickle.dumps(meta, 4))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("split", "join", "noise"))
    parser.add_argument("data", type=Path, help="folder that holds cifar-100-python, or will")
    parser.add_argument("places", type=Path, nargs="*", help="of split the folder to write to, of join the pieces")
    parser.add_argument("--parts", type=int, default=3)
    options = parser.parse_args(arguments)
    if options.what == "noise":
        noise(options.data)
    elif options.what == "split":
        for folder in split(options.data, options.places[0], options.parts):
            print(f"{folder}: {sum(f.stat().st_size for f in folder.iterdir()):,} bytes")
    elif not join(options.data, options.places):
        print(f"missing: {'; '.join(missing(options.places))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
