"""One process at a time in a run folder."""

from __future__ import annotations

import contextlib
import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK, HOLDER = ".lock", ".holder"  # two files: some releases of filelock empty the first when they only ask
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # as some network file systems answer


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if it is not there; the system lets go of it however the process ends.

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
    from filelock import FileLock, Timeout

    made = [p for p in (folder, *folder.parents) if not p.exists()]
    path = folder / LOCK
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _hold(lock, folder)
    except Timeout as error:
        raise ValueError(
            f"another process ({_holder(folder)}) is writing to {folder}; wait for it, or choose another folder"
        ) from error
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
        (folder / HOLDER).unlink(missing_ok=True)
        path.unlink(missing_ok=True)  # before it is let go: who opens it later than this takes a new file
        lock.release()
        _remove_empty(made)


def _hold(lock: BaseFileLock, folder: Path) -> None:
    """Take the lock, and leave a word on who has it."""
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        warnings.warn(f"{folder} cannot be locked ({error}); start no second run in it", stacklevel=4)
    (folder / HOLDER).write_text(f"{os.getpid()}\n", encoding="ascii")


def _holder(folder: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (folder / HOLDER).read_text(encoding="ascii").strip() or "unknown"
    return "unknown"


def _remove_empty(made: list[Path]) -> None:
    """Folders that were made here and in which nothing came to be."""
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()
