"""From a row to a :class:`~fractionate.train.Run`: data, networks, solver; what stands in the way, and what is open."""

from __future__ import annotations

from dataclasses import replace

from ..models.zoo import MODELS
from ..train import Data, LearningRate, MethodSpec, Network, Optimizer, Run
from .row import Row
from .spec import missing_method

OTHER_NAMES = {"resnet56_cos": "resnet56"}  # the table names a teacher after how it was trained
CROP = Data("cifar100", shift=4, flip=True)
STRONG = "crop32-pad4+flip+autoaugment(cifar10 policy)+cutout16"
AUGMENTATIONS = {"crop32-pad4+flip": CROP, STRONG: replace(CROP, augment="autoaugment+cutout")}
OPEN = Network("to-be-named")  # stands for a free choice until it is made


def obstacle(row: Row) -> str | None:
    """Why the trainer cannot run a row; ``None`` if it can."""
    if row.dataset != "cifar100":
        return f"the trainer has no {row.task} on {row.dataset} ({row.augmentation or 'augmentation not stated'})"
    if row.optimizer not in ("sgd", ""):
        return f"the trainer's optimizer is SGD with a momentum per stream, the source's {row.optimizer}"
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
        "optimizer.momentum": row.momentum,
        "optimizer.weight_decay": row.weight_decay,
        "learning_rate": row.lr_schedule,
        "data.batch_size": row.batch_size,
        "epochs": row.epochs,
    }
    return [path for path, value in given.items() if value in (None, "", False)]


def draft(row: Row, method: MethodSpec) -> Run:
    """The run of a row with this method; what is open has a default that a change replaces."""
    data, solver = AUGMENTATIONS[row.augmentation], Optimizer()
    teacher = _network(row.teacher) if row.method != "ce" else None
    return Run(
        student=_network(row.student),
        teacher=teacher,
        method=method,
        data=replace(
            data,
            batch_size=row.batch_size or data.batch_size,
            strong="randaugment" if row.views == 2 else "none",
        ),
        optimizer=Optimizer(
            lr=row.lr or solver.lr,
            momentum=solver.momentum if row.momentum is None else row.momentum,
            weight_decay=solver.weight_decay if row.weight_decay is None else row.weight_decay,
            nesterov=bool(row.nesterov),
        ),
        learning_rate=_learning_rate(row),
        epochs=row.epochs or 1,
        channels_last=True,  # a matter of speed, as in the recipe cifar100
    )


def _network(name: str) -> Network:
    return Network(OTHER_NAMES.get(name, name)) if name else OPEN


def _learning_rate(row: Row) -> LearningRate:
    """The schedule; a cosine whose end is not given goes to 0."""
    plain = LearningRate()
    if row.lr_schedule == "step":
        rate = LearningRate("step", milestones=row.milestones, decay=row.lr_decay or plain.decay)
    elif row.lr_schedule == "cosine" and row.lr:
        rate = LearningRate("cosine", minimum=(row.lr_min or 0.0) / row.lr)
    else:
        return plain
    if row.lr_warmup_epochs is None or row.lr_warmup_start is None:
        return rate
    return replace(rate, warmup_epochs=row.lr_warmup_epochs, warmup_start=row.lr_warmup_start)
