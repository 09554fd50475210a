"""Rows of numbers in a memory-mapped file that fills up as it is used, by several processes at once if need be.

One file: a header of one page, a mark per row, the rows. A mark is 0 until its row has been written, and then a
checksum of that row: a row that was torn by a crash, or damaged later, counts as missing and is written again. The
file is sparse: rows that nobody wrote take no space.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .._typing import Bool, Int

HEADER = 4096
VERSION = 1
DTYPES = (torch.float32, torch.float16)


@dataclass(frozen=True, eq=False)
class RowFile:
    """Rows, and which of them hold something.

    Args:
        rows: ``[m, c]``.
        marks: ``[m]`` int32.
    """

    rows: Tensor
    marks: Tensor

    def missing(self, at: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Which of the rows ``at`` were never written, or are damaged."""
        return self.marks[at] != _marks(self.rows[at])

    def write(self, at: Int[Tensor, " n"], rows: Tensor) -> None:
        """Write rows, then their marks: whoever sees a mark sees its row.

        Raises:
            ValueError: numbers that the file's type cannot hold.
        """
        stored = rows.to(self.rows.dtype)
        if stored.dtype == torch.float16 and bool((stored.isinf() & rows.isfinite()).any()):
            raise ValueError("logits beyond 65504 do not fit into float16; keep them in float32")
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
    size = HEADER + size_of(rows, columns, dtype)
    if path is None:
        memory = mmap.mmap(-1, size)
    else:
        header = _header(key, rows, columns, dtype)
        _check_room(path, size)
        _ensure(path, header, size)
        with path.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), size)
    return RowFile(
        torch.frombuffer(memory, dtype=dtype, count=rows * columns, offset=HEADER + 4 * rows).view(rows, columns),
        torch.frombuffer(memory, dtype=torch.int32, count=rows, offset=HEADER),
    )


def size_of(rows: int, columns: int, dtype: torch.dtype) -> int:
    """Bytes of so many rows and their marks."""
    return rows * (columns * dtype.itemsize + 4)


def _marks(rows: Tensor) -> Int[Tensor, " n"]:
    """A checksum per row that is never 0."""
    bits = rows.view(torch.int32 if rows.dtype == torch.float32 else torch.int16).long()
    weights = 2 * torch.arange(rows.shape[1]) + 1  # odd, so every changed bit changes the sum
    return ((bits * weights).sum(1) & 0x7FFFFFFF).int() | 1


def _header(key: str, rows: int, columns: int, dtype: torch.dtype) -> bytes:
    facts = {"fractionate rows": VERSION, "key": key, "rows": rows, "columns": columns, "dtype": str(dtype)}
    return json.dumps(facts).encode().ljust(HEADER, b"\n")


def _ensure(path: Path, header: bytes, size: int) -> None:
    """Make the file unless it is there; replace a damaged one."""
    if not path.exists():
        _make(path, header, size, replace=False)
    if problem := _problem(path, header, size):
        warnings.warn(f"{path} is damaged ({problem}); it is built again", stacklevel=4)
        _make(path, header, size, replace=True)


def _problem(path: Path, header: bytes, size: int) -> str:
    """What keeps a file from being used; empty if nothing does."""
    if (found := path.stat().st_size) != size:
        return f"{found} bytes in place of {size}"
    with path.open("rb") as file:
        return "" if file.read(HEADER) == header else "its header is another one"


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
