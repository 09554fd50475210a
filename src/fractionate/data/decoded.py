"""Decoded pictures kept on disk, so that a teacher, seeds and methods decode them once; mapped into memory, shared."""

from __future__ import annotations

import io
import shutil
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .._files import write_atomically
from ..pictures.heads import printable, state_of
from .images import Progress, read_images
from .labelled import digest

MAGIC = b"fractionate pixels 1\n"
HEAD = struct.Struct("<21sQQI")  # magic, pictures that were read, pictures that were asked for, checksum of the rest
CHUNK = 2**26
ROOM = 1.05  # of the file's size that must be free


def read_kept(
    paths: Sequence[Path],
    size: int,
    cache: Path,
    *,
    skip_broken: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Tensor, list[int]]:
    """As :func:`read_images`, out of a file of decoded pictures where one is there, else with such a file written.

    A file is known by the pictures' paths, sizes in bytes and times of change, by ``size`` and by Pillow's version. One
    that is damaged is written again. Where the disk has no room, the pictures are only decoded.

    Args:
        paths: the files.
        size: in pixels.
        cache: folder of such files.
        skip_broken: as that of :func:`read_images`.
        progress: likewise.
        say: gets, before anything is written, a sentence with its size and place.

    Returns:
        As :func:`read_images`; the images are a private mapping of the file.
    """
    file = cache / f"{_key(paths, size, skip_broken)}.pixels"
    if (kept := _mapped(file, len(paths), size)) is not None:
        if left_out := len(paths) - len(kept[1]):
            warnings.warn(
                f"skipped {left_out} of {len(paths)} images, which an earlier run could not read", stacklevel=3
            )
        return kept
    needed = len(paths) * (3 * size * size + 8) + HEAD.size
    there = next(p for p in (cache, *cache.absolute().parents) if p.exists())
    if roomy := shutil.disk_usage(there).free > ROOM * needed:
        (say or _silent)(f"{len(paths):,} decoded pictures are kept for later runs: {needed / 1e9:.2g} GB in {cache}")
    images, index = read_images(paths, size, skip_broken=skip_broken, progress=progress)
    if not roomy:
        told = f"decoded pictures are not kept: {needed / 1e9:.2g} GB are not free in {printable(cache)}"
        warnings.warn(told, stacklevel=3)
        return images, index
    try:
        _write(file, images, index, len(paths))
    except OSError as error:
        warnings.warn(f"decoded pictures are not kept in {printable(cache)}: {error.strerror or error}", stacklevel=3)
    return images, index


def _silent(text: str) -> None:
    """Nobody listens."""


def _key(paths: Sequence[Path], size: int, skip_broken: bool) -> str:
    import PIL

    files = [(str(path.absolute()), *state_of(path)) for path in paths]
    return digest(PIL.__version__, size, skip_broken, files)


def _mapped(file: Path, asked: int, size: int) -> tuple[Tensor, list[int]] | None:
    """What a whole file holds; ``None`` where it is not there or damaged."""
    try:
        with open(file, "rb") as opened:
            magic, count, total, checksum = HEAD.unpack(opened.read(HEAD.size))
        pixels = 3 * size * size * count
        if magic != MAGIC or total != asked or count > asked or file.stat().st_size != HEAD.size + pixels + 8 * count:
            return None
        whole = torch.from_file(str(file), shared=False, size=file.stat().st_size, dtype=torch.uint8)[HEAD.size :]
    except (OSError, struct.error, RuntimeError):
        return None
    if _checksum(whole) != checksum:
        return None
    index = torch.frombuffer(bytearray(whole[pixels:].numpy()), dtype=torch.int64) if count else torch.zeros(0).long()
    return whole[:pixels].view(count, 3, size, size), index.tolist()


def _write(file: Path, images: Tensor, index: list[int], asked: int) -> None:
    parts = [images.reshape(-1), torch.tensor(index, dtype=torch.int64).view(torch.uint8)]
    checksum = 0
    for part in parts:
        checksum = _checksum(part, checksum)

    def write(opened: io.BufferedIOBase) -> None:
        opened.write(HEAD.pack(MAGIC, len(images), asked, checksum))
        for part in parts:
            opened.write(part.numpy().data)

    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, write)


def _checksum(data: Tensor, start: int = 0) -> int:
    for some in data.split(CHUNK):
        start = zlib.crc32(some.numpy().data, start)
    return start
