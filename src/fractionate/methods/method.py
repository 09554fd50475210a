"""A method is data: named components with weights and roles, gathered in gradient streams."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Unpack

from torch import Tensor, nn

from .._spoken import spoken
from .._typing import Float
from ..losses.soft import cross_entropy
from ..optim.momenta import Momenta
from ..rows import Logits, Progress, weighted_mean
from ..schedules import Schedule, constant
from ..schedules import warmup as warmup_to
from .arguments import Call, Common, Hard, Role
from .checks import check_finite, check_labels, check_rows
from .streams import Stream, UpdateRule, merged_streams
from .terms import Components, Terms, as_terms

Rows = Callable[[Logits, Progress], Tensor]
Weights = Mapping[str, tuple[float | Schedule, Role | None]]  # number (it warms up) or schedule, and role


@dataclass(frozen=True)
class Part:
    """Weight (a schedule, warm-up included) and role of one component."""

    weight: Schedule
    role: Role | None = None


@dataclass(frozen=True)
class Task:
    """Cross-entropy of one or two views, per row."""

    label_smoothing: float = 0.0
    views: int = 1

    def __call__(self, lg: Logits, progress: Progress) -> Float[Tensor, " n"]:
        """Cross-entropy of every row, summed over the views."""
        rows = cross_entropy(lg, self.label_smoothing)
        if self.views == 2 and lg.strong is not None:
            return rows + cross_entropy(lg.strong, self.label_smoothing)
        return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """A distillation method: what to compute per row, how to weigh it, which stream it belongs to.

    Made by the functions of ``fractionate.methods``; a new method is one more such function.

    Args:
        name: short name, as on the command line.
        parts: component name to :class:`Part`, ``task`` first.
        terms: the components other than ``task``, one value per row, without weights: :class:`Terms`, or a plain
            function of (rows, progress), of which they are made.
        task: function of rows that returns the cross-entropy.
        streams: gradient streams; by default one, ``loss``, holding everything.
        update: facts of the optimizer's update (place of weight decay, order, gain).
        needs_labels: whether the terms read the label of a row.
        hard: what to do with soft labels when labels are needed: ``"error"`` or ``"argmax"``.
        views: 2 if ``Logits.strong`` is needed.
        token: whether ``Logits.token`` is needed.
        row_wise: whether every row's value depends on that row alone (such methods may be chunked).
        regions: sizes of the region grids that ``Logits.regions`` must hold; empty if none.
        module: parameters the method itself learns, with their state; the trainer optimizes them too.
        twin: the same method in components with roles, where its own have none; :func:`deepkd` works on it.
        origin: how the method was made.
    """

    name: str
    parts: Mapping[str, Part]
    terms: Terms | Callable[[Logits, Progress], Components]
    task: Rows = Task()
    streams: tuple[Stream, ...] = ()
    update: UpdateRule = UpdateRule()
    needs_labels: bool = False
    hard: Hard = "error"
    views: int = 1
    token: bool = False
    row_wise: bool = True
    regions: tuple[int, ...] = ()
    module: nn.Module | None = None
    twin: Method | None = None
    origin: Call | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", as_terms(self.terms))
        if not self.streams:
            object.__setattr__(self, "streams", (Stream("loss", tuple(self.parts)),))
        placed = [c for stream in self.streams for c in stream.components]
        if sorted(placed) != sorted(self.parts):
            raise ValueError(
                f"{self.name}: every component must be in exactly one stream; components are "
                f"{list(self.parts)}, streams hold {placed}"
            )

    def __repr__(self) -> str:
        return f"<Method {self.origin or self.name}>"

    @spoken
    def components(self, lg: Logits, progress: Progress | None = None) -> dict[str, Tensor]:
        """Every component, one value per row.

        Args:
            lg: rows.
            progress: position in training. Without one every schedule stands at its end; a loop that wants the
                warm-up, a mask or another schedule passes it.

        Returns:
            name -> ``[n]``; no weight and no warm-up inside; T^2 as the method's formula says. Rows without labels
            have no ``task``.

        Raises:
            ValueError: rows without labels where one is read or the cross-entropy has a weight, soft labels where hard
                ones are needed, a missing second view, or (on CPU) a value that is not finite.
        """
        progress = progress or Progress.end()
        check_labels(self, lg, progress)
        check_rows(self, lg)
        rows = self.terms(lg, progress)
        if "task" in self.parts and lg.target is not None:
            rows = {"task": self._task(lg, progress), **rows}
        rows = {name: rows[name] for name in self.parts if name != "task" or lg.target is not None}
        check_finite(self.name, rows, lg)
        return rows

    @spoken
    def stream_losses(
        self, lg: Logits, progress: Progress | None = None, merge: bool | None = None
    ) -> dict[str, Tensor]:
        """One scalar per gradient stream: weighted components, averaged over the rows.

        Args:
            lg: rows; ``lg.weight`` weighs them.
            progress: position in training; without one every schedule stands at its end, so there is no warm-up.
            merge: join streams that share a momentum coefficient (one backward each). ``None`` merges
                wherever that is exact; ``False`` keeps all apart, for monitors.

        Returns:
            stream name -> scalar, in the order of :meth:`momenta`.
        """
        progress = progress or Progress.end()
        streams = merged_streams(self.streams, self.update, merge)
        if len(streams) == 1 and (total := self._at_once(lg, progress)) is not None:
            return {streams[0].name: total}
        rows = self.components(lg, progress)
        return self.combine({name: weighted_mean(x, lg.weight) for name, x in rows.items()}, progress, merge)

    def _at_once(self, lg: Logits, progress: Progress) -> Tensor | None:
        """Everything in one scalar, without the rows in between; ``None`` if they are needed."""
        mean = getattr(self.terms, "mean", None)
        if mean is None:
            return None
        check_labels(self, lg, progress)
        check_rows(self, lg)
        weights = {name: part.weight(progress) for name, part in self.parts.items()}
        total = mean(lg, progress, weights)
        if total is None:
            return None
        if "task" in weights and lg.target is not None:
            total = total + weights["task"] * weighted_mean(self._task(lg, progress), None)
        # A NaN and an infinity in any row survive the mean: the way over the rows then says which one it is.
        return total if math.isfinite(total.item()) else None

    def _task(self, lg: Logits, progress: Progress) -> Tensor:
        """The cross-entropy of every row, times the weight of its label."""
        rows = self.task(lg, progress)
        return rows if lg.label_weight is None else lg.label_weight.to(rows.dtype) * rows

    @spoken
    def combine(self, means: Mapping[str, Tensor], progress: Progress, merge: bool | None = None) -> dict[str, Tensor]:
        """One scalar per gradient stream from the mean of every component; the second half of :meth:`stream_losses`.

        Args:
            means: component -> scalar; without ``task`` if the rows have no labels. A stream that holds nothing else is
                then left out, which every optimizer of streams takes for a gradient of 0.
            progress: position in training, which decides the weights.
            merge: as in :meth:`stream_losses`.
        """
        held = {
            stream.name: [c for c in stream.components if c != "task" or c in means]
            for stream in merged_streams(self.streams, self.update, merge)
        }
        return {
            name: sum_of([self.parts[c].weight(progress) * means[c] for c in components])
            for name, components in held.items()
            if components
        }

    @spoken
    def loss(self, lg: Logits, progress: Progress | None = None) -> Float[Tensor, ""]:
        """The whole training loss, cross-entropy included: the sum of all streams.

        Without ``progress`` every schedule stands at its end: full weights, no warm-up, no mask of a schedule.
        """
        return sum_of(list(self.stream_losses(lg, progress).values()))

    @spoken
    def momenta(self, momentum: float, merge: bool | None = None) -> Momenta:
        """Momentum coefficient of every stream: ``momentum`` plus the stream's shift.

        Args:
            momentum: base coefficient m.
            merge: as in :meth:`stream_losses`; the two must agree.

        Raises:
            ValueError: a coefficient outside [0, 1).
        """
        streams = merged_streams(self.streams, self.update, merge)
        return self.update.momenta(momentum, self.streams, streams)

    @property
    def backward_passes(self) -> int:
        """Backward passes per step: the number of distinct momentum coefficients, or 3 under the published code."""
        return len(merged_streams(self.streams, self.update, None))

    @spoken
    def exact_merge(self, weight_decay: float) -> bool:
        """Whether streams may be merged without changing the result beyond rounding.

        Always, except under DeepKD's published code with weight decay, which is evaluated between the moves.
        """
        return not (self.update.sequence and weight_decay)

    def with_args(self, **changes: Any) -> Method:
        """The same method built with some arguments changed, its own or those of the method it wraps.

        What it learns (``module``) stays the same parameters, as trained as they are.

        Example:
            >>> import fractionate as fr
            >>> fr.methods.dkd(beta=2).with_args(temperature=2)
            <Method dkd(beta=2, temperature=2)>
            >>> fr.methods.dot(fr.methods.dkd()).with_args(delta=0.1, beta=2)
            <Method dot(dkd(beta=2), delta=0.1)>
        """
        if self.origin is None:
            raise ValueError(
                f"{self.name}: was not made by a function of fractionate.methods, so its arguments are not known "
                f"here; call the function that made it again, with {', '.join(changes) or 'other arguments'} changed"
            )
        made = self.origin.again(changes)
        if self.module is not None and made.module is not None:
            for name, parameter in self.module.named_parameters():
                place, _, last = name.rpartition(".")
                made.module.get_submodule(place)._parameters[last] = parameter
        return made


def sum_of(values: list[Tensor]) -> Tensor:
    """Sum of scalars without an extra zero."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def distillation(
    name: str,
    terms: Callable[[Logits, Progress], Components],
    weights: Weights,
    *,
    task_views: int = 1,
    needs_labels: bool = False,
    row_wise: bool = True,
    twin: Method | None = None,
    **common: Unpack[Common],
) -> Method:
    """A method of one stream: the weighted task, and weighted terms that warm up.

    Args:
        name: short name.
        terms: as in :class:`Method`.
        weights: component -> weight and role. A number warms up over ``warmup`` epochs, a schedule stays as it is.
        task_views: views that the cross-entropy and the terms read.
        needs_labels, row_wise, twin: as in :class:`Method`.
        common: the arguments that every method has, all four.
    """
    warmup = common["warmup"]
    parts = {
        component: Part(weight if callable(weight) else warmup_to(weight, warmup), role)
        for component, (weight, role) in weights.items()
    }
    return Method(
        name=name,
        parts={"task": Part(constant(common["ce_weight"]), "task"), **parts},
        terms=as_terms(terms),
        task=Task(common["label_smoothing"], task_views),
        needs_labels=needs_labels,
        hard=common["hard"],
        views=task_views,
        row_wise=row_wise,
        twin=twin,
    )
