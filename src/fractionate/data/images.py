"""Image files into one tensor of bytes, by several threads."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..pictures.heads import check_machine, formats, memory, opened, printable

if TYPE_CHECKING:
    from PIL import Image

Progress = Callable[[int, int], None]
THREADS = 8
DEEP = ("I", "F")  # modes of more than 8 bits begin so; turned into bytes they would be cut off
SHOWN = 3  # unreadable files that a message names
ORIENTATION = 0x0112
LONG = 16  # times the shorter side, from which a picture is cut out while it is scaled, not afterwards


def read_images(
    paths: Sequence[Path], size: int, *, skip_broken: bool = False, progress: Progress | None = None
) -> tuple[Tensor, list[int]]:
    """All images at one size: the shorter side is resized to ``size``, then the centre is cut out.

    Grey and palette images become RGB; the orientation that a camera wrote down is applied; of several frames or pages
    the first is taken.

    Args:
        paths: the files.
        size: in pixels.
        skip_broken: leave out what cannot be read, with a warning that counts it.
        progress: told after every image how many of how many are read.

    Returns:
        ``[m, 3, size, size]`` uint8, and the positions in ``paths`` of these images.

    Raises:
        ValueError: a file cannot be read, or together they need more memory than there is.
        MemoryError: memory ran out on the way.
        OSError: too many files are open.
    """
    check_memory(len(paths), size)
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


def read_image(path: Path, size: int, view: View | None = None) -> Tensor:
    """One image, ``[3, size, size]`` uint8: resized, and the centre cut out.

    Args:
        path: the file.
        size: in pixels.
        view: how it is shown; by default as :func:`read_images` does.

    Raises:
        ValueError: it cannot be read.
        MemoryError: there is not enough memory for it; that is not the picture's fault.
        OSError: too many files are open; likewise.
    """
    return as_tensor(_whole(path, lambda image: _square(image, size, view or View())))


def read_bounded(path: Path, bound: int) -> Tensor:
    """A whole image, ``[3, h, w]`` uint8, its shorter side at most ``bound`` pixels; errors as :func:`read_image`.

    A JPEG that is at least twice as large is decoded at a half, a quarter or an eighth of its size, which costs less.
    What comes out depends on the file and on ``bound`` alone.
    """
    return as_tensor(_whole(path, lambda image: _bounded(image, bound), draft=bound))


def as_tensor(image: Image.Image) -> Tensor:
    """``[3, h, w]`` uint8."""
    width, height = image.size
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.reshape(height, width, 3).permute(2, 0, 1)


@dataclass(frozen=True)
class View:
    """How a picture is resized before the middle of it is cut out.

    Args:
        crop_pct: share of the resized picture's shorter side that is cut out.
        interpolation: ``"bilinear"`` or ``"bicubic"``, both with antialiasing.
    """

    crop_pct: float = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


def _whole(path: Path, change: Callable[[Image.Image], Image.Image], draft: int | None = None) -> Image.Image:
    """A picture in RGB, upright, and changed; whatever is wrong with it is said in words."""
    from PIL import Image

    try:
        with Image.open(opened(path), formats=formats()) as found:
            check_depth(found)
            if draft:
                found.draft(None, (draft, draft))
            image = upright(found)
            if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
                image = image.convert("RGBA")  # Pillow asks for it
            return change(image.convert("RGB"))
    except MemoryError as error:
        raise MemoryError(f"memory ran out while {printable(path)} was read; close other programs") from error
    except Exception as error:  # a damaged file raises nearly anything
        check_machine(error, path)
        raise ValueError(f"{printable(path)} cannot be read: {printable(error)}") from error


def check_depth(image: Image.Image) -> None:
    """Refuse a picture of more than 8 bits per channel.

    Raises:
        ValueError: it is one.
    """
    if image.mode.startswith(DEEP):
        raise ValueError(f"mode {image.mode} has more than 8 bits per channel")


def _square(image: Image.Image, size: int, view: View) -> Image.Image:
    from PIL import Image

    short, wanted = min(image.size), int(size / view.crop_pct + 1e-6)
    how = Image.Resampling[view.interpolation.upper()]
    if max(image.size) > LONG * short:
        return _cut_while_scaled(image, size, view.crop_pct, how)
    if short != wanted:
        width, height = (wanted if x == short else int(wanted * x / short) for x in image.size)
        image = image.resize((width, height), how)
    left, top = (round((x - size) / 2) for x in image.size)
    return image.crop((left, top, left + size, top + size))


def _bounded(image: Image.Image, bound: int) -> Image.Image:
    from PIL import Image

    short = min(image.size)
    if max(image.size) > LONG * short:
        return _cut_while_scaled(image, min(bound, short), 1.0, Image.Resampling.BILINEAR)
    if short > bound:
        width, height = (bound if x == short else int(bound * x / short) for x in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image


def _cut_while_scaled(image: Image.Image, size: int, share: float, how: Image.Resampling) -> Image.Image:
    """The same centre of a very thin picture, without scaling what is cut off: a 1 x 60000 one would need gigabytes."""
    side = share * min(image.size)
    left, top = ((x - side) / 2 for x in image.size)
    return image.resize((size, size), how, box=(left, top, left + side, top + side))


def upright(image: Image.Image) -> Image.Image:
    """The picture as its camera was held; as it lies where what a camera wrote down is damaged."""
    from PIL import Image

    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    image.load()  # a PNG may tell it at the end
    orientation = orientation_of(image)
    return image.transpose(turned[orientation]) if orientation in turned else image


def orientation_of(image: Image.Image) -> int:
    """1 to 8 as EXIF numbers them; 1 where nothing can be made of what is written."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # a damaged block raises nearly anything, and the picture is whole
        return 1
    return found if isinstance(found, int) else 1


def check_memory(count: int, size: int) -> None:
    """Refuse more than half of the memory: the training set makes a copy of the images with their borders."""
    needed, there = 3 * size * size * count, memory()
    if there is not None and 2 * needed > there:
        fits = int((there / (6 * count)) ** 0.5)
        raise ValueError(
            f"{count} images of {size} x {size} pixels need {2 * needed / 2**30:.1f} GiB while they are loaded, and "
            f"this machine has {there / 2**30:.1f} GiB: choose a smaller size (data.size, here at most {fits}), take "
            f"fewer images, or let processes load them while training goes on (data.workers=N)"
        )
