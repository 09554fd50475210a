"""KL over a partition of the classes, as data: a partition, and which part of its split each component is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Unpack

from torch import Tensor

from .._choices import choose
from ..kernels import FORWARD, KL, KLS, Direction, Partition, as_direction, has_split_mean, split_mean
from ..losses.partitions import by_target
from ..losses.split import Split, split_kl
from ..rows import Logits, Progress
from .arguments import Common, Role, check_positive
from .inner import Decoupled, InnerTerms, Mask
from .method import Method, distillation
from .terms import NO_LABEL, NO_TEMPERATURE, Components, OnRows, RowMap, Terms


class Mass(NamedTuple):
    """``within`` of a group times the teacher's mass of the group."""

    group: int


Reading = int | Mass | None  # ``within`` of a group, the same times its mass, ``between``
Readings = Mapping[str, tuple[Reading, float, Role | None]]


@dataclass(frozen=True, eq=False)
class SplitTerms:
    """The terms of a method whose components are parts of one split; also their weighted mean at once.

    Args:
        partition: function of rows that gives the groups.
        parts: component -> the group whose ``within`` it is, ``Mass(group)`` for the same times the teacher's mass, or
            ``None`` for ``between``.
        temperature: T.
        kl: direction inside the groups.
        fixed: whether the groups depend on the temperature, so that it cannot be learned.
        direction: of the whole split.

    Example:
        >>> import torch
        >>> from fractionate.losses import by_target
        >>> terms = SplitTerms(by_target, {"target": None, "nontarget": 1}, 4.0)
        >>> lg = Logits(torch.randn(2, 5), torch.randn(2, 5), torch.tensor([0, 1]))
        >>> {name: x.shape for name, x in terms(lg, Progress()).items()}
        {'target': torch.Size([2]), 'nontarget': torch.Size([2])}
    """

    partition: Callable[[Logits], Partition]
    parts: Mapping[str, Reading]
    temperature: float | Tensor
    kl: KL = "forward"
    fixed: bool = False
    direction: Direction = FORWARD

    def __call__(self, lg: Logits, progress: Progress) -> Components:
        """Every component, ``[n]``."""
        part = self.partition(lg)
        split = split_kl(lg.student, lg.teacher, part, self.temperature, self.kl, direction=self.direction)
        return {name: _read(split, reading) for name, reading in self.parts.items()}

    def at(self, temperature: float | Tensor) -> Terms:
        """The same split at another temperature; refused where the groups depend on it."""
        if self.fixed:
            raise ValueError(NO_TEMPERATURE)
        return replace(self, temperature=temperature)

    def on(self, change: RowMap) -> Terms:
        """The split of changed rows."""
        return OnRows(self, change)

    def masked(self, mask: Mask) -> Terms:
        """{label}, {rest} with the rest masked."""
        if self.partition is not by_target:
            raise ValueError(NO_LABEL)
        return InnerTerms(Decoupled(mask, True, self.kl, self.direction), self.temperature)

    def mean(self, lg: Logits, progress: Progress, weights: Mapping[str, float]) -> Tensor | None:
        """Mean over the rows of the weighted components, from one look at the logits; ``None`` where that is no gain.

        Args:
            lg: rows.
            progress: position in training.
            weights: weight of every component that counts.
        """
        temperature = self.temperature
        if lg.weight is not None or isinstance(temperature, Tensor):
            return None
        if not has_split_mean(lg.student, lg.teacher, temperature, self.kl):
            return None
        partition = self.partition(lg)
        each = [0.0] * (partition.size + 1)
        for name, reading in self.parts.items():
            if isinstance(reading, Mass):
                if not self.direction.mixed:
                    return None
                reading = reading.group  # against a mixture its masses are inside already
            each[0 if reading is None else reading + 1] = weights.get(name, 0.0)
        return split_mean(lg.student, lg.teacher, partition, temperature, tuple(each), self.direction)


def _read(split: Split, reading: Reading) -> Tensor:
    if reading is None:
        return split.between
    if isinstance(reading, Mass):
        if split.direction.mixed:  # its masses are inside already
            return split.within[:, reading.group]
        return split.mass[:, reading.group] * split.within[:, reading.group]
    return split.within[:, reading]


def split_method(
    name: str,
    partition: Callable[[Logits], Partition],
    parts: Readings,
    *,
    temperature: float,
    kl: KL = "forward",
    needs_labels: bool = False,
    row_wise: bool = True,
    twin: Method | None = None,
    fixed: bool = False,
    direction: Direction | str = FORWARD,
    **common: Unpack[Common],
) -> Method:
    """A method that is one row of a table: a partition, and for every component what it reads, its weight and role.

    Args:
        name: short name.
        partition: function of rows, such as ``by_target`` or ``partial(by_top, k=5)``.
        parts: component -> (what of the split, see :class:`SplitTerms`; weight; role under :func:`deepkd`).
        temperature, kl, fixed, direction: of the split.
        needs_labels, row_wise, twin: as in :class:`Method`.
        common: the arguments that every method has.

    Raises:
        ValueError: a temperature that is not positive, an unknown direction.
    """
    check_positive(name, temperature=temperature)
    choose("kl direction", kl, KLS)
    whole = as_direction(direction)
    if kl != "forward" and whole != FORWARD:
        raise ValueError(f"{name}: kl={kl!r} turns the KL inside the groups, direction={whole} all of it; give one")
    readings = {component: reading for component, (reading, _, _) in parts.items()}
    return distillation(
        name,
        SplitTerms(partition, readings, temperature, kl, fixed, whole),
        {component: (weight, role) for component, (_, weight, role) in parts.items()},
        needs_labels=needs_labels,
        row_wise=row_wise,
        twin=twin,
        **common,
    )
