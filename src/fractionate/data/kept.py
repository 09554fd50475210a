"""Pictures one by one, as files hold them or out of one file of decoded ones that teacher, seeds and methods share."""

from __future__ import annotations

import io
import mmap
import os
import shutil
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from .._files import write_atomically
from ..pictures.heads import printable, sides_of, state_of
from .images import SHOWN, THREADS, Progress, View, read_bounded, read_image
from .labelled import digest

MAGIC = b"fractionate photos 1\n"
HEAD = struct.Struct("<21sQQI")  # magic, number of pictures, where the table of them begins, its checksum
ENTRY = struct.Struct("<QIII")  # of a picture: where it begins, height, width (0 x 0: cannot be read), checksum
ROOM = 1.05  # of the file's size that must be free
AT_ONCE = 256  # pictures that are decoded before they are written


@dataclass(frozen=True)
class Bounded:
    """Reads whole pictures, their shorter side at most ``bound`` pixels."""

    bound: int

    def __call__(self, path: Path) -> Tensor:
        """``[3, h, w]`` uint8."""
        return read_bounded(path, self.bound)

    def room(self, sides: tuple[int, int]) -> int:
        """Bytes of a picture of that height and width."""
        share = min(1.0, self.bound / max(1, min(sides)))
        return 3 * int(sides[0] * share + 1) * int(sides[1] * share + 1)


