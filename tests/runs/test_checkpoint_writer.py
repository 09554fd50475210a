"""A checkpoint goes straight to its file: the same bytes as before, no copy of it in memory, a full disk is said."""

from __future__ import annotations

import errno
import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from fractionate._files import write_atomically
from fractionate.runs import checkpoint
from fractionate.runs.checkpoint import _save_sealed, read_checkpoint, sealed


def state(numbers: int = 1000) -> dict[str, Any]:
    weights = {"w": torch.arange(float(numbers)), "empty": torch.zeros(0)}
    return {"student": weights, "optimizer": {}, "epoch": 1, "step": 2, "notes": {"metrics": ["a line"] * 50}}


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def test_the_bytes_are_those_of_the_archive_with_its_seal() -> None:
    whole, written = io.BytesIO(), io.BytesIO()
    torch.save(state(), whole)
    _save_sealed(state(), written)
    assert written.getvalue() == sealed(whole.getvalue())


@pytest.mark.parametrize("sizes", [(5,), (1, 1, 1, 1, 1), (3, 1, 1), (1, 4), (2, 0, 3), (4, 1)])
def test_it_does_not_matter_in_which_pieces_the_archive_is_written(sizes: tuple[int, ...]) -> None:
    out, rest = io.BytesIO(), b"abcde"
    target = checkpoint.Sealing(out)
    for size in sizes:
        target.write(rest[:size])
        rest = rest[size:]
    target.end()
    assert out.getvalue() == sealed(b"abcde")


def test_no_copy_of_it_lies_in_memory(tmp_path: Path) -> None:
    large = state(4_000_000)
    tracemalloc.start()
    try:
        write_atomically(tmp_path / "a.ckpt", lambda file: _save_sealed(large, file))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "a.ckpt").stat().st_size > 16e6
    assert peak < 4e6
    assert bool((read_checkpoint(tmp_path / "a.ckpt")["student"]["w"] == large["student"]["w"]).all())


class Full(io.BytesIO):
    """A disk that ends after so many bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 3000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_disk_that_fills_up_meanwhile_is_an_error_of_the_disk() -> None:
    with pytest.raises(OSError, match="No space left"):
        _save_sealed(state(), Full())


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return sealed(buffer.getvalue())


FOREIGN = {
    "an empty file": sealed(b""),
    "a text": sealed(b"hello"),
    "an empty archive": sealed(b"PK\x05\x06" + bytes(18)),
    "an archive of something else": sealed(zipped("a.txt", b"hello")),
    "a list": saved([1, 2]),
    "weights alone": saved({"student": {"weight": torch.ones(1)}}),
    "a pickle that ends early": sealed(zipped("archive/data.pkl", b"\x80\x02.")),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_content_under_a_seal_that_fits_is_said_to_be_no_checkpoint(what: str, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(FOREIGN[what])
    with pytest.raises(ValueError, match=r"last\.ckpt: it is no checkpoint of a training run"):
        read_checkpoint(tmp_path / "last.ckpt")
