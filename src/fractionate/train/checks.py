"""Parts of a run that do not fit each other, found before anything is trained or written."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import nn

from .._headlines import headline
from ..data import class_counts, epoch_images, stated, unlabelled_count
from ..kernels import OtherK
from ..models import classes_of, copy_of, is_own_code, switched
from ..rows import Progress
from ..tasks import Guessed
from ..world import current
from .allocation import check_control
from .average import check_average
from .build import Training, asking
from .device import autocast, random_state, set_random_state
from .health import check_weights
from .networks import check_auxiliary
from .optimizer import check_rates
from .pixels import check_seen

FEW = 8  # images that a method is tried on
SPREAD = 0.5  # of the answers of sigmoids that have learnt; logits of a network that has not lie closer together
SURE = 3.0  # standard deviations below chance from which a teacher is not just unlucky

Need = Literal["config", "data", "networks", "teacher"]

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def teacher_net(training: Training) -> nn.Module | None:
    """The teacher's network, where there is one behind the logits (a live teacher, a table of them)."""
    net = getattr(training.teacher, "net", None)
    return net if isinstance(net, nn.Module) else None


def check_finite(training: Training) -> None:
    """Refuse weights that are NaN or infinite."""
    check_weights("student", training.student)
    if (teacher := teacher_net(training)) is not None:
        check_weights("teacher", teacher)


def check_answers(training: Training) -> None:
    """Warn of a teacher that ends in a softmax or sigmoids; rows of a softmax on a CPU are named by the losses."""
    if (teacher := teacher_net(training)) is None:
        return
    images, state = next(iter(training.test.batches(1))).at(slice(0, FEW)).images, random_state()
    with torch.no_grad(), autocast(training.run, images.device):  # its weights may be kept for that alone
        logits = asking(training.task)(switched(teacher, False), images, "teacher")
    set_random_state(state)
    if not bool(((logits >= 0) & (logits <= 1)).all()) or float(logits.max() - logits.min()) < SPREAD:
        return
    summed = bool(((logits.double().sum(1) - 1).abs() < 2e-2).all())
    if summed and images.device.type == "cpu":
        return
    warnings.warn(
        f"every answer of the teacher {type(teacher).__name__} lies between 0 and 1: it seems to end in "
        f"{'a softmax' if summed else 'sigmoids'}, and temperatures act on the scale of raw logits; take that "
        f"layer off the network",
        stacklevel=3,
    )


def check_classes(training: Training) -> None:
    """Refuse networks whose number of logits is not the data's number of classes."""
    classes = training.train.num_classes
    few = next(iter(training.test.batches(1))).at(slice(0, 2))
    state, ask, before = random_state(), asking(training.task), few.images._version
    found = {"student": classes_of(training.student, few.images, "student", trained=True, ask=ask)}
    if (teacher := teacher_net(training)) is not None:
        with autocast(training.run, few.images.device):  # its weights may be kept for that alone
            found["teacher"] = classes_of(teacher, few.images, "teacher", ask=ask)
    set_random_state(state)
    if few.images._version != before:
        raise ValueError(
            "student or teacher changes the pictures that it is given, in place (x.sub_(...), x[:] = ...), so that the "
            "other network would see what it left: let it work on a copy (x = x.sub(...), or x = x.clone() first)"
        )
    for what, count in found.items():
        if count != classes:
            raise ValueError(f"the {what} gives {count} logits per image, the data have {classes} classes")


def check_teacher(training: Training, at_least: float | None = None) -> None:
    """Refuse a teacher that is worse than asked for, or worse than guessing; warn of one that is no better."""
    if training.teacher_test is None:
        return
    found = training.teacher_test
    metric, value = headline(found.headline), found.score
    if at_least is not None and (value < at_least if metric.higher else value > at_least):
        raise ValueError(
            f"the teacher has {metric.value(value)} {metric.label} on the test images, at "
            f"{'least' if metric.higher else 'most'} {f'{at_least:g} {metric.unit}'.rstrip()} were asked for"
        )
    if not isinstance(found, Guessed) or not training.run.method.distils:
        return
    chance, doubt = found.guessing(training.train.num_classes)
    if (chance - value if metric.higher else value - chance) > SURE * doubt:
        raise ValueError(
            f"the teacher has {metric.value(value)} {metric.label} on the test images, guessing has "
            f"{metric.value(chance)}: are its classes in another order, or its images normalised in another way?"
        )
    network = training.run.teacher
    named = network is None or bool(network.checkpoint or network.pretrained) or is_own_code(network.name)
    if (value - chance if metric.higher else chance - value) <= (0.0 if named else SURE * doubt):
        why = "do its weights know these classes?" if named else "no weights of it are named (teacher.checkpoint)"
        warnings.warn(
            f"the teacher has {metric.value(value)} {metric.label} on the test images, no more than guessing: {why}",
            stacklevel=3,
        )


def check_labels(training: Training) -> None:
    """Refuse labels with gaps: a class that no training image has is never learnt, and stands in every loss."""
    source = training.train
    empty = [label for label, count in enumerate(class_counts(source) or ()) if not count]
    if empty:
        shown = ", ".join(map(str, empty[:FEW])) + (" ..." if len(empty) > FEW else "")
        raise ValueError(
            f"{len(empty)} of {source.num_classes} classes have no training image ({shown}): labels must be numbered "
            f"0..{source.num_classes - 1} without gaps"
        )


