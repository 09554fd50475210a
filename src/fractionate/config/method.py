"""A method as plain data: what a config file, a command line and a pickle can hold."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from torch import Tensor

from .. import schedules
from .._choices import unknown
from ..methods import AUTO, Method, Part, Task, catalog
from ..methods.arguments import check_common
from ..rows import Logits, Progress
from ..schedules import Schedule, constant

Value = bool | int | float | str | None | list[Any]

SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": schedules.constant,
    "warmup": schedules.warmup,
    "ramp": schedules.ramp,
    "cosine": schedules.cosine,
    "phases": schedules.phases,
}
Call = tuple[str, dict[str, Value]]
# A wrapper named alone means: over this method.
ALONE: dict[str, Call] = {"deepkd": ("dkd", {}), "lskd": ("kd", {"kd_weight": 1})}
# Published spellings -> the names here, in which further methods may be wrapped.
SPELLINGS: dict[str, tuple[str, ...]] = {
    "ls": ("lskd",),
    "dkdmod": ("dkd",),
    "gdkd_auto_w": ("gdkd_auto_weight",),
    "sdd_kd": ("kd", "sdd"),
    "sdd_dkd": ("dkd", "sdd"),
    "sdd_nkd": ("nkd", "sdd"),
}
LONGEST = 1000  # characters of a method
WORDS = {"true": True, "false": False, "none": None, "null": None}


def ce(*, label_smoothing: float = 0.0) -> Method:
    """Labels alone: cross-entropy and no teacher.

    L = CE(z^S, y)

    Args:
        label_smoothing: share of the target spread evenly over all classes.

    Raises:
        ValueError: a share outside 0..1.

    Example:
        >>> list(ce().parts)
        ['task']
    """
    check_common("ce", 1.0, 1.0, label_smoothing, "error")

    def no_terms(lg: Logits, progress: Progress) -> dict[str, Tensor]:
        return {}

    parts = {"task": Part(constant(1.0), "task")}
    return Method(name="ce", parts=parts, terms=no_terms, task=Task(label_smoothing))


METHODS: dict[str, Callable[..., Method]] = {"ce": ce, **catalog.METHODS}
WRAPPERS: dict[str, Callable[..., Method]] = catalog.WRAPPERS


@dataclass(frozen=True)
class Wrapper:
    """A function from method to method, such as ``deepkd``, and its arguments."""

    name: str
    args: dict[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in WRAPPERS:
            raise ValueError(unknown("wrapper", self.name, WRAPPERS))


@dataclass(frozen=True)
class MethodSpec:
    """Names and arguments of a method and of what is wrapped around it, innermost first.

    A schedule is written as text: ``keep: phases(plateau=0.55)``.

    Args:
        name: a name of the methods table, or ``ce`` for labels alone.
        args: its arguments; defaults for the rest.
        wrappers: applied in order.

    Raises:
        ValueError: an unknown name; the nearest one is named.

    Example:
        >>> MethodSpec("dkd", {"beta": 2}, (Wrapper("deepkd"),)).build().streams[0].name
        'task'
    """

    name: str
    args: dict[str, Value] = field(default_factory=dict)
    wrappers: tuple[Wrapper, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise ValueError(unknown("method", self.name, [*METHODS, *WRAPPERS]))
        given = self.args.get("weights")
        if given is not None and (given == "auto") != (self.name in AUTO):
            raise ValueError(f"{self.name}: weights=auto, and no other value, is for {', '.join(AUTO)}; got {given!r}")
        if twice := [a.name for a, b in pairwise(self.wrappers) if a.name == b.name]:
            raise ValueError(f"{twice[0]} stands around itself in {self}: write it once")

    def build(self) -> Method:
        """The method itself.

        Raises:
            ValueError: an unknown or impossible argument.
        """
        args = {name: value for name, value in self.args.items() if not (self._auto and name == "weights")}
        method = _call(METHODS[self.name], args)
        for wrapper in self.wrappers:
            method = _call(WRAPPERS[wrapper.name], wrapper.args, method)
        return method

    @property
    def _auto(self) -> bool:
        return self.name in AUTO and self.args.get("weights") == "auto"

    @property
    def unsettled(self) -> tuple[str, ...]:
        """Arguments that ``weights="auto"`` gives once there is a teacher; until then they stand at their defaults.

        Example:
            >>> MethodSpec.parse("gdkd(weights=auto, w1=1)").unsettled
            ('w2',)
        """
        return tuple(name for name in AUTO[self.name] if name not in self.args) if self._auto else ()

    @property
    def in_streams(self) -> MethodSpec:
        """Without ``reweighted`` around it: the method whose gains that control takes for weights.

        Example:
            >>> str(MethodSpec.parse("kd+deepkd+reweighted").in_streams)
            'kd+deepkd'
        """
        last = len(self.wrappers)
        while last and self.wrappers[last - 1].name == "reweighted":
            last -= 1
        return replace(self, wrappers=self.wrappers[:last])

    def with_usual(self, usual: Mapping[str, Value]) -> MethodSpec:
        """With the usual arguments where none are given, and none are left to ``weights="auto"``.

        Example:
            >>> MethodSpec("dkd", {"weights": "auto"}).with_usual({"beta": 4, "temperature": 1}).args
            {'temperature': 1, 'weights': 'auto'}
        """
        open_ones = {name: x for name, x in usual.items() if name not in (*self.args, *self.unsettled)}
        return replace(self, args={**open_ones, **self.args})

    @property
    def distils(self) -> bool:
        """Whether the method reads a teacher."""
        return self.name != "ce"

    @property
    def title(self) -> str:
        """Names without arguments, as a table shows them."""
        names = "+".join([self.name, *(w.name for w in self.wrappers)])
        return "labels alone" if names == "ce" else names

    def __str__(self) -> str:
        return "+".join([_written(self.name, self.args), *(_written(w.name, w.args) for w in self.wrappers)])

    @classmethod
    def parse(cls, text: str) -> MethodSpec:
        """Read the command line's form: ``dkd``, ``dkd+deepkd``, ``dkd(beta=2)+dot(delta=0.09)``.

        Bare ``deepkd`` is over dkd. Published spellings are understood: ``kd+ls`` is the published recipe, in which the
        factor of the standardised term takes the place of ``kd_weight`` (``kd+lskd`` multiplies the two).

        Raises:
            ValueError: not of that form, or an unknown name.

        Example:
            >>> MethodSpec.parse("deepkd") == MethodSpec.parse("dkd+deepkd")
            True
            >>> MethodSpec.parse("gdkd(k=3, kl=reverse)").args
            {'k': 3, 'kl': 'reverse'}
            >>> str(MethodSpec.parse("mlkd+ls(weight=6)"))
            'mlkd(kd_weight=1)+lskd(weight=6)'
        """
        calls = _spelled([_parse_call(node, text) for node in _summands(_expression(text).body)])
        first, _ = calls[0]
        if first in ALONE:
            calls = [ALONE[first], *calls]
        elif first in WRAPPERS and first not in METHODS:
            raise ValueError(f"{first} wraps a method: write for example 'kd+{first}'")
        (name, args), *rest = calls
        for wrapper, _ in rest:
            if wrapper not in WRAPPERS:
                raise ValueError(unknown("wrapper", wrapper, WRAPPERS))
        return cls(name, args, tuple(Wrapper(n, a) for n, a in rest))


def _spelled(calls: list[Call]) -> list[Call]:
    """Published spellings replaced by the names here."""
    as_published = calls[0][0] != "ls" and any(name == "ls" for name, _ in calls)
    if as_published and calls[0][0] == "ctkd":  # the method inside it carries the weight
        calls = [("kd", {}), *calls]
    named: list[Call] = []
    for name, args in calls:
        names = SPELLINGS.get(name, (name,))
        if args and len(names) > 1:
            raise ValueError(f"{name} stands for {'+'.join(names)}: write {'(...)+'.join(names)}(...) to give options")
        named += [(each, args) for each in names]
    first, given = named[0]
    if as_published and first in METHODS and "kd_weight" in inspect.signature(METHODS[first]).parameters:
        named[0] = (first, {"kd_weight": 1, **given})
    return named


def _call(function: Callable[..., Method], args: Mapping[str, Value], *inner: Method) -> Method:
    given = {name: _schedule(value) if isinstance(value, str) else value for name, value in args.items()}
    try:
        return function(*inner, **given)
    except TypeError as error:
        known = inspect.signature(function).parameters
        strange = next((name for name in given if name not in known), None)
        told = str(error) if strange is None else unknown(f"argument of {function.__name__}", strange, known)
        raise ValueError(told) from error


def _schedule(text: str) -> str | Schedule:
    """``phases(plateau=0.55)`` becomes the schedule; other text stays text."""
    if not re.fullmatch(r"\w+\(.*\)", text):
        return text
    name, args = _parse_call(_expression(text).body, text)
    if name not in SCHEDULES:
        raise ValueError(unknown("schedule", name, SCHEDULES))
    try:
        return SCHEDULES[name](**args)
    except TypeError as error:
        raise ValueError(f"{text}: {error}") from error


def _expression(text: str) -> ast.Expression:
    if len(text) > LONGEST:  # Python's parser gives up, in several ways, on text that is nested a thousand times
        raise ValueError(f"{text[:40]!r}... is no method: {len(text):,} characters, at most {LONGEST} are read")
    try:
        return ast.parse(text.strip(), mode="eval")
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        raise ValueError(f"cannot read {text!r}: expected NAME, NAME(option=value) or A+B") from error


def _summands(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_summands(node.left), *_summands(node.right)]
    return [node]


def _parse_call(node: ast.expr, text: str) -> Call:
    if isinstance(node, ast.Name):
        return node.id, {}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        keywords = {k.arg: _value(k.value, text.strip()) for k in node.keywords if k.arg}
        if len(keywords) == len(node.keywords):
            return node.func.id, keywords
    raise ValueError(f"cannot read {text!r}: expected NAME or NAME(option=value, ...), joined by +")


def _value(node: ast.expr, text: str) -> Value:
    """A Python literal, or the bare words as they stand (``rule=published-code``)."""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        words = ast.get_source_segment(text, node) or ""
        return WORDS.get(words.lower(), words)
    return list(value) if isinstance(value, tuple) else value


def _written(name: str, args: Mapping[str, Value]) -> str:
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in args.items())})" if args else name
