"""Decoded pictures that are kept are those of the files, whatever happens to what was kept."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from PIL import Image

from fractionate.data import folder
from fractionate.data import images as reader


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(10):
            Image.effect_noise((20, 24), 90).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path / "pictures"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were decoded."""
    seen: list[Path] = []
    really = reader.read_image

    def noted(path: Path, size: int) -> torch.Tensor:
        seen.append(path)
        return really(path, size)

    monkeypatch.setattr(reader, "read_image", noted)
    return seen


def test_pictures_are_decoded_once_for_all_runs(pictures: Path, tmp_path: Path, read: list[Path]) -> None:
    said: list[str] = []
    plain = folder(pictures, size=16)
    first = folder(pictures, size=16, cache=tmp_path / "kept", say=said.append)
    read.clear()
    again = folder(pictures, size=16, cache=tmp_path / "kept", say=said.append)
    assert not read
    for images in (first, again):
        assert torch.equal(images.images, plain.images)
        assert torch.equal(images.target, plain.target)
        assert images.listing == plain.listing
    assert len(said) == 1
    assert "GB in" in said[0]


def test_another_size_or_part_is_decoded(pictures: Path, tmp_path: Path, read: list[Path]) -> None:
    def count(part: str = "train", size: int = 16) -> int:
        read.clear()
        folder(pictures, part, size, cache=tmp_path / "kept")
        return len(read)

    assert [count(), count(), count(size=8), count("test"), count("test")] == [16, 0, 16, 4, 0]


def test_a_changed_picture_is_decoded_again(pictures: Path, tmp_path: Path) -> None:
    folder(pictures, size=16, cache=tmp_path / "kept")
    for file in pictures.glob("*/*.png"):
        Image.effect_noise((20, 24), 50).save(file)
    assert torch.equal(folder(pictures, size=16, cache=tmp_path / "kept").images, folder(pictures, size=16).images)


@pytest.mark.faults
def test_a_picture_in_place_of_another_of_its_size_and_time_is_decoded(pictures: Path, tmp_path: Path) -> None:
    """As `cp -p` and `rsync -t` leave it: bytes are others, size and time of writing are those from before."""
    places = [path.with_suffix(".bmp") for path in pictures.glob("*/*.png")]
    for place in places:
        Image.effect_noise((20, 24), 90).save(place)
        place.with_suffix(".png").unlink()
    before = folder(pictures, size=16, cache=tmp_path / "kept").images.clone()
    for place in places:
        told = place.stat()
        Image.effect_noise((20, 24), 90).save(place)
        os.utime(place, ns=(told.st_atime_ns, told.st_mtime_ns))
        assert (told.st_size, told.st_mtime_ns) == (place.stat().st_size, place.stat().st_mtime_ns)
    now = folder(pictures, size=16, cache=tmp_path / "kept").images
    assert torch.equal(now, folder(pictures, size=16).images)
    assert not torch.equal(now, before)


@pytest.mark.parametrize("damage", ["cut", "emptied", "zeroed", "one bit", "longer", "another file"])
def test_a_damaged_file_is_written_again(damage: str, pictures: Path, tmp_path: Path) -> None:
    folder(pictures, size=16, cache=tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    changed = {"cut": whole[:-9], "emptied": b"", "zeroed": bytes(len(whole)), "one bit": bytes(flipped)}
    changed |= {"longer": whole + b"x", "another file": b"x" * len(whole)}
    file.write_bytes(changed[damage])
    assert torch.equal(folder(pictures, size=16, cache=tmp_path / "kept").images, folder(pictures, size=16).images)
    assert file.read_bytes() == whole


def test_pictures_that_were_skipped_stay_left_out(pictures: Path, tmp_path: Path, read: list[Path]) -> None:
    for file in pictures.glob("dog/*.png"):
        if file.name < "3":
            file.write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="skipped"):
        first = folder(pictures, size=16, skip_broken=True, cache=tmp_path / "kept")
    read.clear()
    with pytest.warns(UserWarning, match="skipped 3 of 16"):
        again = folder(pictures, size=16, skip_broken=True, cache=tmp_path / "kept")
    assert not read
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.target, again.target)
    with pytest.raises(ValueError, match="cannot be read"):
        folder(pictures, size=16, cache=tmp_path / "kept")


def test_changing_the_images_in_memory_changes_no_file(pictures: Path, tmp_path: Path) -> None:
    folder(pictures, size=16, cache=tmp_path / "kept")
    folder(pictures, size=16, cache=tmp_path / "kept").images.zero_()
    assert folder(pictures, size=16, cache=tmp_path / "kept").images.any()


@pytest.mark.faults
def test_a_full_disk_costs_the_cache_and_not_the_run(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda place: usage(1, 1, 0))
        with pytest.warns(UserWarning, match="not kept: .*not free"):
            assert len(folder(pictures, size=16, cache=tmp_path / "kept")) == 16
    assert not (tmp_path / "kept").exists()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.warns(UserWarning, match="no space left"):
        assert len(folder(pictures, size=16, cache=tmp_path / "kept")) == 16
    assert not list((tmp_path / "kept").iterdir())
