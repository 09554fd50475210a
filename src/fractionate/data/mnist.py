"""MNIST and Fashion-MNIST from their standard files."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .._choices import choose
from .batch import Normalization
from .labelled import PARTS, Labelled, Part, fetch, part_of

VALIDATION_SHARE = 0.1  # 6,000 of the 60,000 training images
BYTES = 8  # idx type code of uint8
# What published code subtracts and divides by.
NORMALIZATION = {
    "mnist": Normalization((0.1307,), (0.3081,)),
    "fashion-mnist": Normalization((0.2860,), (0.3530,)),
}


@dataclass(frozen=True)
class _Set:
    folder: str  # of the download, and the name of the class that downloads it
    classes: tuple[str, ...]


MNIST = _Set("MNIST", tuple("0123456789"))
FASHION = _Set(
    "FashionMNIST",
    ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def mnist(root: Path, part: Part = "train", *, download: bool = True) -> Labelled:
    """70,000 handwritten digits, ``[n, 1, 28, 28]``, in the official order.

    Args:
        root: folder that holds ``MNIST/raw`` or ``MNIST`` with the four files, packed (``.gz``) or not; or where they
            are downloaded to.
        part: ``"validation"`` is a tenth of every class of the training images, always the same ones.
        download: fetch the set with torchvision if it is not there.

    Raises:
        ValueError: an unknown part, a damaged file, or a missing set when ``download`` is off.
        ImportError: torchvision is needed to download.

    Source: LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998.
    """
    return _load(MNIST, root, part, download)


def fashion_mnist(root: Path, part: Part = "train", *, download: bool = True) -> Labelled:
    """70,000 pieces of clothing, ``[n, 1, 28, 28]``, in the official order.

    Args:
        root: folder that holds ``FashionMNIST/raw`` or ``FashionMNIST``; else as in :func:`mnist`.
        part: likewise.
        download: likewise.

    Raises:
        ValueError: an unknown part, a damaged file, or a missing set when ``download`` is off.
        ImportError: torchvision is needed to download.

    Source: Xiao, Rasul and Vollgraf, arXiv 1708.07747.
    """
    return _load(FASHION, root, part, download)


def _load(which: _Set, root: Path, part: Part, download: bool) -> Labelled:
    choose("part of the images", part, PARTS)
    stem = "t10k" if part == "test" else "train"
    names = (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
    found = [_find(root / which.folder, name) for name in names]
    if None in found:
        missing = ", ".join(name for name, path in zip(names, found, strict=True) if path is None)
        fetch(which.folder, root, f"{root / which.folder} lacks {missing}", download)
        found = [_find(root / which.folder, name) for name in names]
    pixels, target = (read_idx(path) for path in found if path is not None)
    if pixels.ndim != 3 or target.shape != pixels.shape[:1]:
        raise ValueError(
            f"{found[0]}: expected images [n, h, w] and as many labels, got {list(pixels.shape)} and "
            f"{list(target.shape)}"
        )
    if len(target) and int(target.max()) >= len(which.classes):
        raise ValueError(f"{found[1]}: labels must lie in 0..{len(which.classes) - 1}, got {int(target.max())}")
    images = Labelled(pixels[:, None], target.long(), len(which.classes), which.classes)
    return images if part == "test" else part_of(images, part, VALIDATION_SHARE)


def _find(folder: Path, name: str) -> Path | None:
    places = [folder / "raw" / name, folder / "raw" / f"{name}.gz", folder / name, folder / f"{name}.gz"]
    return next((path for path in places if path.is_file()), None)


def read_idx(path: Path) -> Tensor:
    """A tensor of bytes from an idx file, packed with gzip if its name ends with ``.gz``.

    Two zeros, a type, the number of dimensions, every dimension as a big-endian 32-bit number, then the bytes.

    Raises:
        ValueError: the file is damaged or holds another type.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, kind, ndim = struct.unpack_from(">HBB", raw)
        shape = struct.unpack_from(f">{ndim}I", raw, 4)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise ValueError(f"{path} is damaged: {error}; delete it to have it downloaded again") from error
    if zeros or kind != BYTES:
        raise ValueError(f"{path} is no idx file of bytes: it begins with {raw[:4].hex(' ')}, expected 00 00 08")
    start, count = 4 + 4 * ndim, torch.Size(shape).numel()
    if len(raw) != start + count:
        raise ValueError(f"{path} is damaged: {list(shape)} needs {start + count} bytes, it has {len(raw)}")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=start).reshape(shape)
