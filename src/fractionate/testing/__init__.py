"""Prove what holds for a method, yours included: state a :class:`Contract`, call :func:`check_method`.

The methods of this package are tested with it, one line of a table each. Nothing here is imported by training code.
"""

from __future__ import annotations

from collections.abc import Callable

from ..methods import Method
from . import checks, properties
from .inputs import Contract, Needs, easy_rows, huge_rows

CHECKS: dict[str, Callable[[Method, Contract], None]] = {
    "shapes": checks.shapes,
    "rows are independent": checks.row_independence,
    "chunks equal the whole": checks.chunks,
    "shifts change nothing": checks.shift_invariance,
    "classes have no names": checks.class_symmetry,
    "zero at the teacher": checks.zero_at_teacher,
    "labels": checks.labels,
    "incomplete rows are refused": checks.incomplete_rows,
    "no gradient into the teacher": checks.no_teacher_gradient,
    "gradients are right": checks.gradients,
    "finite at extreme logits": checks.extreme_logits,
    "weights of rows": checks.row_weights,
    "no row and one row": checks.few_rows,
    "float32 under autocast": checks.autocast,
    "the same again": checks.repetition,
    "streams": checks.streams,
    "backward passes": checks.backward_passes,
    "one component": checks.one_component,
    "under dot": checks.under_dot,
    "under deepkd": checks.under_deepkd,
}


def check_method(method: Method, contract: Contract) -> None:
    """Run every check of ``CHECKS``.

    Args:
        method: any method, from this package or not.
        contract: what it claims.

    Raises:
        AssertionError: the first claim that does not hold, by name.

    Example:
        >>> import fractionate as fr
        >>> check_method(fr.methods.kd(), Contract(components=("kd",), zero_at_teacher=("kd",), roles=True))
        >>> check_method(fr.methods.kd(), Contract(components=("kd",)))
        Traceback (most recent call last):
        AssertionError: kd: zero at the teacher: kd = 0 at the teacher holds although the contract says it does not
    """
    for name, check in CHECKS.items():
        try:
            check(method, contract)
        except AssertionError as error:
            raise AssertionError(f"{method.name}: {name}: {error}") from error


__all__ = [
    "CHECKS",
    "Contract",
    "Needs",
    "check_method",
    "easy_rows",
    "huge_rows",
    "properties",
]
