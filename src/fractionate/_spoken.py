"""Arguments of a plainly wrong type, said in one sentence where a function fails over them.

Nothing is looked at while all goes well: a call that succeeds costs one more frame of Python.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")
FAULTS = (TypeError, AttributeError, LookupError, RuntimeError)
UNCLEAR = ("could not convert", "invalid literal", "not enough values", "too many values")  # of ValueErrors
WORDS = {int: "an integer", float: "a number", bool: "True or False", str: "a text", torch.Tensor: "a tensor"}
SHOWN = 300  # characters of somebody else's message
OWN, TORCH = (str(Path(path).parent) for path in (__file__, torch.__file__))


class WrongType(ValueError):
    """A sentence that the functions outside may say better: what they were given is what the user wrote."""


def spoken(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which names an argument of a wrong type if it fails over one.

    Raises:
        ValueError: naming the argument, what it should be and what came. Any other failure stays as it is.

    Example:
        >>> @spoken
        ... def half(x: float) -> float:
        ...     return x / 2
        >>> try:
        ...     half("one")
        ... except ValueError as error:
        ...     print(error)
        half: x must be a number, got the text 'one'
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except (*FAULTS, ValueError) as error:
            if unclear(error) and (said := wrong(function, args, kwargs)) is not None:
                raise WrongType(said) from error
            raise

    return call


def unclear(error: Exception) -> bool:
    """Whether an exception may speak of something that the user did not write: Python's words, an inner function's."""
    return not isinstance(error, ValueError) or isinstance(error, WrongType) or str(error).startswith(UNCLEAR)


def wrong(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], who: str = "") -> str | None:
    """The sentence for the first argument whose type is not the one that the function declares; ``None`` if none is."""
    names = getattr(inspect.unwrap(function), "__globals__", {})
    for name, (value, annotation) in _given(function, args, kwargs).items():
        if (found := _misfit(name, value, _hint(annotation, names), names)) is not None:
            place, there, hint = found
            expected = _named(hint, annotation, place == name)
            return f"{who or _name(function)}: {place} must be {expected}, got {shown(there)}"
    return None


def _given(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Arguments by name, each with its annotation; those of a dataclass where its values are checked."""
    if function.__name__ == "__post_init__":
        return {
            field.name: (getattr(args[0], field.name), field.type)
            for field in dataclasses.fields(args[0])
            if field.init
        }
    signature = inspect.signature(function)
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError:  # too few or too many: Python says which
        return {}
    declared = {name: signature.parameters[name] for name in given}
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    typed = {name: p for name, p in declared.items() if p.kind not in several and p.annotation is not p.empty}
    return {name: (given[name], p.annotation) for name, p in typed.items()}


def _name(function: Callable[..., Any]) -> str:
    """As people call it."""
    name = re.sub(r"\.__\w+__$", "", function.__qualname__).rpartition("<locals>.")[2]
    room = function.__module__.split(".")[1:2]
    return f"{room[0]}.{name}" if name.islower() and room in (["rows"], ["combine"]) else name


def shown(value: object) -> str:
    """What came, in a few words."""
    kind = type(value).__name__
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, int | float):
        return f"the number {value!r}"
    if isinstance(value, torch.Tensor):
        return f"a tensor {list(value.shape)}"
    return f"{kind} of {len(value)}" if isinstance(value, list | tuple | dict) else kind


def _hint(annotation: Any, names: Mapping[str, Any]) -> Any:
    """The annotation as a type; ``Any`` where it cannot be read."""
    if not isinstance(annotation, str):
        return annotation
    text = re.sub(r"\b(Float|Int|Bool)\[(\w+), *(\"[^\"]*\"|'[^']*'|\.\.\.)\]", r"\2", annotation)
    try:
        return eval(text, {"typing": typing, **names})
    except Exception:
        return Any


def _misfit(place: str, value: Any, hint: Any, names: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Where the value is of another type: its place, what is there, and what should be; ``None`` if it fits."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        found = [_misfit(place, value, one, names) for one in inner]
        if None in found:
            return None
        deeper = [x for x in found if x is not None and x[0] != place]  # the right kind of box, a wrong thing in it
        return deeper[0] if deeper else (place, value, hint)
    if not _fits(value, hint, origin):
        return place, value, hint
    items: Iterable[tuple[Any, Any]] = ()
    if inner and isinstance(value, Mapping) and len(inner) == 2:
        items, inner = [(repr(key), x) for key, x in value.items()], inner[1:]
    elif inner and isinstance(value, list | tuple) and origin in (list, tuple, Sequence, Iterable):
        items, inner = enumerate(value), tuple(x for x in inner if x is not ...)
        if len(inner) > 1:
            return None
    for key, x in items:
        if (deep := _misfit(f"{place}[{key}]", x, _hint(inner[0], names), names)) is not None:
            return deep
    return None


def _fits(value: Any, hint: Any, origin: Any) -> bool:
    """Whether a value may stand where this type is declared; doubts count for the value."""
    kind = hint if origin is None else origin
    if hint is None or hint is type(None):
        return value is None
    if origin is typing.Literal:
        return isinstance(value, tuple({type(x) for x in typing.get_args(hint)}))
    if kind is Iterable or not isinstance(kind, type):
        return kind is not Iterable or (hasattr(value, "__iter__") and not isinstance(value, str))
    if getattr(kind, "_is_protocol", False):
        return all(hasattr(value, name) for name in vars(kind) if name == "__call__" or name[0] != "_")
    if kind is float:
        return not isinstance(value, str) and hasattr(value, "__float__")
    if kind is int:
        return not isinstance(value, bool) and hasattr(value, "__index__")
    if kind in (Sequence, list, tuple):
        return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, str | Mapping)
    try:
        return isinstance(value, kind)
    except TypeError:
        return True


def _named(hint: Any, annotation: Any, whole: bool) -> str:
    """A type in words; shapes as the annotation gives them."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        words = [_named(one, annotation, whole) for one in inner if one is not type(None)]
        return " or ".join([*dict.fromkeys(words), *(["None"] if type(None) in inner else [])])
    if hint is torch.Tensor and whole:
        shape = re.search(r"Tensor, *[\"'] *([^\"']*)[\"']", str(annotation))
        return f"a tensor [{', '.join(shape[1].split())}]" if shape else "a tensor"
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, inner))
    if origin is not None and isinstance(origin, type):
        if issubclass(origin, Callable):  # type: ignore[arg-type]
            return "a function"
        kind = "a mapping" if issubclass(origin, Mapping) else "a sequence"
        return kind
    name = getattr(hint, "__name__", str(hint))
    return WORDS.get(hint, ("an " if name[0] in "AEIOU" else "a ") + name)


def in_words(error: BaseException) -> str:
    """Type, message and place of an exception, in one line; the place is the innermost that is not torch's.

    Example:
        >>> in_words(KeyError("fc"))
        "KeyError: 'fc'"
    """
    try:
        text = " ".join(str(error).split())[:SHOWN]
    except Exception:  # an exception of somebody's own whose text cannot be made
        text = ""
    stack = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(OWN)]
    theirs = [frame for frame in stack if not frame.filename.startswith((TORCH, "<frozen"))] or stack
    place = f" ({theirs[-1].filename}, line {theirs[-1].lineno}, in {theirs[-1].name})" if theirs else ""
    return f"{type(error).__name__}{f': {text}' if text else ''}{place}"
