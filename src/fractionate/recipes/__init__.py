"""Complete runs by name: one file per data set, one function per role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .._choices import unknown
from ..train import Run
from . import digits


@dataclass(frozen=True)
class Recipe:
    """How a data set is usually distilled.

    Args:
        teacher: function that returns the run that trains the teacher.
        student: function of method, teacher and seed that returns a student's run.
    """

    teacher: Callable[..., Run]
    student: Callable[..., Run]


RECIPES: dict[str, Recipe] = {"digits": Recipe(digits.teacher, digits.student)}


def find(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        ValueError: unknown name; the nearest one is named.

    Example:
        >>> find("digits").teacher().student.name
        'convnet_16_32_64'
    """
    if name not in RECIPES:
        raise ValueError(unknown("recipe", name, RECIPES))
    return RECIPES[name]


__all__ = ["RECIPES", "Recipe", "digits", "find"]
