"""One process at a time in a run folder."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system without such locks
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if it is not there; the kernel lets go of it however the process ends.

    Raises:
        ValueError: another process holds it.
        OSError: it cannot be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with locked(Path(folder)), locked(Path(folder)):
        ...         pass
        Traceback (most recent call last):
        ...
        ValueError: another process (...) is writing to ...
    """
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _hold(path)
    except OSError as error:
        _remove_empty(made)
        why = (error.strerror or str(error)).lower()
        raise OSError(f"cannot write to {folder}: {why}; choose another folder") from error
    except BaseException:
        _remove_empty(made)
        raise
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        _remove_empty(made)


def _hold(path: Path) -> int:
    """The open lock file. A file that its holder has removed meanwhile is no lock: then once more."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _take(descriptor, path)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    os.truncate(descriptor, 0)
                    os.write(descriptor, f"{os.getpid()}\n".encode())
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    if not HAS_LOCKS:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip()
        raise ValueError(
            f"another process ({holder or 'unknown'}) is writing to {path.parent}; "
            f"wait for it, or choose another folder"
        ) from error
    except OSError as error:  # some network file systems
        warnings.warn(f"{path.parent} cannot be locked ({error}); start no second run in it", stacklevel=2)


def _remove_empty(made: list[Path]) -> None:
    """Folders that were made here and in which nothing came to be."""
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()
