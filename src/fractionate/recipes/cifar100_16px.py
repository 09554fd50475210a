"""CIFAR-100 at 16 pixels, 50 images per class seen 50 times, and a teacher that is certain of all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..config.method import MethodSpec
from ..config.optimizers import LearningRate, Optimizer
from ..config.run import Network, Run
from . import cifar100

TEACHER = "vgg8"
STUDENT = "resnet8"
EPOCHS, TEACHER_EPOCHS = 50, 60
PIXELS, SHIFT = 16, 2  # half of CIFAR's 32 and of the field's 4
LABELS = 50  # per class
METHODS = ("ce", "kd", "dkd(beta=8)", "gdkd(w1=2, w2=8)", "dkd(beta=8)+deepkd", "dkd(beta=8)+deepkd+reweighted")


def teacher(
    *,
    name: str = TEACHER,
    seed: int = 0,
    epochs: int = TEACHER_EPOCHS,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A teacher trained on the very images that the students see, until it knows their labels.

    Args:
        name: network.
        seed: of its weights and batches.
        epochs: length.
        root: folder of the data set.
        evaluate_on: ``"validation"`` keeps a tenth of the training images apart.

    Example:
        >>> run = teacher()
        >>> run.data.size, run.data.labels_per_class
        (16, 50)
    """
    field = cifar100.teacher(name=name, seed=seed, epochs=epochs, root=root, evaluate_on=evaluate_on)
    return _small(replace(field, optimizer=Optimizer(lr=field.optimizer.lr, nesterov=True)))


def student(
    method: MethodSpec,
    teacher: Network,
    *,
    name: str = STUDENT,
    seed: int = 0,
    epochs: int = EPOCHS,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A student that sees 5,000 images 50 times; every method with the weights of its paper. Nothing was tuned.

    Args:
        method: what to train with; arguments that are given are kept.
        teacher: network with weights.
        name: student's network.
        seed: of its weights and batches.
        epochs: length.
        root: folder of the data set.
        evaluate_on: as for the teacher.

    Example:
        >>> student(MethodSpec("dkd"), Network("vgg8")).method.args
        {'warmup': 4}
    """
    field = cifar100.student(method, teacher, name=name, seed=seed, epochs=epochs, root=root, evaluate_on=evaluate_on)
    return replace(_small(field), teacher_table="lazy")


def _small(run: Run) -> Run:
    """The field's run on small images, with a rate that falls at every step."""
    return replace(
        run,
        data=replace(run.data, size=PIXELS, shift=SHIFT, labels_per_class=LABELS),
        learning_rate=LearningRate("cosine", per="step"),
        threads=1,
    )
