"""Arguments of methods: checks of values, the four that every method has, and how a method was made."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypedDict

from .._choices import choose, unknown
from .._spoken import FAULTS, unclear, wrong

if TYPE_CHECKING:
    from .method import Method

P = ParamSpec("P")
Hard = Literal["error", "argmax"]
Role = Literal["task", "target", "nontarget"]


class Common(TypedDict, total=False):
    """The arguments that every method has; :func:`with_common` gives them their defaults and checks them.

    ``ce_weight`` weighs the cross-entropy; ``warmup`` is the number of epochs over which the distillation weights grow
    linearly (1 = none); ``label_smoothing`` acts in the cross-entropy only; ``hard`` says what to do with soft labels
    where labels are needed: ``"error"``, or ``"argmax"`` for their most likely class.
    """

    ce_weight: float
    warmup: float
    label_smoothing: float
    hard: Hard


def check_numbers(where: str, **values: float) -> None:
    """Every value is a finite number."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{where}: {name} must be a finite number, got {value!r}")


def check_positive(where: str, **values: float) -> None:
    """Every value is a finite number above 0."""
    check_numbers(where, **values)
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{where}: {name} must be positive, got {value!r}")


def check_not_negative(where: str, **values: float) -> None:
    """Every value is a finite number, 0 or above."""
    check_numbers(where, **values)
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{where}: {name} must not be negative, got {value!r}")


def check_count(where: str, name: str, value: int, least: int) -> None:
    """An integer of at least ``least``; the upper limit is known when the classes are."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{where}: {name} must be an integer of at least {least}, got {value!r}")


def check_common(where: str, ce_weight: float, warmup: float, label_smoothing: float, hard: str) -> None:
    """The arguments that every method has."""
    check_not_negative(where, ce_weight=ce_weight, warmup=warmup, label_smoothing=label_smoothing)
    if label_smoothing > 1:
        raise ValueError(f"{where}: label_smoothing must lie in 0..1, got {label_smoothing!r}")
    choose(f"{where} option 'hard'", hard, ("error", "argmax"))


@dataclass(frozen=True)
class Call:
    """``function(**given)``. The argument ``method`` of a wrapper is the method inside it."""

    function: Callable[..., Method]
    given: Mapping[str, Any]

    def __str__(self) -> str:
        given = dict(self.given)
        positional = [str(given.pop("method").origin)] if self.inner and "method" in given else []
        inner = ", ".join(positional + [f"{k}={v!r}" for k, v in given.items()])
        return f"{self.function.__name__}({inner})"

    @property
    def inner(self) -> Call | None:
        """How the wrapped method was made, if this is a wrapper's call."""
        return getattr(self._value("method"), "origin", None)

    @property
    def core(self) -> Call:
        """How the innermost method was made."""
        return self if self.inner is None else self.inner.core

    def finds(self, name: str) -> bool:
        """Whether the function, or one inside it, has this argument."""
        return name in self._parameters or (self.inner is not None and self.inner.finds(name))

    def value(self, name: str) -> Any:
        """The argument's value, given or default, of the outermost function that sets it; ``None`` if none does."""
        own = self._value(name)
        return own if own is not None or self.inner is None else self.inner.value(name)

    def again(self, changes: Mapping[str, Any]) -> Method:
        """The method made again; arguments that a wrapper does not have go to the method inside it."""
        own = {name: value for name, value in changes.items() if name in self._parameters or self.inner is None}
        rest = {name: value for name, value in changes.items() if name not in own}
        if rest and self.inner is not None:
            own = {"method": self.inner.again(rest), **own}
        return self.function(**{**self.given, **own})

    @property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.function).parameters

    def _value(self, name: str) -> Any:
        parameter = self._parameters.get(name)
        default = None if parameter is None or parameter.default is parameter.empty else parameter.default
        return self.given.get(name, default)


@dataclass(frozen=True)
class Reconstructed(Call):
    """A call whose text ends in ``[reconstruction]``."""

    def __str__(self) -> str:
        return f"{super().__str__()} [reconstruction]"


def preset(function: Callable[P, Method]) -> Callable[P, Method]:
    """Remember how a method was made, and name the nearest argument when one is misspelled."""
    return _remembering(function, inspect.signature(function), {})


def with_common(ce_weight: float = 1.0, warmup: float = 1) -> Callable[[Callable[P, Method]], Callable[P, Method]]:
    """A preset with the arguments of :class:`Common`, declared with their defaults and checked here, once.

    The function ends in ``**common: Unpack[Common]`` and receives all four. Its signature, as ``inspect`` and the
    documentation show it, lists them as keyword-only arguments.

    Args:
        ce_weight, warmup: defaults of this method.
    """
    defaults: dict[str, Any] = {"ce_weight": ce_weight, "warmup": warmup, "label_smoothing": 0.0, "hard": "error"}

    def decorate(function: Callable[P, Method]) -> Callable[P, Method]:
        plain = inspect.signature(function)
        own = [p for p in plain.parameters.values() if p.kind is not p.VAR_KEYWORD]
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=_ANNOTATIONS[name])
            for name, value in defaults.items()
        ]
        return _remembering(function, plain.replace(parameters=[*own, *shared]), defaults)

    return decorate


_OF_RUNS = (
    "{0} has no argument 'weights': runs and commands ask their teacher (weights=auto, for kd, dkd and gdkd); in your "
    "own loop: **fr.teacher_facts(logits, labels).weights('{0}')"
)
_ANNOTATIONS = {"ce_weight": "float", "warmup": "float", "label_smoothing": "float", "hard": "Hard"}


def _remembering(
    function: Callable[P, Method], signature: inspect.Signature, defaults: Mapping[str, Any]
) -> Callable[P, Method]:
    name = function.__name__
    flags = {key for key, parameter in signature.parameters.items() if parameter.annotation in ("bool", bool)}

    @functools.wraps(function)
    def build(*args: P.args, **kwargs: P.kwargs) -> Method:
        for key in kwargs:
            if key not in signature.parameters:
                raise TypeError(
                    _OF_RUNS.format(name)
                    if key == "weights"
                    else unknown(f"argument of {name}", key, signature.parameters)
                )
            if key in flags and not isinstance(kwargs[key], bool):  # "no" would pass for True
                raise ValueError(f"{name}: {key} must be True or False, got {kwargs[key]!r}")
        given = dict(signature.bind(*args, **kwargs).arguments)
        settings = {key: given.get(key, value) for key, value in defaults.items()}
        if settings:
            check_common(name, **settings)
        try:
            made = function(*args, **{**kwargs, **settings})
        except (*FAULTS, ValueError) as error:
            if unclear(error) and (said := wrong(build, args, kwargs, name)) is not None:
                raise ValueError(said) from error
            raise
        return replace(made, origin=Call(build, given))

    build.__signature__ = signature  # type: ignore[attr-defined]
    build.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()} | {"return": "Method"}
    return build


def reconstruction(function: Callable[P, Method]) -> Callable[P, Method]:
    """Marks a method whose source does not give every constant: it prints as ``<Method name(...) [reconstruction]>``.

    Put on a preset; its text says so inside wrappers too.
    """

    @functools.wraps(function)
    def build(*args: P.args, **kwargs: P.kwargs) -> Method:
        method = function(*args, **kwargs)
        return replace(method, origin=Reconstructed(build, method.origin.given if method.origin else {}))

    return build
