"""CIFAR-100 small enough for two CPU cores: small networks of the field, about 100,000 images per run."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..config.method import MethodSpec
from ..config.optimizers import LearningRate, Optimizer
from ..config.run import Network, Run
from . import cifar100

TEACHER = "resnet20"
STUDENT = "resnet8"
EPOCHS = 5
METHODS = (
    "ce",
    "kd",
    "dkd",
    "gdkd",
    "kd+dot",
    "dkd+deepkd",
    "dkd+deepkd(rule=published-code)",
    "dgkd",
    "topkd",
    "kd(kd_weight=1)+lskd",
)


def teacher(
    *,
    name: str = TEACHER,
    seed: int = 0,
    epochs: int = 12,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A teacher trained on all training images for a few epochs.

    Args:
        name: network.
        seed: of its weights and batches.
        epochs: length.
        root: folder of the data set.
        evaluate_on: ``"validation"`` keeps a tenth of the training images apart.

    Example:
        >>> teacher().epochs
        12
    """
    field = cifar100.teacher(name=name, seed=seed, epochs=epochs, root=root, evaluate_on=evaluate_on)
    return replace(
        field,
        data=replace(field.data, batch_size=128),
        optimizer=Optimizer(lr=0.1, nesterov=True),
        learning_rate=LearningRate("cosine", warmup_epochs=1, per="step"),
        threads=1,
    )


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
    """A student that sees 20,000 labelled images (200 per class) five times.

    The settings are the field's, on a shorter clock: batch 64, learning rate 0.05, weight decay 5e-4, every method with
    its defaults, a default warm-up cut to its share of the run. Nothing was tuned.

    Args:
        method: what to train with; arguments that are given are kept.
        teacher: network with weights.
        name: student's network.
        seed: of its weights and batches.
        epochs: length.
        root: folder of the data set.
        evaluate_on: as for the teacher.

    Example:
        >>> student(MethodSpec("dkd"), Network("resnet20")).method.args
        {'warmup': 1}
    """
    field = cifar100.student(method, teacher, name=name, seed=seed, epochs=epochs, root=root, evaluate_on=evaluate_on)
    return replace(
        field,
        data=replace(field.data, labels_per_class=200),
        learning_rate=LearningRate("cosine", per="step"),
        teacher_table="lazy",
        threads=1,
    )
