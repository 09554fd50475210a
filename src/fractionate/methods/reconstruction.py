"""Marks a method whose source does not give every constant, so that its text says so wherever it is printed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ParamSpec

from .method import Call, Method

P = ParamSpec("P")


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
