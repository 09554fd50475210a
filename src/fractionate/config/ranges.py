"""Where the numbers of a config may lie, and which of its fields contradict each other."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .optimizers import SGD, AdamW, LearningRate
    from .run import Run
    from .task import Detection, Segmentation

SEEDS = 2**32 - 1  # those of NumPy; a source multiplies them by a million and adds the epoch
EPOCHS = 1_000_000
THREADS = 1024
FOLDERS = ("folder", "imagenet", "tiny-imagenet", "cub200", "dtd", "food101")  # data sets of image files
BOXED = ("coco",)  # data sets with boxes
# Those whose images have no size of their own, or can be given another one.
SIZED = (*FOLDERS, "stl10", "cifar10", "cifar100", *BOXED)
DENSE = ("camvid", "cityscapes", "ade20k", "voc", "masks")  # data sets with a class for every pixel
OF_DENSE = ("crop", "scale", "scale_step", "colour", "multiple")  # fields of the data for these sets alone
LOADED = (
    "resized_crop",
    "crop_scale",
    "crop_pct",
    "interpolation",
    "erasing",
    "repeats",
)  # what only loaded photos have
LABELS = 255  # the largest label that a mask holds


def within(least: float = -math.inf, most: float = math.inf, **values: float | None) -> None:
    """Refuse numbers outside a range, and those that are not finite.

    Args:
        least, most: ends of the range, which belong to it.
        values: numbers by name; ``None`` is not looked at.

    Raises:
        ValueError: names the first.

    Example:
        >>> within(1, 9, k=10)
        Traceback (most recent call last):
        ...
        ValueError: k must be at most 9, got 10
        >>> within(0, 1, decay=float("nan"))
        Traceback (most recent call last):
        ...
        ValueError: decay must be a finite number, got nan
    """
    for name, value in values.items():
        if value is None or (math.isfinite(value) and least <= value <= most):
            continue
        if math.isnan(value) or (math.isinf(most) and value > least):
            raise ValueError(f"{name} must be a finite number, got {value}")
        side = f"at most {most}" if value > most else f"at least {least}"
        raise ValueError(f"{name} must be {side}, got {value}")


def check_segmentation(task: Segmentation) -> None:
    """Numbers in range; fields of another choice as they are by default."""
    within(0, auxiliary=task.auxiliary, auxiliary_kd=task.auxiliary_kd)
    within(0, LABELS, ignore=task.ignore)
    if not 0 < task.stride <= 1:
        raise ValueError(f"stride must lie above 0 and be at most 1, got {task.stride}")
    if task.logits != "head":
        left_alone(task, "belongs to logits='head'", "labels")
    if task.evaluate != "sliding":
        left_alone(task, "belongs to evaluate='sliding'", "stride")


def check_detection(task: Detection) -> None:
    """Numbers in range."""
    within(0, features=task.features)


def check_device(name: str) -> None:
    """Refuse what names no device; whether it is there is looked at when it is used.

    Example:
        >>> check_device("cuda:1")
        >>> check_device("gpu")
        Traceback (most recent call last):
        ...
        ValueError: device must be 'auto', 'cpu', 'cuda' or 'cuda:N' (a GPU by its number), got 'gpu'
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N' (a GPU by its number), got {name!r}")


def check_sgd(optimizer: SGD) -> None:
    """Numbers in range; that every stream's shifted momentum is, too, is looked at with the method."""
    _check_shared(optimizer)
    within(0, 1, dampening=optimizer.dampening)
    _check_coefficients(momentum=optimizer.momentum)
    if optimizer.nesterov and (optimizer.dampening or not optimizer.momentum):
        raise ValueError("nesterov needs momentum above 0 and dampening 0")


def check_adamw(optimizer: AdamW) -> None:
    """Numbers in range, as in :func:`check_sgd`."""
    _check_shared(optimizer)
    _check_positive(eps=optimizer.eps, clip_rms=optimizer.clip_rms)
    _check_coefficients(beta1=optimizer.beta1, beta2=optimizer.beta2)


