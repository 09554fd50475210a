"""Pictures in tar archives: the same batches as those of the unpacked folder, and one line for what is wrong."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from fractionate.config.data import Data
from fractionate.data import folder, survey
from fractionate.data.images import read_image
from fractionate.train.photos import loaded

pytest.importorskip("torchvision")  # as what is imported next does
from tests.data.test_photos import equal, photo

COUNT, SHARDS = 20, 3
Label = Callable[[str], tuple[str, bytes]]
WAYS: dict[str, Label] = {
    "cls": lambda name: (".cls", name.encode()),
    "json": lambda name: (".json", json.dumps({"label": name, "width": 3}).encode()),
}


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def packed(unpacked: Path, root: Path, label: Label) -> Path:
    """The pictures of every part in archives, dealt out one by one, as WebDataset writes them."""
    for part in unpacked.iterdir():
        (root / part.name).mkdir(parents=True)
        files = sorted(part.rglob("*.*"), key=lambda p: p.name)
        for i in range(SHARDS):
            with tarfile.open(root / part.name / f"{i:03}.tar", "w") as tar:
                for file in files[i::SHARDS]:
                    ending, told = label(file.parent.name)
                    add(tar, f"./{file.name}", file.read_bytes())
                    add(tar, f"./{file.stem}{ending}", told)
    return root


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("unpacked")
    for part, count in (("train", COUNT), ("val", 8)):
        for i in range(count):
            photo(root / part / ("ant", "bee")[i * 7 % 5 % 2] / f"{part}-{i:02}.jpg", (40 + i % 3, 36), i)
    return root


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("cache", [False, True])
def test_archives_give_the_batches_of_the_unpacked_folder(
    way: str, workers: int, cache: bool, unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchvision")
    monkeypatch.setenv("FRACTIONATE_CACHE", str(tmp_path / "cache"))
    root = packed(unpacked, tmp_path / "packed", WAYS[way])
    both = [
        loaded(
            Data(name="folder", root=str(where), size=16, batch_size=6, workers=n, flip=True, cache=keeps),
            3,
            torch.device("cpu"),
            lambda size: 4,
        )
        for where, n, keeps in ((root, workers, cache), (unpacked, 0, False))
    ]
    for ours, files in zip(*both, strict=True):
        assert ours.classes == files.classes == ("ant", "bee")
        assert len(ours) == len(files)
        assert all(map(equal, ours.batches(1), files.batches(1)))


def test_archives_are_read_into_memory_and_surveyed_as_folders_are(unpacked: Path, tmp_path: Path) -> None:
    root = packed(unpacked, tmp_path / "packed", WAYS["cls"])
    for part in ("train", "validation", "test"):
        ours, files = (folder(where, part, 12, cache=tmp_path / "cache") for where in (root, unpacked))
        assert torch.equal(ours.images, files.images)
        assert torch.equal(ours.target, files.target)
    assert str(survey(root)) == str(survey(unpacked))


def test_numbers_are_the_numbers_of_the_classes_and_archives_may_lie_in_the_folder_itself(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(30):
            image = io.BytesIO()
            Image.new("RGB", (8, 8), (8 * i, 0, 0)).save(image, "PNG")
            add(tar, f"deep/{i:02}.seg.png", image.getvalue())
            add(tar, f"deep/{i:02}.cls", str(i % 3 * 5 % 11).encode())  # 0, 5, 10
            add(tar, f"deep/{i:02}.notes", b"")
    left_out, empty = r"30 files.*left out.*30 \.notes", "class '1'"
    with pytest.warns(UserWarning, match=left_out), pytest.raises(ValueError, match=empty):
        folder(tmp_path)


def test_an_archive_that_was_written_again_is_read_again(unpacked: Path, tmp_path: Path) -> None:
    root = packed(unpacked, tmp_path / "packed", WAYS["cls"])
    before = folder(root, size=8)
    file = next((unpacked / "train" / "bee").iterdir())
    with tarfile.open(root / "train" / "000.tar", "w") as archive:
        add(archive, "zzz.jpg", file.read_bytes())
        add(archive, "zzz.cls", b"bee")
    after = folder(root, size=8)
    assert len(after) == len(before) - 6
    assert torch.equal(after.images[-1], read_image(file, 8))


def broken(root: Path, what: str) -> None:
    tar = root / "train" / "000.tar"
    if what == "packed":
        with tarfile.open(tar, "w:gz") as archive:
            add(archive, "a.jpg", b"")
    elif what == "none":
        tar.write_bytes(b"no archive at all" * 100)
    elif what == "part":
        for file in (root / "val").iterdir():
            file.unlink()
    else:
        with tarfile.open(root / ("val" if what == "strange" else "train") / "009.tar", "w") as archive:
            add(archive, "a.jpg", b"")
            if what == "strange":
                add(archive, "a.cls", b"wasp")
            if what == "told":
                add(archive, "a.json", b'{"caption": 1}')


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("packed", r"000\.tar cannot be read as an archive.*neither compressed"),
        ("none", r"000\.tar cannot be read as an archive"),
        ("part", r"val holds no \.tar"),
        ("strange", r"a\.jpg has the label 'wasp', which no training image has"),
        ("alone", r"009\.tar/a has no label; put a\.cls"),
        ("told", r"a\.json tells no label: expected \{\"label\""),
    ],
)
def test_what_is_wrong_with_archives_is_said_in_a_line(what: str, words: str, unpacked: Path, tmp_path: Path) -> None:
    root = packed(unpacked, tmp_path / "packed", WAYS["cls"])
    broken(root, what)
    with pytest.raises(ValueError, match=words) as found:
        folder(root)
    assert "\n" not in str(found.value)


def test_a_broken_picture_in_an_archive_is_named(unpacked: Path, tmp_path: Path) -> None:
    root = packed(unpacked, tmp_path / "packed", WAYS["cls"])
    with tarfile.open(root / "train" / "009.tar", "w") as archive:
        add(archive, "a.jpg", b"no picture")
        add(archive, "a.cls", b"ant")
    with pytest.raises(ValueError, match=r"009\.tar.a\.jpg cannot be read.*remove the file"):
        folder(root, size=8)
    with pytest.warns(UserWarning, match=r"skipped 1 of .*009\.tar.a\.jpg"):
        assert len(folder(root, size=8, skip_broken=True)) == COUNT


def test_a_folder_whose_name_ends_like_an_archive_s_is_a_folder(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "photos.tar").symlink_to(unpacked)
    assert len(folder(tmp_path / "photos.tar", size=8)) == COUNT
