"""What a row of the table means for pixels, and what published code takes for them where a row is silent."""

from __future__ import annotations

from dataclasses import replace

from ..config.data import Data
from ..config.method import MethodSpec, Value
from ..config.optimizers import SGD, LearningRate
from ..config.run import Network, Run
from ..config.task import Segmentation
from .rows import Row

# What the published code takes for pixels: temperature 1, no warm-up, the cross-entropy whole.
OF_PIXELS: dict[str, dict[str, Value]] = {
    "kd": {"temperature": 1.0, "kd_weight": 1.0, "ce_weight": 1.0},
    "dkd": {"alpha": 1.0, "beta": 2.0, "temperature": 1.0, "warmup": 1},
    "gdkd": {"k": 3, "w0": 1.0, "w1": 1.0, "w2": 2.0, "temperature": 1.0, "warmup": 1},
    "dist": {"beta": 1.0, "gamma": 1.0, "temperature": 1.0, "scale": False},
}
NETWORKS = {
    "deeplabv3_resnet101": "smp:deeplabv3-resnet101",
    "deeplabv3_resnet18": "smp:deeplabv3-resnet18",
    "deeplabv3_mobilenet_v2": "smp:deeplabv3-mobilenet_v2",
    "pspnet_resnet18": "smp:pspnet-resnet18",
}
AUGMENTATION = "scale 0.5..2.0 step 0.1 + crop 512x1024 + flip; BGR mean subtraction"
STEPS = 186  # of an epoch of Cityscapes: 2,975 images, 16 at once
NOTES = (
    "iterations are rounded to whole epochs; images are normalised as ImageNet is, in place of BGR minus a mean",
    "the cross-entropy is taken at the size of the logits, labels are aligned, and unlabelled pixels are not distilled",
)
ONE_STAGE = "the trainer's detectors have two stages; rows and losses of one-stage ones are for loops of one's own"
SHORTER_SIDE = (
    "its images have a shorter side of 640 to 800 pixels, those of the trainer one size; "
    "`fractionate train detection` trains such a pair with this method's published weights"
)
NO_AUXILIARY = "the networks here have no auxiliary head, whose 0.4 x cross-entropy and distillation are left out"


def of_pixels(method: MethodSpec) -> MethodSpec:
    """The method with the settings of the published code for pixels, where it has some; given ones are kept.

    Source: ZaberKo/seg-gdkd, winycg/CIRKD, hunto/DIST_KD.

    Example:
        >>> of_pixels(MethodSpec("dkd", {"beta": 4})).args["beta"]
        4
    """
    return method.with_usual(OF_PIXELS.get(method.name, {}))


def dense_obstacle(row: Row) -> str | None:
    """Why the trainer cannot run a row on Cityscapes or COCO; ``None`` if it can."""
    if row.task == "detection" and row.teacher.startswith("gfl"):
        return ONE_STAGE
    if row.task == "detection":
        return SHORTER_SIDE if row.lr else "its source prints no settings"
    if row.augmentation != AUGMENTATION:
        return f"the trainer has no augmentation {row.augmentation!r} for {row.dataset}"
    unknown = [name for name in (row.teacher, row.student) if name not in NETWORKS]
    return f"no network here is the table's {unknown[0]!r}" if unknown else None


def dense_needs(row: Row) -> list[str]:
    """What the source leaves open besides the solver: nobody offers the teachers' weights."""
    return ["teacher.checkpoint"]


def dense_notes(row: Row) -> list[str]:
    """What a reader must know."""
    return [*NOTES, NO_AUXILIARY] if "auxiliary" in row.remark else [*NOTES]


def dense_draft(row: Row, method: MethodSpec) -> Run:
    """The run of a row on Cityscapes; the rate falls as (1 - share of the run) ** 0.9 down to the row's least one.

    Example:
        >>> from .rows import rows
        >>> row = rows()["cityscapes/dist/deeplabv3_resnet101__pspnet_resnet18/seg-gdkd/pixels-at-stride-8"]
        >>> run = dense_draft(row, MethodSpec("dist"))
        >>> run.epochs, run.learning_rate.minimum, run.method.args["scale"]
        (215, 0.005, False)
    """
    crop = Data("cityscapes", crop=(512, 1024), scale=(0.5, 2.0), scale_step=0.1, flip=True)
    solver = SGD()
    lr = row.lr or solver.lr
    return Run(
        student=Network(NETWORKS[row.student], pretrained=True),
        teacher=Network(NETWORKS[row.teacher]),
        method=of_pixels(method),
        data=replace(crop, batch_size=row.batch_size or crop.batch_size),
        optimizer=SGD(
            lr=lr,
            momentum=solver.momentum if row.momentum is None else row.momentum,
            weight_decay=solver.weight_decay if row.weight_decay is None else row.weight_decay,
        ),
        learning_rate=LearningRate("poly", minimum=(row.lr_min or 0.0) / lr, per="step"),
        task=Segmentation(logits="head"),
        epochs=round((row.iterations or STEPS) / STEPS),
    )
