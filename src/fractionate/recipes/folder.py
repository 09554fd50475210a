"""Any folder of small images, one folder per class, for people who never read a paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..config.method import MethodSpec
from ..config.run import LearningRate, Network, Run
from . import cifar100

TEACHER = "resnet32"
STUDENT = "resnet8"
EPOCHS = 60


def teacher(
    *,
    name: str = TEACHER,
    seed: int = 0,
    epochs: int = EPOCHS,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A teacher trained on the folder's labels.

    Args:
        name: network; give ``torchvision:NAME`` or ``timm:NAME`` for a larger one.
        seed: of its weights and batches.
        epochs: length.
        root: the folder, with ``train/CLASS/*`` and ``test/CLASS/*`` (or ``val``), or ``CLASS/*`` alone.
        evaluate_on: ``"validation"`` keeps a part of the training images apart.

    Example:
        >>> teacher().data.name
        'folder'
    """
    return _here(cifar100.teacher(name=name, seed=seed, epochs=epochs, root=root, evaluate_on=evaluate_on))


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
    """A student of that teacher.

    Args:
        method: what to train with; arguments that are given are kept, a default warm-up keeps its share of the run.
        teacher: network with weights.
        name: student's network.
        seed: of its weights and batches.
        epochs: length.
        root: the folder.
        evaluate_on: as for the teacher.

    Example:
        >>> student(MethodSpec("kd"), Network("resnet32")).student.name
        'resnet8'
    """
    field = cifar100.student(method, teacher, name=name, seed=seed, epochs=epochs, root=root, evaluate_on=evaluate_on)
    return _here(field)


def _here(run: Run) -> Run:
    """The field's settings for CIFAR-100 on a folder: a cosine, whose length is free, in the place of milestones."""
    rates = LearningRate("cosine", warmup_epochs=2, per="step")
    return replace(run, data=replace(run.data, name="folder"), learning_rate=rates)
