"""Small folders of exactly the official layouts; one grey tone per class, so that the label can be read off a pixel."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

WNIDS = ("n01484850", "n01440764", "n01443537")  # not in their order
FIRST, STEP = 30, 70


def tone(label: int) -> int:
    return FIRST + STEP * label


def labels_seen(images: torch.Tensor) -> list[int]:
    """The labels that the pixels tell."""
    return ((images[:, :, 2:-2, 2:-2].double().mean((1, 2, 3)) - FIRST) / STEP).round().long().tolist()


def picture(path: Path, label: int, mode: str = "RGB", kind: str = "JPEG", size: tuple[int, int] = (9, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (tone(label),) * 3).convert(mode).save(path, kind)


def write(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def imagenet_tree(root: Path, train: int = 10, val: int = 2, *, val_by_class: bool = False) -> None:
    """Folders of three classes, a flat or a foldered ``val``; the devkit numbers the classes backwards."""
    classes = sorted(WNIDS)
    for label, wnid in enumerate(classes):
        for i in range(train):
            odd = {(0, 1): ("CMYK", "JPEG"), (1, 1): ("RGB", "PNG"), (2, 1): ("L", "JPEG")}.get((label, i))
            picture(root / "train" / wnid / f"{wnid}_{i}.JPEG", label, *(odd or ()))
    order = [label for _ in range(val) for label in (1, 2, 0)]
    for i, label in enumerate(order, start=1):
        name = f"ILSVRC2012_val_{i:08}.JPEG"
        picture(root / "val" / (classes[label] if val_by_class else "") / name, label)
    devkit(root / "ILSVRC2012_devkit_t12" / "data", order)


def devkit(folder: Path, order: Sequence[int]) -> None:
    """The ground truth and the synsets, an inner node among them, as SciPy writes them."""
    from scipy.io import savemat

    classes = sorted(WNIDS)
    write(folder / "ILSVRC2012_validation_ground_truth.txt", [str(len(classes) - label) for label in order])
    kinds = [
        *(("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "f8")),
        *(("children", "O"), ("wordnet_height", "f8"), ("num_train_images", "f8")),
    ]
    leaves = [(i, wnid, f"word {i}", "", 0, np.zeros(0), 0, 4) for i, wnid in enumerate(reversed(classes), start=1)]
    inner = (4, "n00001740", "entity", "", 2, np.array([1.0, 2.0]), 1, 0)
    savemat(folder / "meta.mat", {"synsets": np.array([*leaves, inner], dtype=np.dtype(kinds))})


def solution(file: Path, order: Sequence[int]) -> None:
    """Kaggle's truth, its rows in another order."""
    classes = sorted(WNIDS)
    rows = [(f"ILSVRC2012_val_{i:08}", f"{classes[label]} 1 2 3 4 ") for i, label in enumerate(order, start=1)]
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([("ImageId", "PredictionString"), *reversed(rows)])


def tiny_tree(root: Path, form: str = "annotations", train: int = 10, val: int = 2) -> None:
    """``form``: how ``val`` lies there, ``"annotations"``, ``"images"`` (val/WNID/images) or ``"plain"`` (val/WNID)."""
    write(root / "wnids.txt", WNIDS)
    write(root / "words.txt", [f"{wnid}\tword" for wnid in WNIDS])
    number, rows = 0, []
    for label, wnid in enumerate(sorted(WNIDS)):
        for i in range(train):
            mode = "L" if (label, i) == (1, 0) else "RGB"
            picture(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", label, mode, size=(64, 64))
        write(root / "train" / wnid / f"{wnid}_boxes.txt", [f"{wnid}_{i}.JPEG\t0\t10\t63\t58" for i in range(train)])
        for _ in range(val):
            name = f"val_{(7 * number) % (3 * val)}.JPEG"  # the classes are mixed in the order of the names
            number += 1
            where = {"annotations": "images", "images": f"{wnid}/images", "plain": wnid}[form]
            picture(root / "val" / where / name, label, size=(64, 64))
            rows.append(f"{name}\t{wnid}\t0\t32\t44\t62")
    write(root / "val" / "val_annotations.txt", sorted(rows))
    picture(root / "test" / "images" / "test_0.JPEG", 0, size=(64, 64))


def cub_tree(root: Path) -> None:
    """Three classes of 12 images; the images are not numbered by folder, and the last ones are for tests."""
    names = {1: "001.Black_footed_Albatross", 2: "002.Laysan_Albatross", 3: "003.Sooty_Albatross"}
    images = [(f"{names[c]}/bird_{i:02}.jpg", c, int(i < 10)) for i in range(12) for c in (3, 1, 2)]
    for path, c, _ in images:
        picture(root / "images" / path, c - 1)
    numbered = list(enumerate(images, start=1))
    write(root / "images.txt", [f"{n} {path}" for n, (path, _, _) in numbered])
    write(root / "image_class_labels.txt", [f"{n} {c}" for n, (_, c, _) in reversed(numbered)])
    write(root / "train_test_split.txt", [f"{n} {is_train}" for n, (_, _, is_train) in numbered])
    write(root / "classes.txt", [f"{c} {name}" for c, name in names.items()])
    write(root / "bounding_boxes.txt", [f"{n} 60.0 27.0 325.0 304.0" for n, _ in numbered])


def dtd_tree(root: Path) -> None:
    """Three textures of six images; the second split differs from the first."""
    classes = ("braided", "banded", "blotchy")
    names = {name: [f"{name}/{name}_{i:04}.jpg" for i in range(6)] for name in classes}
    for label, name in enumerate(sorted(classes)):
        for path in names[name]:
            picture(root / "images" / path, label)
    for split in (1, 2):
        for k, part in enumerate(("train", "val", "test")):
            picked = [
                path for name in classes for path in (*names[name][split:], *names[name][:split])[2 * k : 2 * k + 2]
            ]
            write(root / "labels" / f"{part}{split}.txt", picked)
    write(root / "labels" / "labels_joint_anno.txt", [f"{path} x" for name in classes for path in names[name]])


def food_tree(root: Path) -> None:
    classes = ("waffles", "apple_pie", "beignets")
    parts: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for label, name in enumerate(sorted(classes)):
        for i in range(14):
            picture(root / "images" / name / f"{1005 + i}.jpg", label)
            parts["train" if i < 10 else "test"].setdefault(name, []).append(f"{name}/{1005 + i}")
    for part, found in parts.items():
        write(root / "meta" / f"{part}.txt", [path for name in classes for path in found[name]])
        (root / "meta" / f"{part}.json").write_text(json.dumps({name: found[name] for name in classes}))
    write(root / "meta" / "classes.txt", sorted(classes))


STL_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def stl_files(root: Path, train: int = 40, test: int = 20, unlabelled: int = 4) -> None:
    """Image i is dark but for a bright row i, and its label is i mod 10."""
    root.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("test", test), ("unlabeled", unlabelled)):
        images = np.zeros((count, 3, 96, 96), dtype=np.uint8)
        for i in range(count):
            images[i, :, i] = 255
        images.transpose(0, 1, 3, 2).tofile(root / f"{name}_X.bin")  # column by column
        if name != "unlabeled":
            (np.arange(count) % 10 + 1).astype(np.uint8).tofile(root / f"{name}_y.bin")
    write(root / "class_names.txt", STL_CLASSES)
    write(root / "fold_indices.txt", [" ".join(map(str, range(4 * k, 4 * k + 4))) for k in range(10)])
