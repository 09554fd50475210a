"""CIFAR from its files: the official ones and converted ones; damaged, incomplete and hostile ones are refused."""

import functools
import hashlib
import importlib.util
import os
import pickle
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from fractionate.data import Labelled, cifar
from fractionate.data.cifar import read_arrays
from tests.data import cifar_files

CIFAR = list(cifar_files.FILES)
DUMPS = {"today": pickle.dumps, "protocol 2": lambda x: pickle.dumps(x, 2), "python 2": cifar_files.python2}
# Of the pixels of the official test images, uint8 [n, ch, h, w].
TEST_SHA256 = "83c56492b2c11211ad1bb2dbd4f2eef4170a0441e41a41f3039c3144b1f5a511"


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("dump", DUMPS)
def test_images_come_in_the_order_of_the_files_however_they_were_pickled(name: str, dump: str, tmp_path: Path) -> None:
    held = cifar_files.write(tmp_path, name, dump=DUMPS[dump])
    _, train, test, _ = cifar_files.FILES[name]
    labels, _, classes = cifar_files.KEYS[name]
    for part, files in (("train", train), ("test", test)):
        images = cifar(name, tmp_path, part, download=False)
        pixels = np.concatenate([held[f]["data"] for f in files]).reshape(-1, 3, 32, 32)
        assert np.array_equal(images.images.numpy(), pixels)
        assert images.target.tolist() == [x for f in files for x in held[f][labels]]
        assert images.num_classes == len(images.classes) == classes
        assert images.classes[:2] == ("class 0", "class 1")


def test_the_official_files_are_of_python_2() -> None:
    """Text as byte strings and numpy's old module name: what the test above writes is what it says."""
    raw = cifar_files.python2({"data": np.zeros((1, 2), np.uint8)})
    assert b"numpy.core.multiarray" in raw
    assert b"data" in pickle.loads(raw.replace(b"numpy.core", b"numpy._core"), encoding="bytes")


def test_validation_is_a_tenth_of_every_class_and_shares_nothing_with_the_rest(tmp_path: Path) -> None:
    cifar_files.write(tmp_path, "cifar10", count=100)

    def rows(part: str) -> set[bytes]:
        return {image.numpy().tobytes() for image in cifar("cifar10", tmp_path, part, download=False).images}

    assert torch.bincount(cifar("cifar10", tmp_path, "validation", download=False).target).tolist() == [5] * 10
    assert not rows("validation") & rows("train-without-validation")
    assert rows("validation") | rows("train-without-validation") == rows("train")


@pytest.mark.parametrize("name", CIFAR)
def test_a_missing_set_is_named_where_nothing_may_be_downloaded(name: str, tmp_path: Path) -> None:
    folder, train, _, meta = cifar_files.FILES[name]
    with pytest.raises(ValueError, match=rf"{folder} lacks {train[0]}.*{meta}; put the set there"):
        cifar(name, tmp_path, download=False)


def test_without_torchvision_a_missing_set_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"lacks test, meta\. Downloading it needs torchvision.*FRACTIONATE_DATA"):
        cifar("cifar100", tmp_path, "test")


def test_a_failed_download_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(root: Path, train: bool, download: bool) -> None:
        raise OSError("no route to host")

    library = ModuleType("torchvision")
    library.datasets = ModuleType("datasets")
    library.datasets.CIFAR100 = refuse
    monkeypatch.setitem(sys.modules, "torchvision", library)
    with pytest.raises(ValueError, match=r"lacks test, meta, and downloading failed: no route to host"):
        cifar("cifar100", tmp_path, "test")


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="downloads go through torchvision")
@pytest.mark.parametrize("name", CIFAR)
def test_a_missing_set_is_downloaded_unpacked_and_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchvision's own code, with the address and the checksums of an archive that this machine serves."""
    from torchvision import datasets

    held = cifar_files.write(tmp_path / "made", name)
    folder, train, test, meta = cifar_files.FILES[name]
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), "gztar", tmp_path / "made"))

    def sums(files: list[str]) -> list[list[str]]:
        return [[file, md5(tmp_path / "made" / folder / file)] for file in files]

    official = getattr(datasets, name.upper())
    with served(tmp_path) as address:
        replaced = {"url": f"{address}/{archive.name}", "tgz_md5": md5(archive)}
        replaced |= {"train_list": sums(train), "test_list": sums(test)}
        replaced["meta"] = {**official.meta, "md5": sums([meta])[0][1]}
        for attribute, value in replaced.items():
            monkeypatch.setattr(official, attribute, value)
        monkeypatch.setenv("no_proxy", "*")
        images = cifar(name, tmp_path / "data", "test")
    labels, _, _ = cifar_files.KEYS[name]
    assert images.target.tolist() == [x for file in test for x in held[file][labels]]
    assert cifar(name, tmp_path / "data", "train", download=False).classes == images.classes


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder's files over HTTP, for this machine alone."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


