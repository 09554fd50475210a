"""Reading the pickles that CIFAR comes in, without running what a pickle may ask to run."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

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
