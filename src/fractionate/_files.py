"""Files that are whole or not there, and paths as people write them."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

CACHE = "FRACTIONATE_CACHE"


def expanded(path: str | Path) -> Path:
    """A path whose ``~`` is the home folder; shells leave it in ``--data=~/photos``, and files always do.

    Example:
        >>> expanded("a/~b").as_posix(), expanded("~/photos") == Path("~/photos")
        ('a/~b', False)
    """
    return Path(os.path.expanduser(path))  # leaves the ~ of somebody unknown, where Path.expanduser raises


def cache_folder() -> Path:
    """Where what later runs use again is kept: the environment variable FRACTIONATE_CACHE, else ``~/.cache``.

    Raises:
        OSError: the variable is not set, and this user has no home, as in some containers.
    """
    named = os.environ.get(CACHE)
    if not named and not expanded("~").is_absolute():
        raise OSError(f"this user has no home folder; the environment variable {CACHE} names a place for kept files")
    return expanded(named or "~/.cache/fractionate")


def why_not(path: Path, error: OSError) -> str:
    """Why a file cannot be written; a folder that went away meanwhile is named, which is the usual reason.

    Example:
        >>> why_not(Path("nowhere/at/all"), OSError(2, "No such file or directory"))
        'its folder nowhere/at is not there: was it moved or removed?'
    """
    if not path.parent.is_dir():
        return f"its folder {path.parent} is not there: was it moved or removed?"
    return (error.strerror or str(error)).lower()


def write_atomically(
    path: Path, content: bytes | str | Callable[[io.BufferedIOBase], None], keep: Path | None = None
) -> None:
    """Write next to ``path``, force to disk, rename: a reader sees the old file or the new one, never a part.

    A link stays, and the file that it leads to is written. What is no file but a device or a pipe (``/dev/stdout``) is
    written to, never replaced.

    Args:
        path: file.
        content: all of it, or a function that writes it.
        keep: what the old file is renamed to; otherwise it is gone.

    Raises:
        OSError: the file cannot be written; what was there before is unchanged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically(Path(folder) / "a.txt", "whole")
        ...     [f.name for f in Path(folder).iterdir()]
        ['a.txt']
    """
    temporary: Path | None = None
    try:
        path = _followed(path)
        if path.exists() and not (path.is_file() or path.is_dir()):
            with path.open("wb") as file:
                _write(content, file)
            return
        temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}-{threading.get_ident()}.tmp")
        with temporary.open("wb") as file:
            _write(content, file)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(f"cannot write {path}: {why_not(path, error)}; what was there before is unchanged") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):  # what was wrong with the folder has been said
                temporary.unlink(missing_ok=True)


def _followed(path: Path) -> Path:
    """Where a link leads to, also to a file that is not there yet.

    Raises:
        OSError: it leads in a circle.
    """
    if path.is_symlink():
        with contextlib.suppress(FileNotFoundError):
            path.stat()
        return Path(os.path.realpath(path))
    return path


def _write(content: bytes | str | Callable[[io.BufferedIOBase], None], file: io.BufferedIOBase) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content.encode() if isinstance(content, str) else content)


def _sync_folder(folder: Path) -> None:
    """Force the renaming itself to disk, where folders can be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