def _check_shared(optimizer: SGD | AdamW) -> None:
    _check_positive(lr=optimizer.lr, clip=optimizer.clip, clip_streams=optimizer.clip_streams)
    _check_positive(layer_decay=optimizer.layer_decay)
    within(0, weight_decay=optimizer.weight_decay)
    within(most=1, layer_decay=optimizer.layer_decay)


def _check_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0{'' if value <= 0 else ' and finite'}, got {value}")


def _check_coefficients(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must lie in [0, 1), got {value}")


def check_learning_rate(rate: LearningRate) -> None:
    """Numbers in range; fields of another schedule as they are by default."""
    if bool(rate.milestones) != (rate.schedule == "step"):
        raise ValueError(
            f"milestones belong to the schedule 'step', which needs some; got schedule={rate.schedule!r} and "
            f"milestones={list(rate.milestones)}"
        )
    if any(later <= sooner for sooner, later in zip((0, *rate.milestones), rate.milestones, strict=False)):
        raise ValueError(f"milestones are epochs from 1 that grow, got {list(rate.milestones)}")
    within(0, warmup_epochs=rate.warmup_epochs)
    within(0, 1, minimum=rate.minimum, warmup_start=rate.warmup_start, decay=rate.decay)
    if rate.schedule != "step":
        left_alone(rate, f"belongs to the schedule 'step', not to {rate.schedule!r}", "decay")
    if rate.schedule not in ("cosine", "poly"):
        left_alone(rate, f"belongs to the schedules 'cosine' and 'poly', not to {rate.schedule!r}", "minimum")
    if not (rate.minimum and rate.schedule == "cosine"):
        left_alone(rate, "belongs to the schedule 'cosine' with a minimum", "cosine_end")
    if rate.schedule != "poly":
        left_alone(rate, f"belongs to the schedule 'poly', not to {rate.schedule!r}", "power")
    _check_positive(power=rate.power)


def check_run(run: Run) -> None:
    """Numbers in range; a teacher for a method that needs one; no option that needs what another one withholds."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", run.device):
        raise ValueError(f"device must be auto, cpu, cuda or a GPU by its number such as cuda:1, got {run.device!r}")
    within(1, EPOCHS, epochs=run.epochs)
    within(0, SEEDS, seed=run.seed)
    within(1, THREADS, threads=run.threads)
    within(0, save_every=run.save_every, evaluate_every=run.evaluate_every, skip_nonfinite=run.skip_nonfinite)
    within(1, keep=run.keep, accumulate=run.accumulate)
    check_device(run.device)
    if run.ema is not None and not 0 < run.ema < 1:
        raise ValueError(f"ema must lie between 0 and 1, got {run.ema}")
    if run.method.distils and run.teacher is None:
        raise ValueError(f"method {run.method.title!r} needs a teacher; 'ce' trains on labels alone")
    if run.parallel.sync == "update" and (against := _reads_gradients(run)):
        raise ValueError(
            f"parallel.sync=update exchanges no gradients, but {against} reads those of all processes before the "
            f"step; use parallel.sync=gradients"
        )
    if run.optimizer.name == "adamw":
        _check_with_adamw(run)
    elif run.monitors.update_rms:
        raise ValueError("monitors.update_rms observes adamw's updates; leave it off, or use optimizer.name=adamw")
    if run.combine != "none":
        _check_combine(run)
    if run.merge and run.optimizer.clip_streams is not None:
        raise ValueError("optimizer.clip_streams bounds every stream alone, which merge=true joins; leave merge out")
    _check_task(run)
    if run.teacher_table != "off" and run.method.distils and (why := _untabled(run)):
        raise ValueError(f"teacher_table={run.teacher_table}: {why}; use teacher_table=off")


def check_images(run: Run) -> None:
    """Dense data for a dense task, boxes for one of boxes: looked at where a config's own images are read.

    Raises:
        ValueError: one without the other.
    """
    kinds = {"segmentation": (DENSE, "a class for every pixel"), "detection": (BOXED, "boxes")}
    for task, (sets, what) in kinds.items():
        if run.data.name in sets and run.task.name != task:
            raise ValueError(f"data.name={run.data.name} has {what}; use task.name={task}")
        if run.data.name not in sets and run.task.name == task:
            raise ValueError(f"task.name={task} needs {what}: data.name must be one of {', '.join(sets)}")


def _check_task(run: Run) -> None:
    """Options that a dense task or one of boxes has."""
    if run.task.name == "classification":
        return
    if run.task.name == "segmentation" and run.task.evaluate == "sliding" and not run.data.crop:
        raise ValueError("task.evaluate=sliding needs data.crop, the size of its windows")
    what = "maps of them" if run.task.name == "segmentation" else "those of regions"
    if run.teacher_table != "off":
        raise ValueError(f"teacher_table keeps one row of logits per image, not {what}; use teacher_table=off")
    if run.graph:
        rows = "pixels" if run.task.name == "segmentation" else "regions"
        raise ValueError(f"graph=true records steps of images, not of {rows}, whose number changes; use graph=false")
    if run.task.name == "detection":
        _check_regions(run, run.task)


def _check_regions(run: Run, task: Detection) -> None:
    if task.keep == "foreground" and run.accumulate > 1:
        raise ValueError(
            "task.keep=foreground averages over the objects' regions of a whole step, which are not counted before its "
            "parts are; use accumulate=1, or task.keep=all"
        )
    if run.compile_teacher:
        raise ValueError("compile_teacher compiles a network's whole pass, and a detector runs in parts; leave it off")
    if task.features and not run.method.distils:
        raise ValueError("task.features compares the student's feature maps with a teacher's; 'ce' has none")


def _check_with_adamw(run: Run) -> None:
    """No option that needs moves which are affine in the gradients, or a step that reads no count from the host."""
    if run.parallel.sync == "update":
        raise ValueError(
            "parallel.sync=update averages what every process's own gradients move, which is not what adamw does with "
            "the gradients of all; use parallel.sync=gradients"
        )
    if run.graph:
        raise ValueError("graph=true cannot record adamw, which counts its steps on the host; use graph=false")


def _check_combine(run: Run) -> None:
    """Streams of one momentum, kept apart until their gradients are combined on the host."""
    momenta = run.method.build().momenta(run.optimizer.base, merge=False)
    if len(set(momenta.values())) > 1 or momenta.sequence:
        raise ValueError(
            f"combine={run.combine} makes one gradient of all streams, which has one momentum, but {run.method.title} "
            f"gives its streams {', '.join(f'{name} {m:g}' for name, m in momenta.items())}; use combine=none, or the "
            f"method without dot and deepkd"
        )
    if run.merge:
        raise ValueError(f"merge=true adds the streams up before combine={run.combine} sees them; leave merge out")
    if run.graph:
        raise ValueError(f"graph=true cannot record combine={run.combine}, which weighs streams on the host")


def _untabled(run: Run) -> str:
    """Why a table of logits per image, shift and flip cannot stand for the teacher; empty if it can."""
    if run.method.build().regions:
        return f"{run.method.title} reads the logits of image regions, which a table does not hold"
    if run.data.workers is not None:
        return "photos that are loaded (data.workers) are cropped at random, and a table counts shifts and flips alone"
    data = {"augment": run.data.augment != "none", "mixup": run.data.mixup, "cutmix": run.data.cutmix}
    more = next((name for name, used in data.items() if used), None)
    return f"data.{more} changes the images by more than shifts and flips, which is all a table counts" if more else ""


def _reads_gradients(run: Run) -> str:
    """Which option needs a step's whole gradient; empty if none."""
    asked = {
        "optimizer.clip": run.optimizer.clip,
        "optimizer.clip_streams": run.optimizer.clip_streams,
        "monitors": run.monitors.watches(run.seed),
        "skip_nonfinite": run.skip_nonfinite,
        "combine": run.combine != "none",
    }
    return next((name for name, value in asked.items() if value), "")


def left_alone(part: Any, why: str, *names: str) -> None:
    """Fields that would be ignored are as they are by default."""
    defaults = {field.name: field.default for field in fields(part)}
    for name in names:
        if (value := getattr(part, name)) != defaults[name]:
            raise ValueError(f"{name} {why}; got {name}={value}")
