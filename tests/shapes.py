"""The type checker behind the shape checks: beartype, with int accepted where float is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep3119Exception

F = TypeVar("F", bound=Callable[..., object])
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function: F) -> F:
    """The function with its annotations enforced.

    A Protocol that is not ``runtime_checkable`` cannot be looked for; a function that names one stays as it is.
    """
    try:
        return _check(function)
    except BeartypeDecorHintPep3119Exception:
        return function