class Code:
    """Asks whoever unpickles it to run a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_a_pickle_that_wants_to_run_code_does_not(tmp_path: Path) -> None:
    cifar_files.write(tmp_path, "cifar100")
    trace = tmp_path / "ran"
    file = tmp_path / "cifar-100-python" / "test"
    file.write_bytes(pickle.dumps({"data": Code(f"touch {trace}"), "fine_labels": [1]}))
    with pytest.raises(ValueError, match=r"test cannot be read: it asks for (posix|nt)\.system"):
        cifar("cifar100", tmp_path, "test", download=False)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["eval", "getattr", "__import__"])
def test_no_builtin_is_reached(name: str, tmp_path: Path) -> None:
    file = tmp_path / "pickle"
    file.write_bytes(b"c__builtin__\n" + name.encode() + b"\n.")
    with pytest.raises(ValueError, match=f"it asks for __builtin__.{name}"):
        read_arrays(file)


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_truncated_file_is_named(keep: int, tmp_path: Path) -> None:
    cifar_files.write(tmp_path, "cifar100")
    file = tmp_path / "cifar-100-python" / "test"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"test cannot be read: .*delete the file to have it downloaded again"):
        cifar("cifar100", tmp_path, "test", download=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": np.zeros((20, 3071), np.uint8)}, r"expected uint8 pixels \[20, 3072\], got torch.uint8 \[20, 3071\]"),
        ({"data": np.zeros((19, 3072), np.uint8)}, r"expected uint8 pixels \[20, 3072\], got torch.uint8 \[19, 3072\]"),
        ({"data": np.zeros((20, 3072), np.float32)}, "expected uint8 pixels .* got torch.float32"),
        ({"data": "pixels"}, "expected uint8 pixels"),
        ({"data": None}, "expected uint8 pixels"),
        ({"fine_labels": [100] * 20}, r"labels must lie in 0..99"),
        ({"fine_labels": [-1] * 20}, r"labels must lie in 0..99"),
        ({"fine_labels": None}, r"has no list 'fine_labels'; it holds data, fine_labels, batch_label"),
        ({"fine_labels": ["cat"] * 20}, "labels must be whole numbers"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    held = cifar_files.write(tmp_path, "cifar100")
    file = tmp_path / "cifar-100-python" / "test"
    file.write_bytes(pickle.dumps(held["test"] | change))
    with pytest.raises(ValueError, match=message):
        cifar("cifar100", tmp_path, "test", download=False)


def test_a_pickle_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match="holds a list, expected a dict"):
        read_arrays(file)


def test_an_unknown_part_names_the_nearest(tmp_path: Path, unchecked: None) -> None:
    with pytest.raises(ValueError, match="did you mean 'validation'"):
        cifar("cifar100", tmp_path, "valid")


@pytest.mark.slow
def test_the_real_test_images_are_read_to_the_last_byte(real_test_images: Labelled) -> None:
    assert hashlib.sha256(real_test_images.images.numpy().tobytes()).hexdigest() == TEST_SHA256
    assert torch.bincount(real_test_images.target).tolist() == [100] * 100
    assert real_test_images.classes[0] == "apple"
