"""How a method was made: the call, so that it can be made again, and the decorators that remember it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ParamSpec

from .._choices import unknown

if TYPE_CHECKING:
    from .method import Method


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


P = ParamSpec("P")


def preset(function: Callable[P, Method]) -> Callable[P, Method]:
    """Remember how a method was made, and name the nearest argument when one is misspelled."""
    signature = inspect.signature(function)
    flags = {name for name, parameter in signature.parameters.items() if parameter.annotation in ("bool", bool)}

    @functools.wraps(function)
    def build(*args: P.args, **kwargs: P.kwargs) -> Method:
        for name in kwargs:
            if name not in signature.parameters:
                raise TypeError(unknown(f"argument of {function.__name__}", name, signature.parameters))
            if name in flags and not isinstance(kwargs[name], bool):  # "no" would pass for True
                raise ValueError(f"{function.__name__}: {name} must be True or False, got {kwargs[name]!r}")
        given = dict(signature.bind(*args, **kwargs).arguments)
        return replace(function(*args, **kwargs), origin=Call(build, given))

    return build


@dataclass(frozen=True)
class Reconstructed(Call):
    """A call whose text ends in ``[reconstruction]``."""

    def __str__(self) -> str:
        return f"{super().__str__()} [reconstruction]"


def reconstruction(function: Callable[P, Method]) -> Callable[P, Method]:
    """Put on a preset: its methods print as ``<Method name(...) [reconstruction]>``, also inside wrappers."""

    @functools.wraps(function)
    def build(*args: P.args, **kwargs: P.kwargs) -> Method:
        method = function(*args, **kwargs)
        return replace(method, origin=Reconstructed(build, method.origin.given if method.origin else {}))

    return build
