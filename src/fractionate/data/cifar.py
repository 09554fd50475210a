"""CIFAR-10 and CIFAR-100 from their standard files."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .._choices import choose
from .batch import Normalization
from .labelled import PARTS, Labelled, Part, fetch, part_of

VALIDATION_SHARE = 0.1  # 5,000 of the 50,000 training images
SIDE = 32


@dataclass(frozen=True)
class _Layout:
    """How one of the two lies on disk."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels: str
    names: str
    torchvision: str


LAYOUTS = {
    "cifar10": _Layout(
        "cifar-10-batches-py",
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        ("test_batch",),
        "batches.meta",
        "labels",
        "label_names",
        "CIFAR10",
    ),
    "cifar100": _Layout(
        "cifar-100-python", ("train",), ("test",), "meta", "fine_labels", "fine_label_names", "CIFAR100"
    ),
}
# What published code subtracts and divides by.
NORMALIZATION = {
    "cifar10": Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": Normalization((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


def cifar(name: Literal["cifar10", "cifar100"], root: Path, part: Part = "train", *, download: bool = True) -> Labelled:
    """Images and labels in the official order.

    A folder that is already there is taken as it is; its archive's checksum is not asked for.

    Args:
        name: which set.
        root: folder that holds ``cifar-10-batches-py`` or ``cifar-100-python``, or where it is downloaded to.
        part: ``"validation"`` is a tenth of every class of the training images, always the same ones.
        download: fetch the set with torchvision if it is not there.

    Raises:
        ValueError: an unknown part, a damaged file, or a missing set when ``download`` is off.
        ImportError: torchvision is needed to download.

    Source: Krizhevsky, Learning multiple layers of features from tiny images, 2009.
    """
    choose("part of the images", part, PARTS)
    layout = LAYOUTS[name]
    folder = root / layout.folder
    wanted = layout.test if part == "test" else layout.train
    missing = [file for file in (*wanted, layout.meta) if not (folder / file).is_file()]
    if missing:
        fetch(layout.torchvision, root, f"{folder} lacks {', '.join(missing)}", download)
    classes = tuple(_list(read_arrays(folder / layout.meta), layout.names, folder / layout.meta))
    parts = [_read(folder / file, layout, len(classes)) for file in wanted]
    images = Labelled(torch.cat([p.images for p in parts]), torch.cat([p.target for p in parts]), len(classes), classes)
    return images if part == "test" else part_of(images, part, VALIDATION_SHARE)


def _read(path: Path, layout: _Layout, classes: int) -> Labelled:
    content = read_arrays(path)
    labels = _list(content, layout.labels, path)
    pixels, target = _tensor(content.get("data")), _tensor(labels)
    if pixels.dtype != torch.uint8 or pixels.shape != (len(labels), 3 * SIDE * SIDE):
        raise ValueError(
            f"{path}: expected uint8 pixels [{len(labels)}, {3 * SIDE * SIDE}], got {pixels.dtype} {list(pixels.shape)}"
        )
    if target.dtype != torch.int64 or target.shape != (len(labels),):
        raise ValueError(f"{path}: labels must be whole numbers, the first is {labels[0]!r}")
    if not (target.min() >= 0 and target.max() < classes):
        raise ValueError(f"{path}: labels must lie in 0..{classes - 1}")
    return Labelled(pixels.reshape(-1, 3, SIDE, SIDE), target, classes)


def _tensor(value: object) -> Tensor:
    """What a file holds as a tensor; an empty one for what is none."""
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return torch.empty(0)


def _list(content: dict[str, Any], key: str, path: Path) -> list[Any]:
    found = content.get(key)
    if not isinstance(found, list) or not found:
        raise ValueError(f"{path} has no list {key!r}; it holds {', '.join(map(str, content)) or 'nothing'}")
    return found


# All that the official files and those written by numpy's own pickling name.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArraysOnly(pickle.Unpickler):
    """Builds dicts, lists, numbers, text and numpy arrays, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_arrays(path: Path) -> dict[str, Any]:
    """A pickled dict of numpy arrays and plain values.

    Raises:
        ValueError: the file is damaged, holds something else, or asks for code.
    """
    try:
        found = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ValueError(
            f"{path} cannot be read: {error}. Only arrays and plain values are taken from a pickle; delete the file "
            "to have it downloaded again, if it is damaged"
        ) from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, expected a dict")
    return found
