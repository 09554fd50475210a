"""What a row of the table means for pixels and for regions, and what published code takes where a row is silent."""

from __future__ import annotations

from dataclasses import replace

from ..config.data import Data
from ..config.method import MethodSpec, Value
from ..config.optimizers import SGD, LearningRate
from ..config.run import Network, Run
from ..config.task import Detection, Segmentation
from .rows import Row

# What the published code takes for pixels: temperature 1, no warm-up, the cross-entropy whole.
OF_PIXELS: dict[str, dict[str, Value]] = {
    "kd": {"temperature": 1.0, "kd_weight": 1.0, "ce_weight": 1.0},
    "dkd": {"alpha": 1.0, "beta": 2.0, "temperature": 1.0, "warmup": 1},
    "gdkd": {"k": 3, "w0": 1.0, "w1": 1.0, "w2": 2.0, "temperature": 1.0, "warmup": 1},
    "dist": {"beta": 1.0, "gamma": 1.0, "temperature": 1.0, "scale": False},
}
# And for regions: temperature 1, no warm-up, the detector's own losses whole.
OF_REGIONS: dict[str, dict[str, Value]] = {
    "kd": {"temperature": 1.0, "kd_weight": 1.0, "ce_weight": 1.0},
    "dkd": {"ce_weight": 1.0, "alpha": 1.0, "beta": 0.25, "temperature": 1.0, "warmup": 1},
    "gdkd": {"ce_weight": 1.0, "k": 5, "w0": 1.0, "w1": 0.125, "w2": 0.25, "temperature": 1.0, "warmup": 1},
    "gdkd3": {"ce_weight": 1.0, "k": 2, "w0": 1.0, "w1": 0.0, "w2": 0.25, "temperature": 1.0, "warmup": 1},
}
NETWORKS = {
    "deeplabv3_resnet101": "smp:deeplabv3-resnet101",
    "deeplabv3_resnet18": "smp:deeplabv3-resnet18",
    "deeplabv3_mobilenet_v2": "smp:deeplabv3-mobilenet_v2",
    "pspnet_resnet18": "smp:pspnet-resnet18",
    "faster_rcnn_r101_fpn": "fasterrcnn-resnet101",
    "faster_rcnn_r50_fpn": "fasterrcnn-resnet50",
    "faster_rcnn_r18_fpn": "fasterrcnn-resnet18",
    "faster_rcnn_mv2_fpn": "fasterrcnn-mobilenet_v2",
}
AUGMENTATIONS = {
    "scale 0.5..2.0 step 0.1 + crop 512x1024 + flip; BGR mean subtraction": Data(
        "cityscapes", crop=(512, 1024), scale=(0.5, 2.0), scale_step=0.1, flip=True
    ),
    "resize shortest side 640..800 + flip": Data("coco", size=1333, shorter=(640, 672, 704, 736, 768, 800), flip=True),
}
STEPS = {"segmentation": 186, "detection": 14_659}  # of an epoch: 2,975 images, 16 at once; 117,266 with boxes, 8
ROUNDED = "iterations are rounded to whole epochs"
PIXELS = "images are normalised as ImageNet is, in place of BGR minus a mean"
OF_CITYSCAPES = (
    f"{ROUNDED}; {PIXELS}",
    "the cross-entropy is taken at the size of the logits, labels are aligned, and unlabelled pixels are not distilled",
)
OF_COCO = (
    f"{ROUNDED}, and so are milestones; the rate warms up over the first epoch, of which the row says nothing",
    f"{PIXELS}; the detectors are torchvision's, whose settings of proposals are not those of the source's framework",
)
ONE_STAGE = "the trainer's detectors have two stages; rows and losses of one-stage ones are for loops of one's own"
NO_AUXILIARY = "the networks here have no auxiliary head, whose 0.4 x cross-entropy and distillation are left out"


