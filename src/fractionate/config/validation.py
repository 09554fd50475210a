"""Plain data checked against :class:`Run`: what is wrong is said in one sentence that names the nearest key."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from .._choices import unknown
from .method import Wrapper
from .run import SGD, AdamW, Run

Kind = type[SGD | AdamW]
KINDS: dict[object, Kind] = {"sgd": SGD, "adamw": AdamW}


def optimizer_kind(full: Mapping[str, Any], where: str) -> Kind:
    """The optimizer that the data name.

    Raises:
        ValueError: there is none of that name.
    """
    optimizer = full.get("optimizer")
    name = optimizer["name"] if isinstance(optimizer, dict) else "sgd"
    if name not in ("sgd", "adamw"):
        raise ValueError(f"{where}: {unknown('optimizer.name', str(name), ['sgd', 'adamw'])}")
    return KINDS[name]


def validated(text: str, kind: Kind, where: str) -> Run:
    """The run that JSON describes.

    Args:
        text: JSON.
        kind: the optimizer that is meant.
        where: what to call it in an error.

    Raises:
        ValueError: an unknown key, or a value of a wrong type or out of range.
    """
    from pydantic import ValidationError

    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        errors = _of_kind(error.errors(), kind)
        raise ValueError(f"{where}: {_explain(errors[0], kind)}{_more(len(errors))}") from None


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Run)


def _of_kind(errors: Sequence[Mapping[str, Any]], kind: Kind) -> list[Mapping[str, Any]]:
    """Pydantic's errors without those of the optimizer that was not meant, and without the names of the classes."""
    found: list[Mapping[str, Any]] = []
    for error in errors:
        place = error["loc"]
        if place[:1] == ("optimizer",) and len(place) > 1:
            if place[1] != kind.__name__:
                continue
            error = {**error, "loc": (place[0], *place[2:])}
        found.append(error)
    return found


def words_at(path: Sequence[str]) -> tuple[str, ...]:
    """The words that a field chooses from; none where it takes other values.

    Example:
        >>> words_at(["teacher_table"]), words_at(["data", "augment"])[:2], words_at(["epochs"])
        (('off', 'lazy', 'full'), ('none', 'cutout'), ())
    """
    here: list[Any] = [Run]
    for key in path:
        hints = [typing.get_type_hints(one).get(key) for one in here if dataclasses.is_dataclass(one)]
        here = [option for hint in hints for option in (typing.get_args(hint) if _is_union(hint) else (hint,))]
    found = [word for one in here if typing.get_origin(one) is typing.Literal for word in typing.get_args(one)]
    return tuple(word for word in found if isinstance(word, str))


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType)


def _explain(error: Mapping[str, Any], kind: Kind) -> str:
    """One of pydantic's errors as a sentence."""
    place, wrong = error["loc"], error["type"]
    path = ".".join(str(key) for key in place)
    if wrong == "unexpected_keyword_argument":
        parent = [str(key) for key in place[:-1]]
        if deeper := [] if parent else _deeper(path, kind):
            return f"unknown key {path!r}: did you mean {' or '.join(deeper)}?"
        if parent == ["optimizer"] and (other := [n for n, k in KINDS.items() if place[-1] in k.__annotations__]):
            return f"unknown key {path!r}: it belongs to optimizer.name={other[0]}"
        return unknown("key", path, [".".join([*parent, name]) for name in _fields(place[:-1], kind)])
    if wrong == "value_error":
        return f"{path}: {error['ctx']['error']}" if path else str(error["ctx"]["error"])
    if wrong == "missing":
        return f"{path} is missing"
    return f"{path}: {error['msg'].replace('Input should be', 'expected')}, got {error['input']!r}"


def _more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""


def _deeper(name: str, kind: Kind) -> list[str]:
    """Where a field of that name lies, one level down."""
    return [f"{part.name}.{name}" for part in dataclasses.fields(Run) if name in _fields([part.name], kind)]


def _fields(place: Sequence[int | str], kind: Kind) -> list[str]:
    """The fields that exist at a place of the config."""
    here: Any = Run
    for key in place:
        if isinstance(key, int):
            here = Wrapper  # the only list of dataclasses
            continue
        hint = typing.get_type_hints(here)[key]
        options = typing.get_args(hint) if _is_union(hint) else (hint,)
        here = kind if kind in options else next((o for o in options if dataclasses.is_dataclass(o)), hint)
    return [f.name for f in dataclasses.fields(here)] if dataclasses.is_dataclass(here) else []
