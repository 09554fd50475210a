"""Looking at images with a class for every pixel, and measuring networks on images of either kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from .._terminal import one_line
from ..data import Photos, SmallImages, Source
from ..data.dense import VOID, DenseImages
from ..tasks import DenseEvaluation, Segmentation, Task, measure_with
from ..tasks.classification import Evaluation, evaluate, predict

if TYPE_CHECKING:
    from rich.table import Table


def metrics_of(
    net: nn.Module, other: nn.Module | None, test: Source, task: Task | None
) -> Evaluation | DenseEvaluation:
    """Those of the task; of classification, the teacher's answers are the largest of its logits."""
    if isinstance(test, SmallImages | Photos):
        return evaluate(net, test, None if other is None else predict(other, test)[0].argmax(1))
    asked = task if isinstance(task, Segmentation) else Segmentation()
    asked = replace(asked, classes=test.classes)
    beside = None if other is None else measure_with(asked.metrics(), other, test)
    return measure_with(asked.metrics(beside), net, test).result()


def class_table(ious: Mapping[str, float], absent: Sequence[str]) -> Table:
    """The IoU of every class, and which classes no label names."""
    from rich.table import Table

    left_out = f" (no pixel has the label of {', '.join(absent)}: left out of the mean)" if absent else ""
    table = Table(title=f"intersection over union{left_out}")
    table.add_column("class")
    table.add_column("IoU %", justify="right")
    for name, value in ious.items():
        table.add_row(one_line(name).replace("[", r"\["), f"{value:.2f}")
    return table


def pixels_said(train: DenseImages) -> str:
    """Which part of the pixels has a label, and how many of them the rarest class has, in one epoch's crops."""
    seen = [torch.bincount(b.target.flatten().cpu(), minlength=VOID + 1) for b in train.batches(1)]
    counts = torch.stack(seen).sum(0)
    kept = counts[: train.num_classes].tolist()
    empty = [train.classes[label] for label, n in enumerate(kept) if not n]
    rare = min(range(len(kept)), key=kept.__getitem__)
    said = f"{train.num_classes} classes; {100 * sum(kept) / int(counts.sum()):.1f} % of the pixels have a label"
    if empty:
        return f"{said}; no pixel of {', '.join(empty[:5])}: it cannot be learnt"
    return f"{said}, {100 * kept[rare] / sum(kept):.2f} % of these are {train.classes[rare]}, the rarest"
