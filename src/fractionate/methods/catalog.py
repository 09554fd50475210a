"""The table of all methods and wrappers: the one place where names become functions.

Everything said about a method (title, formula, source, defaults) is read from its function, so it is written once.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._choices import unknown
from .deepkd import deepkd
from .dkd import dkd, dkd_top1
from .dot import dot
from .gdkd import gdkd, gdkd3
from .kd import kd
from .method import Method

METHODS: dict[str, Callable[..., Method]] = {
    "kd": kd,
    "dkd": dkd,
    "dkd_top1": dkd_top1,
    "gdkd": gdkd,
    "gdkd3": gdkd3,
}

WRAPPERS: dict[str, Callable[..., Method]] = {
    "dot": dot,
    "deepkd": deepkd,
}


@dataclass(frozen=True)
class Description:
    """What a list of methods says about one of them.

    Args:
        name: name on the command line.
        title: first line of the documentation.
        formula: the loss as printed there.
        source: arXiv id or repository.
        defaults: argument -> default.
        components: names of the components (empty for a wrapper).
        backward_passes: per step (0 for a wrapper).
        needs: requirements: labels, two views, the whole batch.
    """

    name: str
    title: str
    formula: str
    source: str
    defaults: dict[str, Any]
    components: tuple[str, ...]
    backward_passes: int
    needs: tuple[str, ...]


def find(name: str) -> Callable[..., Method]:
    """The function behind a name.

    Raises:
        ValueError: unknown name; the nearest one is named.
    """
    table = METHODS | WRAPPERS
    if name not in table:
        raise ValueError(unknown("method", name, table))
    return table[name]


def describe(name: str) -> Description:
    """Everything the table says about one method or wrapper.

    Example:
        >>> describe("dkd").components
        ('task', 'target', 'nontarget')
    """
    function = find(name)
    text = inspect.cleandoc(function.__doc__ or "")
    parameters = inspect.signature(function).parameters.values()
    method = function() if name in METHODS else None
    return Description(
        name=name,
        title=text.split("\n", 1)[0],
        formula=_formula(text),
        source=_source(text),
        defaults={p.name: p.default for p in parameters if p.default is not p.empty},
        components=tuple(method.parts) if method else (),
        backward_passes=method.backward_passes if method else 0,
        needs=_needs(method) if method else ("a method",),
    )


def _formula(text: str) -> str:
    """The lines before the arguments that hold an equation."""
    head = text.split("Args:", 1)[0]
    found = [block for block in re.split(r"\n\s*\n", head)[1:] if "=" in block or "<-" in block]
    return "\n".join(line.strip() for line in found[0].splitlines()) if found else ""


def _source(text: str) -> str:
    match = re.search(r"^Source: (.+?)(?:\n\s*\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return " ".join(match.group(1).split()) if match else ""


def _needs(method: Method) -> tuple[str, ...]:
    checks = (
        (method.needs_labels, "hard labels"),
        (method.views == 2, "two views"),
        (not method.row_wise, "the whole batch"),
    )
    return tuple(text for holds, text in checks if holds)
