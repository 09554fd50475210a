"""Published accuracies that the recipes refer to."""

from __future__ import annotations

import csv
import functools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from .row import DATA, Row

METRICS = (
    "top1",
    "top1_best_epoch",
    "top1_last_epoch",
    "ap",
    "miou_val",
    "top5",
    "top1_gain",
)  # the telling ones first
SAME_METHOD = {"lskd": "kd+ls"}  # two spellings of the table
MASKED = " (top-k mask)"  # with which DeepKD's own rows are published
Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Number:
    """One published result.

    Args:
        dataset, teacher, student, method: of the run.
        metric: ``top1``, ``top1_best_epoch``, ``ap``, ...; in percent. ``top1_gain`` is a difference.
        value: as printed.
        source, source_kind: where it is printed.
        remark: what a reader must know.
    """

    dataset: str
    teacher: str
    student: str
    method: str
    metric: str
    value: str
    source: str
    source_kind: str
    remark: str

    @property
    def quoted(self) -> bool:
        """Whether the source took it from another one."""
        return "quoted" in self.remark

    @property
    def percent(self) -> float | None:
        """The value; ``None`` for a gain."""
        return None if self.metric == "top1_gain" else float(self.value)


def numbers_of(row: Row) -> tuple[Number, ...]:
    """Every published result for the pair and the method of a row, those of the row's own source first.

    Results of other sources may come from other settings.

    Example:
        >>> from .row import rows
        >>> numbers_of(rows()["cifar100/dkd/resnet32x4__resnet8x4/mdistiller"])[0].value
        '76.32'
    """
    key = (row.dataset, row.teacher, row.student, _method(row.method))
    found = _by_run().get(key, []) if row.student else []
    return tuple(sorted(found, key=lambda n: (not is_own(n, row), METRICS.index(n.metric), n.quoted)))


def is_own(number: Number, row: Row) -> bool:
    """Whether the row's source printed it as its own result."""
    return number.source == row.source and not number.quoted


@functools.cache
def _by_run() -> Mapping[Key, list[Number]]:
    table: defaultdict[Key, list[Number]] = defaultdict(list)
    for cells in csv.DictReader((DATA / "published.csv").read_text(encoding="utf-8").splitlines()):
        found = Number(**cells)
        table[found.dataset, found.teacher, found.student, _method(found.method)].append(found)
    return table


def _method(name: str) -> str:
    name = name.removesuffix(MASKED)
    return SAME_METHOD.get(name, name)
