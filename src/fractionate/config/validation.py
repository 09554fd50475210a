"""Plain data checked against :class:`Run`: what is wrong is said in one sentence that names the nearest key."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .._choices import unknown
from .method import Wrapper
from .optimizers import SGD, AdamW
from .run import Run
from .task import Classification, Detection, Segmentation

Kinds = Mapping[str, type]  # part of the config -> which of its kinds is meant
# The parts that may be of several kinds, told by their name, the usual kind first.
KINDS: dict[str, dict[object, type]] = {
    "optimizer": {"sgd": SGD, "adamw": AdamW},
    "task": {"classification": Classification, "segmentation": Segmentation, "detection": Detection},
}


def takes_text(path: str) -> bool:
    """Whether a field holds text and nothing else that could be written: a name, a path, or one of a few words.

    Example:
        >>> takes_text("teacher_table"), takes_text("data.root"), takes_text("epochs"), takes_text("no.such")
        (True, True, False, False)
    """
    found = _members(path) - {type(None)}
    return bool(found) and all(kind is str or isinstance(kind, str) for kind in found)


def worded(data: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The same data with ``off`` where a field has that word: YAML 1.1 reads it, unquoted, as false.

    Example:
        >>> worded({"teacher_table": False, "merge": False})
        {'teacher_table': 'off', 'merge': False}
    """
    return {key: _worded(value, f"{path}{key}") for key, value in data.items()}


def _worded(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        return worded(value, f"{path}.")
    words = ("on", "yes") if value is True else ("off", "no") if value is False else ()
    return next((word for word in words if word in _members(path)), value)


@functools.cache
def _members(path: str) -> frozenset[Any]:
    """What the annotation of a field names: classes, and the words themselves of a Literal."""
    *parents, last = path.split(".")
    found: set[Any] = set()
    most = max(map(len, KINDS.values()))
    for i in range(most):
        kinds = {part: list(of.values())[min(i, len(of) - 1)] for part, of in KINDS.items()}
        for member in _options(_hints(parents, kinds).get(last)):
            found.update(typing.get_args(member) if typing.get_origin(member) is Literal else [member])
    return frozenset(found) - {None}


def kinds_of(full: Mapping[str, Any], where: str) -> Kinds:
    """The kinds of optimizer and task that the data name.

    Raises:
        ValueError: there is none of that name.
    """
    found = {}
    for part, kinds in KINDS.items():
        usual, given = next(iter(kinds)), full.get(part)
        name = given.get("name", usual) if isinstance(given, dict) else usual
        if name not in kinds:
            raise ValueError(f"{where}: {unknown(f'{part}.name', str(name), [str(n) for n in kinds])}")
        found[part] = kinds[name]
    return found


def validated(text: str, kinds: Kinds, where: str) -> Run:
    """The run that JSON describes.

    Args:
        text: JSON.
        kinds: the kinds of optimizer and task that are meant.
        where: what to call it in an error.

    Raises:
        ValueError: an unknown key, or a value of a wrong type or out of range.
    """
    from pydantic import ValidationError

    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        errors = _of_kind(error.errors(), kinds)
        raise ValueError(f"{where}: {_explain(errors[0], kinds)}{_more(len(errors))}") from None


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Run)


def _of_kind(errors: Sequence[Mapping[str, Any]], kinds: Kinds) -> list[Mapping[str, Any]]:
    """Pydantic's errors without those of the kinds that were not meant, and without the names of the classes."""
    found: list[Mapping[str, Any]] = []
    for error in errors:
        place = error["loc"]
        if place[0:1] and place[0] in kinds and len(place) > 1:
            if place[1] != kinds[place[0]].__name__:
                continue
            error = {**error, "loc": (place[0], *place[2:])}
        found.append(error)
    return found


def _explain(error: Mapping[str, Any], kinds: Kinds) -> str:
    """One of pydantic's errors as a sentence."""
    place, wrong = error["loc"], error["type"]
    path = ".".join(str(key) for key in place)
    if wrong == "unexpected_keyword_argument":
        parent = [str(key) for key in place[:-1]]
        if deeper := [] if parent else _deeper(path, kinds):
            return f"unknown key {path!r}: did you mean {' or '.join(deeper)}?"
        of = KINDS.get(parent[0] if len(parent) == 1 else "", {})
        if other := [n for n, k in of.items() if place[-1] in k.__annotations__]:
            return f"unknown key {path!r}: it belongs to {parent[0]}.name={other[0]}"
        return unknown("key", path, [".".join([*parent, name]) for name in _fields(place[:-1], kinds)])
    if wrong == "value_error":
        return f"{path}: {error['ctx']['error']}" if path else str(error["ctx"]["error"])
    if wrong == "missing":
        return f"{path} is missing"
    return f"{path}: {error['msg'].replace('Input should be', 'expected')}, got {error['input']!r}"


def _more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""


def _deeper(name: str, kinds: Kinds) -> list[str]:
    """Where a field of that name lies, one level down."""
    return [f"{part.name}.{name}" for part in dataclasses.fields(Run) if name in _fields([part.name], kinds)]


def _fields(place: Sequence[int | str], kinds: Kinds) -> list[str]:
    """The fields that exist at a place of the config."""
    return list(_hints(place, kinds))


def _hints(place: Sequence[int | str], kinds: Kinds) -> dict[str, Any]:
    """The fields that exist at a place of the config, with their annotations."""
    here: Any = Run
    for key in place:
        if isinstance(key, int):
            here = Wrapper  # the only list of dataclasses
            continue
        if not dataclasses.is_dataclass(here):
            return {}
        hint = typing.get_type_hints(here).get(key)
        options = _options(hint)
        meant = kinds.get(str(key)) if here is Run else None
        here = meant or next((o for o in options if dataclasses.is_dataclass(o)), hint)
    if not dataclasses.is_dataclass(here):
        return {}
    hints = typing.get_type_hints(here)
    return {f.name: hints[f.name] for f in dataclasses.fields(here)}


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union; an annotation that is none stands alone."""
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
