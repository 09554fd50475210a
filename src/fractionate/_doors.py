"""Names of a package that are loaded when they are first asked for, so that nobody pays for what he does not use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def opened_late(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], list[str]]:
    """The ``__getattr__`` and ``__all__`` of a package (PEP 562).

    Args:
        package: its ``__name__``.
        homes: module inside it -> the names that are found there, with spaces between them.

    Example:
        >>> get, names = opened_late("fractionate.optim", {"sgd": "StreamSGD", "grads": "StreamGrads stream_grads"})
        >>> names, get("StreamSGD").__name__
        (['StreamGrads', 'StreamSGD', 'stream_grads'], 'StreamSGD')
    """
    home = {name: module for module, names in homes.items() for name in names.split()}

    def find(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    return find, sorted(home)
