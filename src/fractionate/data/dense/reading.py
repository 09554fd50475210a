"""Pictures and masks of a dense set, from files on disk or in a zip file; what is wrong with them is said in words."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...pictures.heads import check_machine, formats, printable
from ..images import check_depth, orientation_of, upright

if TYPE_CHECKING:
    from PIL import Image

Place = Path | zipfile.Path
Colour = tuple[int, int, int]
LOSSY = ("JPEG", "MPO")  # formats that change numbers a little, which a mask does not survive


def pixels_of(image: Place, mask: Place, size: tuple[int, int]) -> Tensor:
    """``[3, h, w]`` uint8 of an image, turned as its mask of that height and width was drawn.

    What a camera wrote down turns a picture. A mask says by its size, or by such a mark of its own, whether it was
    drawn before or after that; where it says nothing, programs show turned pictures.

    Warns:
        UserWarning: where the mask says nothing.
    """
    return read(image, partial(_rgb, mask=mask, size=size))


def values_of(mask: Place, colours: Collection[Colour] = ()) -> Tensor:
    """``[h, w]`` int64 as they stand in the file, or ``[h, w, 3]`` of a painted one.

    Args:
        mask: a file.
        colours: those that stand for classes. A file of a palette or of grey levels that shows one of them is painted:
            the numbers behind its colours are whatever the program chose that saved it.
    """
    return read(mask, partial(_values, colours=colours))


def check_palettes(masks: Sequence[Place]) -> None:
    """Refuse masks whose palettes give one number several colours: a program numbered the colours of every file anew.

    Palettes lie in the heads of the files. Only where they differ are pixels looked at, for the numbers in use.

    Raises:
        ValueError: two masks have a pixel of one number and of different colours.
    """
    palettes = [(mask, palette) for mask in masks if (palette := read(mask, _palette))]
    if _conflict((mask, _colours(palette)) for mask, palette in palettes) is None:
        return
    used = ((mask, _colours(palette, set(values_of(mask).unique().tolist()))) for mask, palette in palettes)
    if (found := _conflict(used)) is not None:
        first, second, number, one, other = found
        raise ValueError(
            f"{name(first)} and {name(second)} have palettes of their own, in which {number} is the colour {one} and "
            f"{other}, so that their numbers are no labels: put label_colors.txt with lines 'RED GREEN BLUE NAME' "
            f"beside the images, or save the labels themselves, as masks of mode L"
        )


def _palette(image: Image.Image) -> bytes:
    """Red, green and blue of every number; empty where the numbers stand for themselves."""
    if image.mode != "P" or image.palette is None:
        return b""
    plain = image.palette.rawmode == "RGB"
    return bytes(image.palette.palette if plain else image.getpalette() or ())  # the latter reads the pixels too


def _colours(palette: bytes, used: Collection[int] = range(256)) -> dict[int, Colour]:
    """The colours of numbers, as far as the palette goes."""
    rows = zip(palette[::3], palette[1::3], palette[2::3], strict=False)
    return {number: colour for number, colour in enumerate(rows) if number in used}


def _conflict(
    masks: Iterable[tuple[Place, Mapping[int, Colour]]],
) -> tuple[Place, Place, int, Colour, Colour] | None:
    """Two masks that disagree about a number, which one, and its colours."""
    seen: dict[int, tuple[Place, Colour]] = {}
    for mask, colours in masks:
        for number, colour in colours.items():
            first, known = seen.setdefault(number, (mask, colour))
            if known != colour:
                return first, mask, number, known, colour
    return None


def sides_of(image: Place, mask: Place) -> tuple[int, int]:
    """Height and width of a pair, from the heads of its files.

    Raises:
        ValueError: they differ, and turning the image as its camera wrote down does not change that.
    """
    found, wanted = (read(place, _size) for place in (image, mask))
    if found != wanted and not (found == wanted[::-1] and read(image, orientation_of) > 4):
        raise ValueError(other_size(mask, wanted, found))
    return wanted


def other_size(mask: Place, found: Sequence[int], wanted: Sequence[int]) -> str:
    """In words, that a mask has another size than its image."""
    return (
        f"{name(mask)} is {found[0]} x {found[1]} pixels and its image {wanted[0]} x {wanted[1]}; a mask needs the "
        f"size of its image"
    )


def name(place: Place) -> str:
    """A file's name for messages, with the folder that it lies in."""
    parts = str(place).replace(os.sep, "/").split("/")
    return printable("/".join(parts[-2:]))


def read(place: Place, take: Any) -> Any:
    """What ``take`` makes of an opened picture.

    Raises:
        ValueError: it cannot be read.
    """
    from PIL import Image

    try:
        with place.open("rb") as file, Image.open(file, formats=formats()) as image:
            return take(image)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file raises nearly anything
        if isinstance(place, Path):
            check_machine(error, place)
        raise ValueError(f"{name(place)} cannot be read: {printable(error)}") from error


def _size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return height, width


def _rgb(image: Image.Image, mask: Place, size: tuple[int, int]) -> Tensor:
    turned = upright(image)
    return rgb(image if turned is not image and _drawn_before(image, turned, mask, size) else turned)


def rgb(image: Image.Image) -> Tensor:
    """``[3, h, w]`` uint8 as it lies in the file, whatever a camera notes beside it.

    Raises:
        ValueError: more than 8 bits per channel.
    """
    check_depth(image)
    plain = image.convert("RGB")
    width, height = plain.size
    return torch.frombuffer(bytearray(plain.tobytes()), dtype=torch.uint8).reshape(height, width, 3).permute(2, 0, 1)


def _drawn_before(image: Image.Image, turned: Image.Image, mask: Place, size: tuple[int, int]) -> bool:
    """Whether a mask was drawn on the picture as it lies in the file."""
    if turned.size != image.size:
        return _size(image) == size
    if read(mask, orientation_of) == orientation_of(image):
        return True
    warnings.warn(
        "images are turned by a mark of their camera (EXIF), and masks do not say if they were drawn before or after "
        "that; they are taken as drawn on the turned images; if that is wrong, save the images without such marks",
        stacklevel=2,
    )
    return False


def _values(image: Image.Image, colours: Collection[Colour]) -> Tensor:
    import numpy as np

    if image.format in LOSSY:
        raise ValueError("a mask holds numbers, which JPEG changes; save masks as PNG, from what they were made of")
    if image.mode in ("RGB", "RGBA") or _shows(image, colours):
        return torch.from_numpy(np.asarray(image.convert("RGB")).astype(np.int64))
    if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise ValueError(f"a mask has one number per pixel, and mode {image.mode} is something else")
    return torch.from_numpy(np.asarray(image).astype(np.int64))


def _shows(image: Image.Image, colours: Collection[Colour]) -> bool:
    """Whether a picture of one number per pixel stands for these colours, by its palette or by levels of grey."""
    if image.mode not in ("1", "L", "P") or not colours:
        return False
    palette = image.getpalette() or []
    plain = all(level == i // 3 for i, level in enumerate(palette))  # what programs write beside numbers
    if plain and not all(r == g == b for r, g, b in colours):
        return False
    return any(colour in colours for _, colour in image.convert("RGB").getcolors(256) or ())
