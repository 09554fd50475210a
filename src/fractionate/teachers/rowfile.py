"""Rows of numbers in a memory-mapped file that fills up as it is used, by several processes at once if need be.

One file: a header of one page, a mark per row, the rows. A mark is 0 until its row has been written, and then a
checksum of that row: a row that was torn by a crash, or damaged later, counts as missing and is written again. The
file is sparse: rows that nobody wrote take no space.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import uuid
import warnings
import weakref
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .._typing import Bool, Int

HEADER = 4096
BLOCK = 1 << 16  # bytes that are reserved at once
VERSION = 2  # 1 had a checksum that missed the sign of a float32
DTYPES = (torch.float32, torch.float16)


class Room:
    """Has the disk give the blocks of a sparse file before its mapped memory is written.

    A full disk is then an error here; in the middle of writing to the memory it would kill the process.

    Args:
        path: the file.
        size: of it, in bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self.descriptor = os.open(path, os.O_RDWR)
        self.taken: set[int] = set()
        weakref.finalize(self, os.close, self.descriptor)

    def take(self, at: Int[Tensor, " n"], offset: int, width: int) -> None:
        """Reserve the rows ``at`` of ``width`` bytes each, the first of which begins at ``offset``.

        Raises:
            OSError: the disk is full.
        """
        starts = [offset + row * width for row in at.tolist()]
        wanted = {block for s in starts for block in range(s // BLOCK, (s + width - 1) // BLOCK + 1)}
        for block in sorted(wanted - self.taken):
            self._reserve(block * BLOCK, min(BLOCK, self.size - block * BLOCK))
            self.taken.add(block)

    def _reserve(self, start: int, size: int) -> None:
        if not hasattr(os, "posix_fallocate"):
            return
        try:
            os.posix_fallocate(self.descriptor, start, size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                return  # a file system that cannot reserve
            raise OSError(
                f"{self.path} cannot grow ({(error.strerror or '').lower()}): make room and go on, or use "
                f"teacher_table=off, or keep the rows in memory"
            ) from error


@dataclass(frozen=True, eq=False)
class RowFile:
    """Rows, and which of them hold something.

    Args:
        rows: ``[m, c]``.
        marks: ``[m]`` int32.
        room: reserves what is written on the disk; None in memory.
    """

    rows: Tensor
    marks: Tensor
    room: Room | None = None

    def missing(self, at: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Which of the rows ``at`` were never written, or are damaged."""
        return self.marks[at] != _marks(self.rows[at])

    def write(self, at: Int[Tensor, " n"], rows: Tensor) -> None:
        """Write rows, then their marks: whoever sees a mark sees its row.

        Raises:
            ValueError: numbers that the file's type cannot hold.
            OSError: the disk is full; the file stays usable.
        """
        stored = rows.to(self.rows.dtype)
        if stored.dtype == torch.float16 and bool((stored.isinf() & rows.isfinite()).any()):
            raise ValueError("logits beyond 65504 do not fit into float16; keep them in float32")
        if self.room is not None:
            self.room.take(at, HEADER, self.marks.itemsize)
            self.room.take(at, HEADER + self.marks.nbytes, self.rows.shape[1] * self.rows.itemsize)
        self.rows[at] = stored
        self.marks[at] = _marks(stored)


def open_rows(path: Path | None, key: str, rows: int, columns: int, dtype: torch.dtype) -> RowFile:
    """Open a file of rows, or make it; without a path the rows are kept in memory (allocated as they are written).

    A file that does not belong to ``key`` or has another size is replaced, with a warning.

    Args:
        path: the file.
        key: what decides the numbers; written into the header.
        rows, columns: shape.
        dtype: float32 or float16.

    Raises:
        ValueError: another type, or a disk without the room.

    Example:
        >>> file = open_rows(None, "", 3, 2, torch.float32)
        >>> file.write(torch.tensor([1]), torch.tensor([[2.0, 3.0]]))
        >>> file.missing(torch.arange(3)).tolist()
        [True, False, True]
    """
    if dtype not in DTYPES:
        raise ValueError(f"rows are kept as float32 or float16, got {dtype}")
    if rows * columns == 0:
        raise ValueError(f"a file of rows needs at least one number, got {rows} rows of {columns}")
    size, room = HEADER + size_of(rows, columns, dtype), None
    if path is None:
        memory = mmap.mmap(-1, size)
    else:
        header = _header(key, rows, columns, dtype)
        _check_room(path, size)
        _ensure(path, header, size)
        with path.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), size)
        room = Room(path, size)
    return RowFile(
        torch.frombuffer(memory, dtype=dtype, count=rows * columns, offset=HEADER + 4 * rows).view(rows, columns),
        torch.frombuffer(memory, dtype=torch.int32, count=rows, offset=HEADER),
        room,
    )


def size_of(rows: int, columns: int, dtype: torch.dtype) -> int:
    """Bytes of so many rows and their marks."""
    return rows * (columns * dtype.itemsize + 4)


def _marks(rows: Tensor) -> Int[Tensor, " n"]:
    """The CRC-32 of every row's bytes, with 1 in place of 0, which stands for a row that was never written."""
    data = rows.detach().cpu().contiguous().view(torch.uint8).numpy()
    sums = torch.tensor([zlib.crc32(row) or 1 for row in data], dtype=torch.int64)
    return (sums - (sums >> 31 << 32)).int()  # the same 32 bits, signed


def _header(key: str, rows: int, columns: int, dtype: torch.dtype) -> bytes:
    facts = {"fractionate rows": VERSION, "key": key, "rows": rows, "columns": columns, "dtype": str(dtype)}
    return json.dumps(facts).encode().ljust(HEADER, b"\n")


def _ensure(path: Path, header: bytes, size: int) -> None:
    """Make the file unless it is there; replace a damaged one."""
    if not path.exists():
        _make(path, header, size, replace=False)
    if problem := _problem(path, header, size):
        warnings.warn(f"{path} {problem}; it is built again", stacklevel=4)
        _make(path, header, size, replace=True)


def _problem(path: Path, header: bytes, size: int) -> str:
    """In words, what keeps a file from being used; empty if nothing does."""
    if (found := path.stat().st_size) != size:
        return f"is damaged ({found} bytes in place of {size})"
    with path.open("rb") as file:
        there = file.read(HEADER)
    if there == header:
        return ""
    try:
        version = json.loads(there)["fractionate rows"]
    except (ValueError, KeyError, TypeError, RecursionError):
        version = VERSION
    if version == VERSION:
        return "is damaged (its header is another one)"
    return f"was written by another release (format {version!r}, now {VERSION}, whose checksums miss no changed bit)"


def _make(path: Path, header: bytes, size: int, *, replace: bool) -> None:
    """The whole file appears at once; a process that has the replaced one open goes on with that."""
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("wb") as file:
            file.write(header)
            file.truncate(size)
        os.replace(draft, path) if replace else _first(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _first(draft: Path, path: Path) -> None:
    """Of two processes that make the same file, the first wins, and both use its file."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        os.replace(draft, path)


def _check_room(path: Path, size: int) -> None:
    """Writing to a mapped file on a full disk kills the process, so the room must be there beforehand."""
    path.parent.mkdir(parents=True, exist_ok=True)
    taken = 512 * getattr(path.stat(), "st_blocks", 0) if path.is_file() else 0
    free = shutil.disk_usage(path.parent).free
    if size - taken > free:
        raise ValueError(
            f"{path} may grow to {size / 1e9:.2f} GB, but {free / 1e9:.2f} GB are free; float16 halves it, another "
            f"folder or keeping the rows in memory avoids it"
        )
