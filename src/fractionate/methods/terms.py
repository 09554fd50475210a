"""What a method computes, as a value: rows in, named components out; at another temperature, on changed rows, masked.

Terms are frozen values made of module-level functions, so that a method compares by identity, pickles and deep-copies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

from ..rows import Logits, Progress

if TYPE_CHECKING:
    from .inner import Mask
    from .method import Method, Part

Components = dict[str, Tensor]
RowMap = Callable[[Logits], Logits]


@runtime_checkable
class Terms(Protocol):
    """The components of a method other than ``task``, one value per row, without weights.

    A plain function of (rows, progress) will do for a method of one's own: :func:`as_terms` makes terms of it.
    """

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """Component -> ``[n]``."""
        ...

    def at(self, temperature: float | Tensor) -> Terms:
        """The same at another temperature, which may be a tensor that receives a gradient.

        Raises:
            ValueError: there is no temperature, or none that can be a tensor.
        """
        ...

    def on(self, change: RowMap) -> Terms:
        """The same on changed rows, wherever they may be changed."""
        ...

    def masked(self, mask: Mask) -> Terms:
        """The same with the non-targets of the label's partition masked.

        Raises:
            ValueError: the terms know no label's partition.
        """
        ...


@dataclass(frozen=True, eq=False)
class Function:
    """Terms of a plain function: no temperature that could be learned, no label's partition that could be masked."""

    function: Callable[[Logits, Progress], Components]

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """What the function gives."""
        return self.function(lg, progress)

    def at(self, temperature: float | Tensor) -> Terms:
        """Refused."""
        raise ValueError(NO_TEMPERATURE)

    def on(self, change: RowMap) -> Terms:
        """The function of changed rows."""
        return OnRows(self, change)

    def masked(self, mask: Mask) -> Terms:
        """Refused."""
        raise ValueError(NO_LABEL)


NO_TEMPERATURE = "there is no temperature that can be learned"
NO_LABEL = "there is no label's partition whose non-targets could be masked"


@dataclass(frozen=True, eq=False)
class OnRows:
    """Terms of changed rows."""

    inner: Terms
    change: RowMap

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """The inner terms of the changed rows."""
        return self.inner(self.change(lg), progress)

    def at(self, temperature: float | Tensor) -> Terms:
        """The inner terms at this temperature, of the same rows."""
        return replace(self, inner=self.inner.at(temperature))

    def on(self, change: RowMap) -> Terms:
        """Changed before the change that is already there."""
        return OnRows(self, change)

    def masked(self, mask: Mask) -> Terms:
        """The inner terms masked."""
        return replace(self, inner=self.inner.masked(mask))


@dataclass(frozen=True, eq=False)
class Around:
    """Terms made of other terms: what a wrapper does with them, with the same temperature and mask inside.

    Args:
        inner: the terms of the wrapped method.
        work: (inner terms, rows, progress) -> components.
    """

    inner: Terms
    work: Callable[[Terms, Logits, Progress], Components]

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """What is made of the inner terms."""
        return self.work(self.inner, lg, progress)

    def at(self, temperature: float | Tensor) -> Terms:
        """The same around the inner terms at this temperature."""
        return replace(self, inner=self.inner.at(temperature))

    def on(self, change: RowMap) -> Terms:
        """Outside, unless some of the inner terms must read the rows as they are."""
        inner = self.inner.on(change)
        return OnRows(self, change) if isinstance(inner, OnRows) else replace(self, inner=inner)

    def masked(self, mask: Mask) -> Terms:
        """The same around the masked inner terms."""
        return replace(self, inner=self.inner.masked(mask))


def as_terms(terms: Callable[[Logits, Progress], Components]) -> Terms:
    """Terms as they are, or those of a plain function."""
    return terms if isinstance(terms, Terms) else Function(terms)


@dataclass(frozen=True)
class EveryView:
    """A change of rows applied to them, to their strong view, to their token and to their regions."""

    change: RowMap

    def __call__(self, lg: Logits) -> Logits:
        """The changed rows."""
        strong, token, regions = (None if view is None else self(view) for view in (lg.strong, lg.token, lg.regions))
        return replace(self.change(lg), strong=strong, token=token, regions=regions)


@dataclass(frozen=True)
class Then:
    """Two changes of rows, one after the other."""

    first: RowMap
    second: RowMap

    def __call__(self, lg: Logits) -> Logits:
        """The changed rows."""
        return self.second(self.first(lg))


def unchanged(lg: Logits) -> Logits:
    """The rows as they are."""
    return lg


def mapped(method: Method, change: RowMap, finish: Callable[[Method], Method]) -> Method:
    """The method whose terms read changed rows; the task still reads the rows as they are.

    Args:
        method: any method, alone or with streams of its own.
        change: function from rows to rows that keeps their number and classes.
        finish: what else the transform does, such as a new name; also done to the twin that :func:`deepkd` works on.
    """
    twin = None if method.twin is None else mapped(method.twin, change, finish)
    return replace(finish(replace(method, terms=as_terms(method.terms).on(change))), twin=twin)


def around(method: Method, work: Callable[[Terms, Logits, Progress], Components], **changes: Any) -> Method:
    """The method with its terms wrapped, and some fields changed.

    Args:
        method: any method.
        work: as in :class:`Around`.
        changes: fields of :class:`Method`.
    """
    return replace(method, terms=Around(as_terms(method.terms), work), **changes)


def beside(
    method: Method,
    name: str,
    part: Part,
    rows: Callable[[Logits], Tensor],
    *,
    needs_labels: bool = False,
    row_wise: bool = True,
) -> Method:
    """The method with one more component, and its twin likewise.

    Args:
        method: any method in one stream.
        name, part: of the component.
        rows: its value, ``[n]``.
        needs_labels, row_wise: what holds for it.

    Raises:
        ValueError: several streams, or a component of that name already there.
    """
    if name in method.parts:
        raise ValueError(f"{method.name} already has a component {name!r}: {list(method.parts)}")
    if len(method.streams) > 1:
        raise ValueError(
            f"{method.name} has several streams {[s.name for s in method.streams]}, so the stream of {name!r} is "
            f"open: add it first, then wrap with dot(...), deepkd(...) or resplit(...)"
        )
    twin = None
    if method.twin is not None:
        twin = beside(method.twin, name, part, rows, needs_labels=needs_labels, row_wise=row_wise)
    return around(
        method,
        partial(_with_rows, name=name, rows=rows),
        name=f"{method.name}+{name}",
        parts={**method.parts, name: part},
        streams=(replace(method.streams[0], components=(*method.parts, name)),),
        needs_labels=method.needs_labels or needs_labels,
        row_wise=method.row_wise and row_wise,
        twin=twin,
    )


def _with_rows(inner: Terms, lg: Logits, progress: Progress, name: str, rows: Callable[[Logits], Tensor]) -> Components:
    return {**inner(lg, progress), name: rows(lg)}
