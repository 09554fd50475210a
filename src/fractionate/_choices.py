"""One sentence for a wrong name: what was given, what exists, what is nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(kind: str, given: object, choices: Iterable[str]) -> str:
    """The message for a name that is not among ``choices``.

    Example:
        >>> unknown("method", "dkdd", ["kd", "dkd"])
        "unknown method 'dkdd': did you mean 'dkd'? Known: kd, dkd"
    """
    names = list(choices)
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f" did you mean '{near[0]}'?" if near else ""
    return f"unknown {kind} {str(given)!r}:{hint} Known: {', '.join(names)}"


def choose(kind: str, given: str, choices: Iterable[str]) -> str:
    """Return ``given`` if it is one of ``choices``; else raise a ``ValueError`` naming the nearest."""
    names = list(choices)
    if given not in names:
        raise ValueError(unknown(kind, given, names))
    return given
