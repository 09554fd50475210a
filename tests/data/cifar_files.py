"""Writes tiny CIFAR folders: as numpy pickles them today, and as Python 2 pickled the official files."""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

FILES = {
    "cifar10": ("cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)], ["test_batch"], "batches.meta"),
    "cifar100": ("cifar-100-python", ["train"], ["test"], "meta"),
}
KEYS = {"cifar10": ("labels", "label_names", 10), "cifar100": ("fine_labels", "fine_label_names", 100)}


class Python2(pickle._Pickler):
    """Protocol 2 with byte strings for text, and the module name that numpy had then."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        raw = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    def save_function(self, value: Any, name: str | None = None) -> None:
        module = value.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{value.__name__}\n".encode())
        self.memoize(value)

    def reducer_override(self, value: Any) -> Any:
        """Arrays as they were pickled then: their bytes as one string."""
        if not isinstance(value, np.ndarray):
            return NotImplemented
        rebuild, arguments, (version, shape, kind, order, raw) = value.__reduce__()
        return rebuild, (arguments[0], (0,), "b"), (version, shape, kind, order, raw)


for kind in (str, bytes):
    Python2.dispatch[kind] = Python2.save_string
Python2.dispatch[type(np.array([0]).__reduce__()[0])] = Python2.save_function
Python2.dispatch[type] = Python2.save_function


def python2(value: Any) -> bytes:
    file = io.BytesIO()
    Python2(file, protocol=2).dump(value)
    return file.getvalue()


def content(name: str, count: int, seed: int) -> dict[str, Any]:
    """What one file holds; the labels run through the classes."""
    labels, _, classes = KEYS[name]
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    return {"data": pixels, labels: [i % classes for i in range(count)], "batch_label": "batch"}


def write(root: Path, name: str, count: int = 20, dump: Any = pickle.dumps) -> dict[str, Any]:
    """All files of a set; returns what each holds."""
    folder, train, test, meta = FILES[name]
    _, names, classes = KEYS[name]
    held = {file: content(name, count, i) for i, file in enumerate([*train, *test])}
    held[meta] = {names: [f"class {i}" for i in range(classes)]}
    (root / folder).mkdir(parents=True)
    for file, values in held.items():
        (root / folder / file).write_bytes(dump(values))
    return held
