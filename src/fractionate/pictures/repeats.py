"""Pictures that lie in two parts of a set: a network that was trained on them remembers them."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from .heads import printable

Place = Path | zipfile.Path
LOOKED, MANY = 1024, 200_000  # pictures to measure on, evenly spread; and to train on, beyond which none are compared
READ = 20_000  # files to train on that are read: those of the size of one to measure on


def told_repeated(train: Sequence[Place], measured: Sequence[Place]) -> str:
    """How many pictures to measure on are to train on as well, byte for byte, in words; empty where none was found.

    A look of seconds, not a proof that there are no others: :data:`LOOKED`, :data:`MANY` and :data:`READ` bound it.

    Example:
        >>> told_repeated([], [])
        ''
    """
    looked = measured[:: -(-len(measured) // LOOKED) or 1]
    by_size: dict[int, list[Place]] = {}
    for place in train if len(train) <= MANY else ():
        by_size.setdefault(_marks(place)[0], []).append(place)
    known: dict[int, dict[int, Place]] = {}  # those of a size, by checksum
    found = []
    for place in looked:
        size, checksum = _marks(place)
        if size < 1 or size not in by_size:
            continue
        if size not in known:
            if sum(map(len, known.values())) + len(by_size[size]) > READ:
                continue
            known[size] = {_marks(other, whole=True)[1]: other for other in by_size[size]}
        if other := known[size].get(checksum or _marks(place, whole=True)[1]):
            found.append((place, other))
    if not found:
        return ""
    some = "" if len(looked) == len(measured) else " that were looked at"
    base = os.path.commonpath([os.path.dirname(str(place)) for place in found[0]])
    one, same = (printable(os.path.relpath(str(place), base)) for place in found[0])
    return (
        f"{len(found):,} of {len(looked):,} pictures to measure on{some} {'is' if len(found) == 1 else 'are'} to train "
        f"on as well ({one} is {same}): what is remembered counts as recognised there; keep a picture in one part"
    )


def _marks(place: Place, whole: bool = False) -> tuple[int, int]:
    """As :func:`marks_of`; a file that is not there has none, and those who read it say so."""
    try:
        return marks_of(place, whole)
    except OSError:
        return -1, 0


def marks_of(place: Place, whole: bool) -> tuple[int, int]:
    """Size of a file in bytes, and its checksum where ``whole`` asks for it, else 0; a zip file knows both."""
    if not isinstance(place, Path):
        info = place.root.getinfo(place.at)
        return info.file_size, info.CRC
    return place.stat().st_size, zlib.crc32(place.read_bytes()) if whole else 0
