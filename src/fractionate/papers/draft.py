"""A run by the field's common settings, and runs of another length."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..config.data import Data
from ..config.method import METHODS, MethodSpec
from ..config.optimizers import SGD, AdamW, LearningRate
from ..config.run import Network, Run
from ..models.zoo import MODELS
from .dense import dense_draft, dense_needs, dense_notes, dense_obstacle
from .method import missing_method
from .photos import (
    CLIP,
    SMOOTHING,
    photos_data,
    photos_needs,
    photos_network,
    photos_notes,
    photos_obstacle,
)
from .rows import Row

PUBLISHED_EPOCHS = 240  # of the CIFAR-100 runs that the methods' default warm-up (in epochs) was made for
TORCHS_COSINE = ("ZaberKo/vit-gdkd",)  # sources whose minimum would come after the last epoch


def defaults(method: MethodSpec) -> dict[str, Any]:
    """Arguments of the innermost method that were left at their defaults.

    Example:
        >>> defaults(MethodSpec.parse("kd(temperature=2)"))["kd_weight"]
        0.9
    """
    parameters = inspect.signature(METHODS[method.name]).parameters
    return {name: p.default for name, p in parameters.items() if name not in method.args}


def scaled(method: MethodSpec, epochs: int) -> MethodSpec:
    """The method with its default loss warm-up cut to the length of the run; one that was given is kept.

    Args:
        method: names and arguments.
        epochs: length of the run.

    Example:
        >>> scaled(MethodSpec("dkd"), 120).args
        {'warmup': 10}
        >>> scaled(MethodSpec("kd"), 120).args
        {}
    """
    warmup = defaults(method).get("warmup") or 1
    if warmup <= 1:
        return method
    return replace(method, args={**method.args, "warmup": max(1, round(warmup * epochs / PUBLISHED_EPOCHS))})


def milestones(published: Sequence[int], epochs: int) -> tuple[int, ...]:
    """Milestones of a 240-epoch run at the same shares of another length.

    Example:
        >>> milestones((150, 180, 210), 24)
        (15, 18, 21)
    """
    return tuple(sorted({max(1, round(m * epochs / PUBLISHED_EPOCHS)) for m in published}))


def lasting(run: Run, epochs: int) -> Run:
    """The run with another length; milestones and the warm-ups of the rate and of the loss keep their share of it.

    Example:
        >>> from fractionate.papers.recipes import paper
        >>> short = lasting(paper("cifar100/dkd/resnet56__resnet20/mdistiller").run(), 24)
        >>> short.epochs, short.learning_rate.milestones, short.method.args["warmup"]
        (24, (15, 18, 21), 2)
    """
    share, rate, method = epochs / run.epochs, run.learning_rate, run.method
    marks = tuple(sorted({max(1, round(m * share)) for m in rate.milestones}))
    rate = replace(rate, milestones=marks, warmup_epochs=round(rate.warmup_epochs * share))
    warmup = method.args.get("warmup")
    if isinstance(warmup, int | float):
        method = replace(method, args={**method.args, "warmup": max(1, round(warmup * share))})
    return replace(run, epochs=epochs, learning_rate=rate, method=method)


OTHER_NAMES = {"resnet56_cos": "resnet56"}  # the table names a teacher after how it was trained
CROP = Data("cifar100", shift=4, flip=True)
STRONG = "crop32-pad4+flip+autoaugment(cifar10 policy)+cutout16"
AUGMENTATIONS = {"crop32-pad4+flip": CROP, STRONG: replace(CROP, augment="autoaugment+cutout")}
DENSE = ("cityscapes", "coco2017")
OPEN = Network("to-be-named")  # stands for a free choice until it is made


def obstacle(row: Row) -> str | None:
    """Why the trainer cannot run a row; ``None`` if it can."""
    if row.dataset in DENSE:
        return missing_method(row) or dense_obstacle(row)
    if row.dataset != "cifar100":
        return photos_obstacle(row) or missing_method(row)
    for name in (row.teacher, row.student):
        if name and OTHER_NAMES.get(name, name) not in MODELS:
            return f"no network here is the table's {name!r}"
    if row.augmentation not in AUGMENTATIONS:
        return f"the trainer has no augmentation {row.augmentation!r}"
    return missing_method(row)


def open_fields(row: Row) -> list[str]:
    """Fields of the run, outside its method, that the source leaves open."""
    given = {
        "teacher": row.teacher or row.method == "ce",
        "student": row.student,
        "optimizer.lr": row.lr,
        "optimizer.momentum": row.momentum or row.optimizer == "adamw",
        "optimizer.weight_decay": row.weight_decay,
        "learning_rate": row.lr_schedule,
        "data.batch_size": row.batch_size,
        "epochs": row.epochs or row.iterations,
    }
    left = [path for path, value in given.items() if value in (None, "", False)]
    if row.dataset == "cifar100":
        return left
    return left + (dense_needs(row) if row.dataset in DENSE else photos_needs(row))


def set_notes(row: Row) -> list[str]:
    """What a reader must know of the images and networks of another set than CIFAR-100."""
    if row.dataset == "cifar100":
        return []
    return dense_notes(row) if row.dataset in DENSE else photos_notes(row)


def draft(row: Row, method: MethodSpec) -> Run:
    """The run of a row with this method; what is open has a default that a change replaces."""
    if row.dataset in DENSE:
        return dense_draft(row, method)
    small = row.dataset == "cifar100"
    data = AUGMENTATIONS[row.augmentation] if small else photos_data(row)
    teacher = _network(row, row.teacher, teacher=True) if row.method != "ce" else None
    if smoothing := SMOOTHING.get(row.augmentation):
        method = replace(method, args={**method.args, "label_smoothing": smoothing})
    return Run(
        student=_network(row, row.student),
        teacher=teacher,
        method=method,
        data=replace(
            data,
            batch_size=row.batch_size or data.batch_size,
            strong="randaugment" if row.views == 2 else "none",
        ),
        optimizer=_optimizer(row),
        learning_rate=_learning_rate(row),
        epochs=row.epochs or 1,
        channels_last=True,  # a matter of speed, as in the recipe cifar100
    )


def _optimizer(row: Row) -> SGD | AdamW:
    if row.optimizer == "adamw":
        usual = AdamW()
        return AdamW(
            lr=row.lr or usual.lr,
            weight_decay=usual.weight_decay if row.weight_decay is None else row.weight_decay,
            clip=CLIP.get(row.augmentation),
            decay="weights",
        )
    solver = SGD()
    return SGD(
        lr=row.lr or solver.lr,
        momentum=solver.momentum if row.momentum is None else row.momentum,
        weight_decay=solver.weight_decay if row.weight_decay is None else row.weight_decay,
        nesterov=bool(row.nesterov),
    )


def _network(row: Row, name: str, *, teacher: bool = False) -> Network:
    """The network; the published wide ResNets let three batch norms see their input twice, which moves statistics."""
    if not name:
        return OPEN
    if row.dataset != "cifar100":
        return photos_network(row, name, teacher=teacher)
    known = OTHER_NAMES.get(name, name)
    return Network(known, published_bn=known.startswith("wrn_"))


def _learning_rate(row: Row) -> LearningRate:
    """The schedule; a cosine whose end is not given goes to 0."""
    plain = LearningRate()
    if row.lr_schedule == "step":
        rate = LearningRate("step", milestones=row.milestones, decay=row.lr_decay or plain.decay)
    elif row.lr_schedule == "cosine" and row.lr:
        rate = LearningRate("cosine", minimum=(row.lr_min or 0.0) / row.lr)
        if row.source in TORCHS_COSINE and row.lr_min:
            rate = replace(rate, cosine_end="after")
    else:
        return plain
    if row.lr_warmup_epochs is None or row.lr_warmup_start is None:
        return rate
    return replace(rate, warmup_epochs=row.lr_warmup_epochs, warmup_start=row.lr_warmup_start)
