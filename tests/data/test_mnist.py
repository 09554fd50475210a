"""MNIST and Fashion-MNIST from idx files, packed or not; damaged ones are refused by name."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fractionate.data import Labelled, fashion_mnist, mnist
from fractionate.data.mnist import NORMALIZATION, read_idx

SETS: dict[str, Callable[..., Labelled]] = {"MNIST": mnist, "FashionMNIST": fashion_mnist}
COUNT = 100


def idx(values: torch.Tensor, kind: int = 8) -> bytes:
    head = struct.pack(">HBB", 0, kind, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.numpy().tobytes()


def write(folder: Path, stem: str, packed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.randint(0, 256, (COUNT, 28, 28), dtype=torch.uint8)
    labels = torch.arange(COUNT, dtype=torch.uint8) % 10
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in ((f"{stem}-images-idx3-ubyte", pixels), (f"{stem}-labels-idx1-ubyte", labels)):
        raw = idx(values)
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(raw) if packed else raw)
    return pixels, labels


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("raw", ["raw", ""])
def test_the_bytes_of_the_files_are_the_images(name: str, packed: bool, raw: str, tmp_path: Path) -> None:
    for part, stem in (("train", "train"), ("test", "t10k")):
        pixels, labels = write(tmp_path / name / raw, stem, packed)
        images = SETS[name](tmp_path, part, download=False)
        assert torch.equal(images.images, pixels[:, None])
        assert torch.equal(images.target, labels.long())
        assert images.num_classes == len(images.classes) == 10


def test_validation_and_the_rest_are_the_training_images(tmp_path: Path) -> None:
    write(tmp_path / "MNIST", "train", packed=True)
    parts = [mnist(tmp_path, part, download=False) for part in ("validation", "train-without-validation")]
    assert [len(p) for p in parts] == [COUNT // 10, COUNT - COUNT // 10]
    assert {i.numpy().tobytes() for p in parts for i in p.images} == {
        i.numpy().tobytes() for i in mnist(tmp_path, download=False).images
    }


@pytest.mark.parametrize("name", SETS)
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{name} lacks t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte; put the set"):
        SETS[name](tmp_path, "test", download=False)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is damaged"),
        (b"\0\0\x08\x03\0\0", "is damaged"),
        (idx(torch.zeros(4, dtype=torch.uint8))[:-1], r"is damaged: \[4\] needs 12 bytes, it has 11"),
        (idx(torch.zeros(4, dtype=torch.uint8)) + b"x", r"is damaged: \[4\] needs 12 bytes, it has 13"),
        (idx(torch.zeros(4, dtype=torch.uint8), kind=13), "begins with 00 00 0d 01, expected 00 00 08"),
        (b"PK\x03\x04" + b"\0" * 4096, "is no idx file of bytes: it begins with 50 4b 03 04|is damaged"),
    ],
)
def test_a_damaged_file_is_refused(raw: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "idx"
    file.write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        read_idx(file)


@pytest.mark.parametrize("keep", [0, 5, 40, -4])
def test_a_damaged_archive_is_refused(keep: int, tmp_path: Path) -> None:
    file = tmp_path / "idx.gz"
    file.write_bytes(gzip.compress(idx(torch.randint(0, 256, (99,), dtype=torch.uint8)))[:keep])
    with pytest.raises(ValueError, match=r"idx\.gz is damaged: "):
        read_idx(file)


def test_labels_and_images_must_belong_together(tmp_path: Path) -> None:
    write(tmp_path / "MNIST", "train", packed=False)
    labels = tmp_path / "MNIST" / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(torch.zeros(COUNT - 1, dtype=torch.uint8)))
    with pytest.raises(ValueError, match=r"as many labels, got \[100, 28, 28\] and \[99\]"):
        mnist(tmp_path, download=False)
    labels.write_bytes(idx(torch.full((COUNT,), 10, dtype=torch.uint8)))
    with pytest.raises(ValueError, match=r"labels must lie in 0..9, got 10"):
        mnist(tmp_path, download=False)


def test_both_sets_have_a_normalization_of_one_channel() -> None:
    assert all(len(n.mean) == 1 for n in NORMALIZATION.values())
    assert list(NORMALIZATION) == ["mnist", "fashion-mnist"]
