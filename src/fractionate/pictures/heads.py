"""Where a picture's bytes are, what its head tells without decoding it, and words about pictures; no torch."""

from __future__ import annotations

import errno
import functools
import io
import mmap
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

LARGEST = 224  # pixels that are taken where no size is given: what most networks for photos are made for
# Read where Pillow, or a plug-in that was loaded before, reads them; nothing that runs another program to be shown.
FORMATS = (
    *("JPEG", "MPO", "PNG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM", "TGA", "AVIF", "JPEG2000", "PCX", "ICO", "PSD"),
    *("QOI", "SGI", "HEIF", "JXL"),
)
TAR = ".tar"  # of an archive, whose members have paths behind its own: train/00.tar/cat-1.jpg
OPEN = 64  # archives that are mapped at once
PLUGINS = {".heic": "pillow-heif", ".heif": "pillow-heif", ".jxl": "pillow-jxl-plugin"}
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # the machine's trouble, not the picture's


def opened(path: Path) -> Path | io.BytesIO:
    """What Pillow opens: the file, or the bytes of a member of an archive."""
    return path if archive_of(path) is None else io.BytesIO(content(path))


def content(path: Path) -> bytes:
    """The bytes of a file, or of a member of an archive."""
    tar = archive_of(path)
    if tar is None:
        return path.read_bytes()
    start, size = _place(path, tar)
    return _mapped(tar, _stamp(tar))[start : start + size]


def state_of(path: Path) -> tuple[int, int, int]:
    """Size in bytes, and times of writing and of any change in ns, the second of which no copy sets back.

    Of a member the times are those of its archive.
    """
    tar = archive_of(path)
    told = (tar or path).stat()
    return told.st_size if tar is None else _place(path, tar)[1], told.st_mtime_ns, told.st_ctime_ns


def archive_of(path: Path) -> Path | None:
    """The archive in which a path lies, if it lies in one."""
    if TAR not in str(path):
        return None
    return next((p for p in path.parents if p.suffix == TAR and _stamp(p)), None)


def look_again() -> None:
    """Archives may have changed since they were read."""
    _stamp.cache_clear()


def members(tar: Path) -> Mapping[str, tuple[int, int]]:
    """Where every file of an archive begins, and its size in bytes; read once, from the archive's headers alone.

    Raises:
        ValueError: it is no archive, packed, or cut off.
    """
    return _members(tar, _stamp(tar))


def _place(path: Path, tar: Path) -> tuple[int, int]:
    name = path.relative_to(tar).as_posix()
    if name not in members(tar):
        raise FileNotFoundError(errno.ENOENT, f"{printable(tar)} holds no {printable(name)}")
    return members(tar)[name]


Stamp = tuple[int, int] | None


@functools.cache
def _stamp(tar: Path) -> Stamp:
    """Size and time of change; ``None`` where no such file is."""
    return ((told := tar.stat()).st_size, told.st_mtime_ns) if tar.is_file() else None


@functools.lru_cache(OPEN)
def _mapped(tar: Path, _: Stamp) -> mmap.mmap:
    with open(tar, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


@functools.cache
def _members(tar: Path, _: Stamp) -> Mapping[str, tuple[int, int]]:
    try:
        with tarfile.open(tar, "r:") as archive:
            files = [member for member in archive if member.isreg() and not member.sparse]
    except (tarfile.TarError, EOFError) as error:
        told = "pack it again as a plain .tar, which is neither compressed nor cut off"
        raise ValueError(f"{printable(tar)} cannot be read as an archive ({printable(error)}): {told}") from error
    return {PurePosixPath(member.name).as_posix(): (member.offset_data, member.size) for member in files}


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
        with Image.open(opened(path), formats=formats()) as image:
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


def told_unread(unread: Iterable[Path]) -> str:
    """How many files are left out, by their endings, and what helps; empty where there is none.

    Example:
        >>> told_unread([Path("cat/1.svg"), Path("cat/2.SVG"), Path("dog/1.heic")])
        '3 files are no pictures that can be read here and are left out: 2 .svg, 1 .heic (pip install pillow-heif),
        for example cat/1.svg'
    """
    unread = list(unread)
    if not unread:
        return ""
    count = Counter(path.suffix.lower() or "without ending" for path in unread).most_common()
    kinds = [f"{n} {printable(e)}" + (f" (pip install {PLUGINS[e]})" if e in PLUGINS else "") for e, n in count]
    more = f" and {len(kinds) - 5} other endings" if len(kinds) > 5 else ""
    one = len(unread) == 1
    are = (
        "file is no picture that can be read here and is"
        if one
        else "files are no pictures that can be read here and are"
    )
    example = printable(Path(*unread[0].parts[-2:]))
    return f"{len(unread)} {are} left out: {', '.join(kinds[:5])}{more}, for example {example}"


def told_loose(folder: Path, names: Sequence[str]) -> str:
    """That pictures lie beside the folders of the classes.

    Example:
        >>> told_loose(Path("my"), ["a.jpg"])
        'my: 1 picture lies beside the folders of the classes, without a class, and is left out (a.jpg)'
    """
    one = len(names) == 1
    lie, are = ("1 picture lies", "is") if one else (f"{len(names)} pictures lie", "are")
    some = ", ".join(map(printable, names[:3]))
    return f"{printable(folder)}: {lie} beside the folders of the classes, without a class, and {are} left out ({some})"


def told_groups(groups: Mapping[str, Sequence[str]]) -> str:
    """That folders inside of a folder are taken for one class; nothing where there are none.

    Example:
        >>> told_groups({"pets": ["cat", "dog"], "things": ["car", "cup"]})
        'pets (cat, dog) and 1 more: the folders inside are one class; if they are the classes, lay them side by side'
    """
    if not groups:
        return ""
    name, inner = next(iter(groups.items()))
    some = ", ".join([*map(printable, inner[:3]), *(["..."] if len(inner) > 3 else [])])
    more = f" and {len(groups) - 1} more" if len(groups) > 1 else ""
    what = "the folders inside are one class; if they are the classes, lay them side by side"
    return f"{printable(name)} ({some}){more}: {what}"


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
