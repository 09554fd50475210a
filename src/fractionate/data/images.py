"""Image files into one tensor of bytes, by several threads."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

Progress = Callable[[int, int], None]
THREADS = 8
DEEP = ("I", "F")  # modes of more than 8 bits begin so; turned into bytes they would be cut off
SHOWN = 3  # unreadable files that a message names


def read_images(
    paths: Sequence[Path], size: int, *, skip_broken: bool = False, progress: Progress | None = None
) -> tuple[Tensor, list[int]]:
    """All images at one size: the shorter side is resized to ``size``, then the centre is cut out.

    Grey and palette images become RGB; the orientation that a camera wrote down is applied.

    Args:
        paths: the files.
        size: in pixels.
        skip_broken: leave out what cannot be read, with a warning that counts it.
        progress: told after every image how many of how many are read.

    Returns:
        ``[m, 3, size, size]`` uint8, and the positions in ``paths`` of these images.

    Raises:
        ValueError: a file cannot be read, or together they need more memory than there is.
    """
    _check_memory(len(paths), size)
    images = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)

    def read(i: int) -> str | None:
        try:
            images[i] = read_image(paths[i], size)
        except ValueError as error:
            return str(error)
        return None

    errors: dict[int, str] = {}
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        for i, error in enumerate(pool.map(read, range(len(paths)))):
            if error is not None and not skip_broken:
                pool.shutdown(cancel_futures=True)
                raise ValueError(f"{error}; remove the file, or skip such files (data.skip_broken=true)")
            errors |= {} if error is None else {i: error}
            if progress:
                progress(i + 1, len(paths))
    if not errors:
        return images, list(range(len(paths)))
    first = "; ".join(list(errors.values())[:SHOWN])
    warnings.warn(f"skipped {len(errors)} of {len(paths)} images that cannot be read: {first}", stacklevel=3)
    kept = [i for i in range(len(paths)) if i not in errors]
    return images[kept], kept


def read_image(path: Path, size: int) -> Tensor:
    """One image, ``[3, size, size]`` uint8.

    Raises:
        ValueError: it cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            if opened.mode.startswith(DEEP):
                raise ValueError(f"mode {opened.mode} has more than 8 bits per channel")
            image = ImageOps.exif_transpose(opened).convert("RGB")
        short = min(image.size)
        if short != size:
            width, height = (size if x == short else int(size * x / short) for x in image.size)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    left, top = (round((x - size) / 2) for x in image.size)
    pixels = image.crop((left, top, left + size, top + size)).tobytes()
    return torch.frombuffer(bytearray(pixels), dtype=torch.uint8).reshape(size, size, 3).permute(2, 0, 1)


def short_side(paths: Sequence[Path]) -> int:
    """Shorter side of the first image that can be opened, in pixels.

    Raises:
        ValueError: none can.
    """
    from PIL import Image

    for path in paths:
        try:
            with Image.open(path) as image:
                return min(image.size)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue
    raise ValueError(f"none of {len(paths)} images can be read, the first being {paths[0]}")


def _check_memory(count: int, size: int) -> None:
    """Refuse more than half of the memory: the training set makes a copy of the images with their borders."""
    needed, there = 3 * size * size * count, memory()
    if there is not None and 2 * needed > there:
        raise ValueError(
            f"{count} images of {size} x {size} pixels need {2 * needed / 2**30:.1f} GiB while they are loaded, and "
            f"this machine has {there / 2**30:.1f} GiB: choose a smaller size (data.size), or take fewer images"
        )


def memory() -> int | None:
    """Bytes of memory that this process may use; ``None`` where the system does not say."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    return min(physical, int(allowed)) if allowed.isdigit() else physical
