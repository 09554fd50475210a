"""The papers' tables as rows of plain data: settings and printed results."""

from __future__ import annotations

import csv
import functools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.resources import files
from typing import Any

Numeric = int | float
DATA = files(__package__) / "data"


@dataclass(frozen=True, slots=True)
class Row:
    """What one source says about one run; ``None`` (or empty) where it says nothing or the column does not apply.

    Values are those that the run really uses, after the source's own defaults.

    Args:
        id: dataset/method/teacher__student/source/variant.
        dataset, task: which images, and classification, segmentation, detection or transfer.
        teacher, student: networks; no teacher = labels alone, neither = free choice.
        method: ``a+b`` combines; ``ls`` standardises the logits.
        variant: form of the method.
        kind: where the source says it: a config file, a script, the name of a log, a README, a paper, ...
        source, config: repository or arXiv id, and the file inside it.
        status: ``ok``; ``reconstructed`` (no published run exists); else why the published file cannot run.
        optimizer .. nesterov: solver; the rate is multiplied by ``lr_decay`` at each of ``milestones`` (epochs;
            iterations of detection), or falls to ``lr_min``; ``lr_warmup_*`` warms up the rate, not the loss.
        temperature, temperatures: one, or those of a method with several.
        ce_weight, kd_weight: of the cross-entropy and of the whole distillation term.
        alpha, beta: weights of DKD's terms.
        w0, w1, w2, k: weights of GDKD and the size of its top group.
        m1, m2, auto_k_ratio: of the forms of GDKD that choose weights or sizes themselves.
        dist_beta, dist_gamma: weights of DIST.
        standardize: whether the distillation term reads standardised logits.
        loss_warmup_epochs: W in min(epoch / W, 1) on the distillation terms.
        views: 2 = weak and strong.
        wv_weight, cv_weight, tau_w, tau_s: of CRLD.
        dot_delta: shift of DOT.
        delta_*: shifts of DeepKD's streams as the source writes them.
        mu_*: momentum that the buffers really have.
        decay_buffer: stream whose buffer carries the weight decay.
        mask_*: DeepKD's top-k mask: classes kept at the start, in the middle and at the end, and the phase boundaries.
        augmentation: of the training images.
        teacher_weights: how the teacher was trained.
        teacher_acc, student_acc: expected top-1 of the teacher, and of the student trained alone, in percent.
        extra: further arguments of the method.
        remark: what a reader must know.
    """

    id: str
    dataset: str
    task: str
    teacher: str
    student: str
    method: str
    variant: str
    kind: str
    source: str
    config: str
    status: str
    optimizer: str
    lr: float | None
    lr_schedule: str
    milestones: tuple[int, ...]
    lr_decay: float | None
    lr_min: float | None
    lr_warmup_epochs: int | None
    lr_warmup_start: float | None
    epochs: int | None
    iterations: int | None
    batch_size: int | None
    weight_decay: float | None
    momentum: float | None
    nesterov: bool | None
    temperature: Numeric | None
    temperatures: tuple[Numeric, ...]
    ce_weight: Numeric | None
    kd_weight: Numeric | None
    alpha: Numeric | None
    beta: Numeric | None
    w0: Numeric | None
    w1: Numeric | None
    w2: Numeric | None
    k: int | None
    m1: Numeric | None
    m2: Numeric | None
    auto_k_ratio: Numeric | None
    dist_beta: Numeric | None
    dist_gamma: Numeric | None
    standardize: bool | None
    loss_warmup_epochs: int | None
    views: int | None
    wv_weight: Numeric | None
    cv_weight: Numeric | None
    tau_w: Numeric | None
    tau_s: Numeric | None
    dot_delta: Numeric | None
    delta_task: Numeric | None
    delta_target: Numeric | None
    delta_nontarget: Numeric | None
    mu_task: Numeric | None
    mu_target: Numeric | None
    mu_nontarget: Numeric | None
    decay_buffer: str
    mask_k_start: int | None
    mask_k_plateau: int | None
    mask_k_end: int | None
    mask_phase_1: float | None
    mask_phase_2: float | None
    augmentation: str
    teacher_weights: str
    teacher_acc: float | None
    student_acc: float | None
    extra: Mapping[str, Numeric | str] = field(hash=False)
    remark: str


TYPES = {column.name: str(column.type) for column in fields(Row)}
COLUMNS = tuple(TYPES)


@functools.cache
def rows() -> Mapping[str, Row]:
    """Every row of the table by its id, in the order of the table; read at the first call.

    Example:
        >>> rows()["cifar100/dkd/resnet32x4__resnet8x4/mdistiller"].beta
        8
    """
    header, *lines = csv.reader((DATA / "recipes.csv").read_text(encoding="utf-8").splitlines())
    if tuple(header) != COLUMNS:
        raise ValueError(f"recipes.csv: expected the columns {', '.join(COLUMNS)}; got {', '.join(header)}")
    return {cells[0]: read(cells) for cells in lines}


def read(cells: Sequence[str]) -> Row:
    """A row from the cells of one line, in the order of :data:`COLUMNS`.

    Raises:
        ValueError: a cell that is not of its column's type; says which.

    Example:
        >>> read(["mine" if column == "id" else "" for column in COLUMNS]).beta is None
        True
    """
    values = []
    for (column, kind), text in zip(TYPES.items(), cells, strict=True):
        try:
            values.append(_cell(kind, text))
        except ValueError as error:
            raise ValueError(f"recipe {cells[0]!r}, column {column!r}: expected {kind}, got {text!r}") from error
    return Row(*values)


def number(text: str) -> Numeric:
    """An integer if it is written as one.

    Example:
        >>> number("4"), number("0.5")
        (4, 0.5)
    """
    try:
        return int(text)
    except ValueError:
        return float(text)


@functools.cache  # most cells hold one of few values
def _cell(kind: str, text: str) -> Any:
    return READERS[kind](text.strip())


def _optional(reader: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: reader(text) if text else None


def _several(text: str) -> tuple[Numeric, ...]:
    return tuple(number(word) for word in text.split())


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def _pairs(text: str) -> dict[str, Numeric | str]:
    pairs: dict[str, Numeric | str] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise ValueError(text)
        try:
            pairs[name] = number(value)
        except ValueError:
            pairs[name] = value
    return pairs


READERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int | None": _optional(int),
    "float | None": _optional(float),
    "Numeric | None": _optional(number),
    "bool | None": _optional(_truth),
    "tuple[int, ...]": lambda text: tuple(int(word) for word in text.split()),
    "tuple[Numeric, ...]": _several,
    "Mapping[str, Numeric | str]": _pairs,
}


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
        >>> from .rows import rows
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