@dataclass(frozen=True)
class Squared:
    """Reads the middles of pictures, as a network is evaluated on them."""

    size: int
    view: View = field(default_factory=View)

    def __call__(self, path: Path) -> Tensor:
        """``[3, size, size]`` uint8."""
        return read_image(path, self.size, self.view)

    def room(self, sides: tuple[int, int]) -> int:
        """Bytes of a picture."""
        return 3 * self.size * self.size


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures by number; goes to worker processes as it is.

    Args:
        paths: their files.
        reader: what is read of each.
        kept: file of decoded ones, written by :func:`keep`; ``None`` decodes a picture whenever it is asked for.
        places: where each stands in that file, which may hold others too.
    """

    paths: Sequence[Path]
    reader: Bounded | Squared
    kept: Path | None = None
    places: Sequence[int] = ()
    _map: list[mmap.mmap] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getstate__(self) -> dict[str, object]:
        return {"paths": self.paths, "reader": self.reader, "kept": self.kept, "places": self.places, "_map": []}

    def __getitem__(self, i: int) -> Tensor:
        """``[3, h, w]`` uint8; errors as those of ``reader``."""
        if self.kept is None:
            return self.reader(self.paths[i])
        if not self._map:
            with open(self.kept, "rb") as file:
                self._map.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        whole = self._map[0]
        table = HEAD.unpack_from(whole)[2]
        start, height, width, checksum = ENTRY.unpack_from(whole, table + ENTRY.size * self.places[i])
        pixels = bytearray(whole[start : start + 3 * height * width])
        if not height or zlib.crc32(pixels) != checksum:
            return self.reader(self.paths[i])  # the file was damaged since it was written
        return torch.frombuffer(pixels, dtype=torch.uint8).reshape(height, width, 3).permute(2, 0, 1)  # resized faster


def keep(
    paths: Sequence[Path],
    reader: Bounded | Squared,
    cache: Path,
    *,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Path | None:
    """A file of decoded pictures: the one that is there, else it is written.

    It is known by the pictures' paths, sizes in bytes and times of change, by what is read of them and by the versions
    of the decoder. Pictures that cannot be read have an empty place in it.

    Args:
        paths: the pictures.
        reader: what is kept of each.
        cache: folder of such files.
        progress: told after every picture how many of how many are read.
        say: gets, before anything is written, a sentence with its size and place.

    Returns:
        The file; ``None``, with a warning, where the disk has no room for it.
    """
    file = cache / f"{_key(paths, reader)}.photos"
    if _whole(file, len(paths)):
        return file
    needed = _room(paths, reader)
    there = next(p for p in (cache, *cache.absolute().parents) if p.exists())
    if shutil.disk_usage(there).free < ROOM * needed:
        told = f"decoded pictures are not kept: about {needed / 1e9:.2g} GB are not free in {printable(cache)}"
        warnings.warn(told, stacklevel=3)
        return None
    if say:
        say(f"{len(paths):,} decoded pictures are kept for later runs: about {needed / 1e9:.2g} GB in {cache}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, lambda opened: _write(opened, paths, reader, progress))
    except OSError as error:
        warnings.warn(f"decoded pictures are not kept in {printable(cache)}: {error.strerror or error}", stacklevel=3)
        return None
    return file


def readable(
    paths: Sequence[Path], reader: Bounded | Squared, kept: Path | None, *, skip_broken: bool = False
) -> list[int]:
    """Numbers of the pictures that can be read; all of them are tried, unless a file of decoded ones tells.

    Raises:
        ValueError: one cannot, and ``skip_broken`` is off.

    Warns:
        UserWarning: how many were left out, and the first of them.
    """
    if kept is None and not skip_broken:
        return list(range(len(paths)))  # they are found when their turn comes
    broken = (
        _empty_places(kept, len(paths)) if kept else [i for i, x in enumerate(_decoded(paths, reader)) if x is None]
    )
    if not broken:
        return list(range(len(paths)))
    first = "; ".join(_why(paths[i], reader) for i in broken[:SHOWN])
    if not skip_broken:
        raise ValueError(f"{first.split('; ')[0]}; remove the file, or skip such files (data.skip_broken=true)")
    warnings.warn(f"skipped {len(broken)} of {len(paths)} images that cannot be read: {first}", stacklevel=3)
    left_out = set(broken)
    return [i for i in range(len(paths)) if i not in left_out]


def _why(path: Path, reader: Bounded | Squared) -> str:
    try:
        reader(path)
    except ValueError as error:
        return str(error)
    return f"{printable(path)} could not be read when the pictures were decoded"


def _decoded(paths: Sequence[Path], reader: Bounded | Squared) -> Iterator[Tensor | None]:
    """Every picture in turn, decoded by several threads; ``None`` for one that cannot be read."""

    def read(path: Path) -> Tensor | None:
        try:
            return reader(path)
        except ValueError:
            return None

    rest = iter(paths)
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        while some := list(islice(rest, AT_ONCE)):
            yield from pool.map(read, some)


def _write(
    opened: io.BufferedIOBase, paths: Sequence[Path], reader: Bounded | Squared, progress: Progress | None
) -> None:
    opened.write(bytes(HEAD.size))
    place, table = HEAD.size, bytearray()
    for i, image in enumerate(_decoded(paths, reader)):
        pixels = b"" if image is None else image.permute(1, 2, 0).contiguous().numpy().tobytes()
        height, width = (0, 0) if image is None else image.shape[1:]
        table += ENTRY.pack(place, height, width, zlib.crc32(pixels))
        opened.write(pixels)
        place += len(pixels)
        if progress:
            progress(i + 1, len(paths))
    opened.write(table)
    opened.seek(0)
    opened.write(HEAD.pack(MAGIC, len(paths), place, zlib.crc32(table)))


def _whole(file: Path, count: int) -> bool:
    """Whether a file of decoded pictures is there, complete, and its table undamaged."""
    try:
        magic, found, checksum, table = _table(file)
    except (OSError, struct.error, ValueError, OverflowError):
        return False
    return magic == MAGIC and found == count and len(table) == ENTRY.size * count and zlib.crc32(table) == checksum


def _empty_places(file: Path, count: int) -> list[int]:
    table = _table(file)[-1]
    return [i for i in range(count) if ENTRY.unpack_from(table, ENTRY.size * i)[1] == 0]


def _table(file: Path) -> tuple[bytes, int, int, bytes]:
    """Magic, number of pictures, checksum of the table, and the table."""
    with open(file, "rb") as opened:
        magic, found, place, checksum = HEAD.unpack(opened.read(HEAD.size))
        opened.seek(place)
        return magic, found, checksum, opened.read()


def _key(paths: Sequence[Path], reader: Bounded | Squared) -> str:
    import PIL

    files = [(str(path.absolute()), *state_of(path)) for path in paths]
    return digest(PIL.__version__, reader, files)


def _room(paths: Sequence[Path], reader: Bounded | Squared) -> int:
    """About how many bytes the pictures take, from the heads of some of them."""
    some = paths[:: max(1, len(paths) // 64)]
    sizes: list[int] = []
    for path in some:
        try:
            sizes.append(reader.room(sides_of(path)))
        except ValueError:
            continue
    return HEAD.size + len(paths) * (ENTRY.size + sum(sizes) // max(1, len(sizes)))
