"""What a picture's head tells, read by Pillow without decoding it, and words about pictures; no torch."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

LARGEST = 224  # pixels that are taken where no size is given: what most networks for photos are made for
# Read where Pillow, or a plug-in that was loaded before, reads them; nothing that runs another program to be shown.
FORMATS = (
    *("JPEG", "MPO", "PNG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM", "TGA", "AVIF", "JPEG2000", "PCX", "ICO", "PSD"),
    *("QOI", "SGI", "HEIF", "JXL"),
)
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # the machine's trouble, not the picture's


def side_of(path: Path) -> int:
    """Shorter side of a picture in pixels, from its head alone; errors as :func:`sides_of`."""
    return min(sides_of(path))


def sides_of(path: Path) -> tuple[int, int]:
    """Height and width of a picture in pixels, from its head alone.

    Raises:
        ValueError: it is none.
        OSError: too many files are open.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=formats()) as image:
            return image.size[1], image.size[0]
    except MemoryError:
        raise
    except Exception as error:
        check_machine(error, path)
        raise ValueError(f"{printable(path)} cannot be read: {printable(error)}") from error


def short_side(paths: Sequence[Path]) -> int:
    """Shorter side of the first image that can be opened, in pixels.

    Raises:
        ValueError: none can.
    """
    for path in paths:
        try:
            return side_of(path)
        except ValueError:
            continue
    raise ValueError(f"none of {len(paths)} images can be read, the first being {printable(paths[0])}")


def suffixes() -> tuple[str, ...]:
    """Endings of the files that are read as pictures, in small letters."""
    from PIL import Image, features

    known = set(formats())
    if features.check("avif") is False:
        known.discard("AVIF")
    return tuple(sorted(e for e, form in Image.registered_extensions().items() if form in known))


def formats() -> tuple[str, ...]:
    """Names of the formats that are read here."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def printable(text: object) -> str:
    r"""Words that every terminal can show: bytes that are no UTF-8, and control characters, are written out.

    Example:
        >>> printable("caf\udce9 \x1b[31m")
        'caf\\xe9 \\x1b[31m'
    """
    whole = str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in whole)


def check_machine(error: Exception, path: Path) -> None:
    """Pass on what says nothing about the picture."""
    if isinstance(error, OSError) and error.errno in FULL:
        told = (
            f"{os.strerror(error.errno)} while {printable(path)} was read; raise the limit (ulimit -n) or close files"
        )
        raise OSError(error.errno, told) from error


def memory() -> int | None:
    """Bytes of memory that this process may use; ``None`` where the system does not say."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")  # of a container
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    return min(physical, int(allowed)) if allowed.isdigit() else physical


def need_pillow() -> None:
    """Refuse to go on without Pillow."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise ImportError("reading images needs Pillow: pip install pillow") from error