def of_pixels(method: MethodSpec) -> MethodSpec:
    """The method with the settings of the published code for pixels, where it has some; given ones are kept.

    Source: ZaberKo/seg-gdkd, winycg/CIRKD, hunto/DIST_KD.

    Example:
        >>> of_pixels(MethodSpec("dkd", {"beta": 4})).args["beta"]
        4
    """
    return method.with_usual(OF_PIXELS.get(method.name, {}))


def of_regions(method: MethodSpec) -> MethodSpec:
    """The method with the settings of the published code for regions, where it has some; given ones are kept.

    Source: megvii-research/mdistiller, ZaberKo/detectron2-gdkd.

    Example:
        >>> of_regions(MethodSpec("dkd")).args["beta"]
        0.25
    """
    return method.with_usual(OF_REGIONS.get(method.name, {}))


def as_published(row: Row, method: MethodSpec) -> MethodSpec:
    """The method with what published code takes for the row's task where neither row nor method says anything."""
    return {"segmentation": of_pixels, "detection": of_regions}.get(row.task, lambda other: other)(method)


def dense_obstacle(row: Row) -> str | None:
    """Why the trainer cannot run a row on Cityscapes or COCO; ``None`` if it can."""
    if row.task == "detection" and row.teacher.startswith("gfl"):
        return ONE_STAGE
    if row.task == "detection" and not row.lr:
        return "its source prints no settings"
    if row.augmentation not in AUGMENTATIONS:
        return f"the trainer has no augmentation {row.augmentation!r} for {row.dataset}"
    unknown = [name for name in (row.teacher, row.student) if name not in NETWORKS]
    return f"no network here is the table's {unknown[0]!r}" if unknown else None


def dense_needs(row: Row) -> list[str]:
    """What the source leaves open besides the solver: nobody offers the teachers' weights."""
    return ["teacher.checkpoint"]


def dense_notes(row: Row) -> list[str]:
    """What a reader must know."""
    if row.task == "detection":
        return [*OF_COCO]
    return [*OF_CITYSCAPES, NO_AUXILIARY] if "auxiliary" in row.remark else [*OF_CITYSCAPES]


def dense_draft(row: Row, method: MethodSpec) -> Run:
    """The run of a row on Cityscapes or COCO, its iterations as epochs.

    On Cityscapes the rate falls as (1 - share of the run) ** 0.9 down to the row's least one, on COCO at milestones.

    Example:
        >>> from .rows import rows
        >>> row = rows()["cityscapes/dist/deeplabv3_resnet101__pspnet_resnet18/seg-gdkd/pixels-at-stride-8"]
        >>> run = dense_draft(row, MethodSpec("dist"))
        >>> run.epochs, run.learning_rate.minimum, run.method.args["scale"]
        (215, 0.005, False)
        >>> row = rows()["coco2017/dkd/faster_rcnn_r101_fpn__faster_rcnn_r18_fpn/mdistiller/all-rois"]
        >>> run = dense_draft(row, MethodSpec("dkd"))
        >>> run.epochs, run.learning_rate.milestones, run.data.shorter[-1], run.data.size
        (12, (8, 11), 800, 1333)
    """
    data, solver, steps = AUGMENTATIONS[row.augmentation], SGD(), STEPS[row.task]
    lr = row.lr or solver.lr
    if row.task == "detection":
        ends = tuple(round(at / steps) for at in row.milestones)
        rate = LearningRate("step", ends, row.lr_decay or 0.1, warmup_epochs=1, warmup_start=0.001, per="step")
    else:
        rate = LearningRate("poly", minimum=(row.lr_min or 0.0) / lr, per="step")
    return Run(
        student=Network(NETWORKS[row.student], pretrained=True),
        teacher=Network(NETWORKS[row.teacher]),
        method=as_published(row, method),
        data=replace(data, batch_size=row.batch_size or data.batch_size),
        optimizer=SGD(
            lr=lr,
            momentum=solver.momentum if row.momentum is None else row.momentum,
            weight_decay=solver.weight_decay if row.weight_decay is None else row.weight_decay,
        ),
        learning_rate=rate,
        task=Detection() if row.task == "detection" else Segmentation(logits="head"),
        epochs=round((row.iterations or steps) / steps),
    )
