"""Looking at images with a class for every pixel or with boxes, and measuring networks on images of any kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from .._terminal import one_line
from ..data import Photos, SmallImages, Source
from ..data.boxes import BoxImages
from ..data.dense import VOID, DenseImages
from ..tasks import DenseEvaluation, Detection, DetectionEvaluation, Result, Segmentation, Task, measure_with
from ..tasks.classification import Evaluation, evaluate, predict

if TYPE_CHECKING:
    from rich.table import Table


def metrics_of(
    net: nn.Module, other: nn.Module | None, test: Source, task: Task | None
) -> Evaluation | DenseEvaluation | DetectionEvaluation:
    """Those of the task; of classification, the teacher's answers are the largest of its logits."""
    if isinstance(test, SmallImages | Photos):
        return evaluate(net, test, None if other is None else predict(other, test)[0].argmax(1))
    if isinstance(test, BoxImages):
        boxes = Detection(classes=test.classes)
        found = None if other is None else measure_with(boxes.metrics(), other, test)
        return measure_with(boxes.metrics(found), net, test).result()
    asked = task if isinstance(task, Segmentation) else Segmentation()
    asked = replace(asked, classes=test.classes)
    beside = None if other is None else measure_with(asked.metrics(), other, test)
    return measure_with(asked.metrics(beside), net, test).result()


def class_table(m: DenseEvaluation | DetectionEvaluation) -> Table:
    """The IoU or the AP of every class, and which classes no label names."""
    from rich.table import Table

    of_boxes = isinstance(m, DetectionEvaluation)
    title, unit, one = (
        ("average precision", "AP %", "box") if of_boxes else ("intersection over union", "IoU %", "pixel")
    )
    left_out = f" (no {one} has the label of {', '.join(m.absent)}: left out of the mean)" if m.absent else ""
    table = Table(title=f"{title}{left_out}")
    table.add_column("class")
    table.add_column(unit, justify="right")
    for name, value in (m.aps if isinstance(m, DetectionEvaluation) else m.ious).items():
        table.add_row(one_line(name).replace("[", r"\["), f"{value:.2f}")
    return table


def classes_said(train: Source) -> str:
    """What there is to learn from, of pixels or boxes; nothing of other images."""
    if isinstance(train, DenseImages):
        return pixels_said(train)
    return boxes_said(train) if isinstance(train, BoxImages) else ""


def measured_on(found: Result) -> str:
    """What a calibration counts, in words."""
    units = {DenseEvaluation: "pixels", DetectionEvaluation: "boxes that it gives"}
    return units.get(type(found), "images")


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


def boxes_said(train: BoxImages) -> str:
    """How many boxes there are to learn from, the rarest category, and what was left out of the annotations."""
    labels = torch.cat([p.boxes[p.boxes[:, 6] == 0, 0] for p in train.pictures.found]).long() - 1
    counts = torch.bincount(labels, minlength=train.num_classes).tolist()
    crowds = sum(int((p.boxes[:, 6] > 0).sum()) for p in train.pictures.found)
    rare = min(range(len(counts)), key=counts.__getitem__)
    left = [f"{n:,} {what}" for what, n in {**train.pictures.dropped, "boxes of crowds": crowds}.items() if n]
    said = f"{train.num_classes} categories, {len(labels):,} boxes in {train.count:,} images"
    said += f", {counts[rare]:,} of them {one_line(train.classes[rare])}, the rarest" if counts[rare] else ""
    empty = [one_line(name) for name, n in zip(train.classes, counts, strict=True) if not n]
    said += f"; {len(empty)} categories have none and cannot be learnt ({', '.join(empty[:5])})" if empty else ""
    return said + (f"; not trained on: {', '.join(left)}" if left else "")
