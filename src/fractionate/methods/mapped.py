"""A method on changed rows: what all transforms of the logits have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..rows import Logits

if TYPE_CHECKING:
    from .method import Method, RowMap, Terms

    MethodMap = Callable[[Method], Method]
    TermsMap = Callable[[Terms], Terms]


def mapped(method: Method, change: RowMap, finish: MethodMap) -> Method:
    """The method whose terms read changed rows; the task still reads the rows as they are.

    Args:
        method: any method, alone or with streams of its own.
        change: function from rows to rows that keeps their number and classes.
        finish: what else the transform does, such as a new name; also done to the twin that :func:`deepkd` works on.
    """
    inner = method.transformed
    if inner is None:
        changed = over_terms(method, lambda terms: lambda lg, progress: terms(change(lg), progress))
    else:
        changed = replace(method, terms=inner(change), transformed=lambda outer: inner(lambda lg: change(outer(lg))))
    return replace(finish(changed), decouple=on_twin(method, lambda twin: mapped(twin, change, finish)))


def over_terms(method: Method, wrap: TermsMap) -> Method:
    """The method with its terms wrapped, also those with a transform or a learned temperature inside."""
    inner, tempered = method.transformed, method.tempered
    return replace(
        method,
        terms=wrap(method.terms),
        transformed=None if inner is None else lambda change: wrap(inner(change)),
        tempered=None if tempered is None else lambda temperature: wrap(tempered(temperature)),
    )


def on_twin(method: Method, wrap: MethodMap) -> Callable[..., Method] | None:
    """``wrap`` around the twin that :func:`deepkd` works on, if the method has one."""
    decouple = method.decouple
    if decouple is None:
        return None

    def twin(mask: Any, form: Any) -> Method:
        return wrap(decouple(mask, form))

    return twin


def every_view(change: RowMap) -> RowMap:
    """``change`` applied to the rows, to their strong view and to their regions."""

    def changed(lg: Logits) -> Logits:
        strong, regions = (None if view is None else changed(view) for view in (lg.strong, lg.regions))
        return replace(change(lg), strong=strong, regions=regions)

    return changed
