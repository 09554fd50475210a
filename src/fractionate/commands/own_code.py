"""Code of a user's own: what was named on this user's command line once need not be allowed again."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path

from .._files import cache_folder


def remember(*names: str | None) -> None:
    """Keep the digests of the files in which functions lie that were named on the command line.

    Args:
        names: of networks, as :func:`fractionate.models.create` takes them; others than functions are passed over.
    """
    for name in names:
        if name and (mark := _mark(name)):
            with contextlib.suppress(OSError):  # then the next command asks for --own-code
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()


def named_in(changes: Iterable[str]) -> list[str]:
    """The networks that ``field=value`` names.

    Example:
        >>> named_in(["student=mine:net", "teacher.name=resnet8", "epochs=3"])
        ['mine:net', 'resnet8']
    """
    said = [change.partition("=") for change in changes]
    return [value.strip() for field, _, value in said if field.strip().removesuffix(".name") in ("student", "teacher")]


def remembered(name: str) -> bool:
    """Whether the file in which a function lies is, to the byte, one that was named on the command line before."""
    mark = _mark(name)
    return mark is not None and mark.is_file()


def check_own_code(folder: Path, allowed: bool) -> None:
    """Refuse a run whose config has code of its own run, unless that is allowed: it may be somebody else's.

    Code that was named on this user's command line before, unchanged since, needs no permission.

    Args:
        folder: run folder.
        allowed: by ``--own-code``.

    Raises:
        ValueError: it names such a function, which the message shows.
    """
    from ..models import is_own_code
    from ..runs.folder import RunFolder

    target = RunFolder(folder)
    if not (folder / "config.yaml").is_file():
        target.summary()  # says that there is no finished run
    run = target.config()
    named = [network.name for network in (run.student, run.teacher) if network and is_own_code(network.name)]
    unknown = [name for name in named if not remembered(name)]
    if unknown and not allowed:
        raise ValueError(
            f"the config in {folder} builds its network by the function {unknown[0]}, whose code would be run: look "
            f"at it, then repeat the command with --own-code"
        )


def _mark(name: str) -> Path | None:
    from ..models import code_of

    if (file := code_of(name)) is None:
        return None
    with contextlib.suppress(OSError):
        return cache_folder() / "own-code" / hashlib.sha256(file.read_bytes()).hexdigest()
    return None