def check_unlabelled(training: Training) -> None:
    """Refuse images without labels for what reads labels."""
    source, run = training.train, training.run
    count = unlabelled_count(source)
    if not count:
        return
    title, whole = run.method.title, count == source.count
    if training.method.needs_labels:
        raise ValueError(
            f"{count:,} of {source.count:,} training images have no label, and {title} reads that of every image; "
            f"choose a method that reads none, such as kd, gdkd or dist"
        )
    task = training.method.parts.get("task")
    if whole and not run.method.distils:
        raise ValueError("none of the training images has a label, and 'ce' learns from labels; name a teacher")
    if whole and task is not None and task.weight(Progress.end()) != 0:
        raise ValueError(
            f"none of the training images has a label, but the cross-entropy of {title} has the weight "
            f"{task.weight(Progress.end()):g}; give method.args.ce_weight=0"
        )


def check_batches(training: Training) -> None:
    """Refuse batches larger than the data, and batches of one image that batch norm cannot work with."""
    source = training.train
    if not stated(source):
        return
    shown = epoch_images(source)
    if source.batch_size > shown:
        raise ValueError(
            f"data.batch_size is {source.batch_size}, but an epoch shows only {shown} image{'s' * (shown > 1)}; "
            f"choose at most {shown}"
        )
    last = shown % source.batch_size or source.batch_size
    if last == 1 and any(isinstance(m, BATCH_NORMS) for m in training.student.modules()):
        _check_one(training, shown)


def check_accumulation(training: Training) -> None:
    """Refuse to take a batch in parts whose rows the method compares with each other."""
    run = training.run
    if run.accumulate > 1 and not training.method.row_wise:
        raise ValueError(
            f"accumulate={run.accumulate}: {run.method.title} compares the rows of a batch with each other, so a batch "
            f"cannot go through in parts; use accumulate=1"
        )


def check_ema(training: Training) -> None:
    """Warn of an average of the weights that is too slow for the run."""
    if training.run.ema is not None and stated(training.train):
        check_average(training.run.ema, len(training.train) * training.run.epochs)


def check_shares(training: Training, processes: int | None = None) -> None:
    """Refuse batches that cannot be divided among the processes, all of them if no number is given."""
    run, source = training.run, training.train
    processes = processes or current().size
    if not stated(source):
        return
    if source.batch_size < processes:
        raise ValueError(
            f"data.batch_size is {source.batch_size} images per step, of all processes together, and there are "
            f"{processes} processes; choose at least one image for each"
        )
    last = epoch_images(source) % source.batch_size
    if run.parallel.sync_batchnorm and 0 < last < processes:
        raise ValueError(
            f"the last batch of every epoch holds {last} images for {processes} processes, which synchronised batch "
            f"norms would count wrongly: change data.batch_size"
        )


def check_method(training: Training) -> None:
    """Let the method compute its components once: a missing view or a k beyond the classes is found here.

    Raises:
        ValueError: the method does not suit the rows.
    """
    batch = next(iter(training.train.batches(1)))
    student, state = training.student, random_state()
    student.eval()
    try:
        with torch.no_grad(), autocast(training.run, batch.images.device):
            lg = training.task.rows(student, training.teacher, batch.at(slice(0, FEW)))
        with torch.no_grad():
            training.method.components(lg, Progress())
    except OtherK as error:
        method = training.run.method
        masked = next((w.name for w in method.wrappers if "keep" in w.args), "")
        example = f"{masked}(keep={error.usable})" if masked else f"{method.name}(k={error.usable})"
        raise ValueError(f"{method.title}: {error}; give another one behind the name: '{example}'") from error
    finally:
        student.train()
        set_random_state(state)


# Every check once, by what must be there for it; those of "teacher" say nothing before the teacher is trained.
BY_NEED: dict[Need, tuple[Callable[[Training], None], ...]] = {
    "config": (
        check_accumulation,
        lambda training: check_control(training.run),
        lambda training: check_rates(training.run),
    ),
    "data": (check_labels, check_unlabelled, check_batches, check_ema, check_shares),
    "networks": (check_finite, check_classes, check_method),
    "teacher": (lambda training: check_auxiliary(training.run), check_seen, check_answers, check_teacher),
}
BEFORE_A_TEACHER: tuple[Need, ...] = ("config", "data", "networks")


def check_training(
    training: Training, teacher_at_least: float | None = None, *, needs: Sequence[Need] = tuple(BY_NEED)
) -> None:
    """Refuse what cannot work.

    Args:
        training: from :func:`prepare`.
        teacher_at_least: smallest accuracy of the teacher, in percent.
        needs: which checks of :data:`BY_NEED`; :data:`BEFORE_A_TEACHER` are those that a teacher without knowledge
            passes.

    Raises:
        ValueError: weights that are NaN, networks with another number of classes than the data, a teacher that is too
            weak or was trained on other images, classes without images, batches that are too large or too small, or a
            method that these rows do not suit.
    """
    for need in needs:
        for check in BY_NEED[need]:
            check(training)
    if "teacher" in needs:
        check_teacher(training, teacher_at_least)


def _check_one(training: Training, shown: int) -> None:
    """Batch norm over feature maps larger than one pixel works with one image, others do not: try."""
    batch = next(iter(training.test.batches(1)))
    net = switched(copy_of(training.student), True)
    state = random_state()
    try:
        with torch.no_grad():
            net(batch.images[:1]) if training.task.even else asking(training.task)(net, batch.images[:1], "student")
    except ValueError as error:
        size = training.run.data.batch_size
        where = "batches hold one image" if size == 1 else f"the last batch of every epoch holds one image ({shown} = "
        where += "" if size == 1 else f"{shown // size} x {size} + 1)"
        raise ValueError(f"{where}, which batch norm cannot be trained on: change data.batch_size ({error})") from error
    finally:
        set_random_state(state)
