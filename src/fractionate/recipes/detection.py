"""Boxes around objects: any set in COCO's format, at the usual scale and at one for two cores."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..config.data import Data
from ..config.method import MethodSpec
from ..config.optimizers import SGD, LearningRate
from ..config.run import Network, Run
from ..config.task import Detection
from ..papers.dense import of_regions

TEACHER, STUDENT = "fasterrcnn-resnet101", "fasterrcnn-resnet18"
EPOCHS = 12
METHODS = ("ce", "kd", "dkd", "gdkd", "dkd+deepkd(normalize_gain=True)")


def teacher(
    *,
    name: str = TEACHER,
    seed: int = 0,
    epochs: int = EPOCHS,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A detector trained on the boxes of a set.

    Args:
        name: network, ``fasterrcnn-BACKBONE`` or ``torchvision:fasterrcnn_...``.
        seed: of its weights and batches.
        epochs: length.
        root: folder or zip file of the set.
        evaluate_on: ``"validation"`` measures on the set's validation part, or on a part of the training images.

    Example:
        >>> teacher().task.name
        'detection'
    """
    return _run(Network(name), MethodSpec("ce"), None, seed, epochs, root, evaluate_on)


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
        method: what to train with; see :func:`of_regions`.
        teacher: network with weights.
        name: student's network.
        seed: of its weights and batches.
        epochs: length.
        root: folder of the set.
        evaluate_on: as for the teacher.

    Example:
        >>> student(MethodSpec("gdkd"), Network("fasterrcnn-resnet50")).method.args["w1"]
        0.125
    """
    return _run(Network(name), of_regions(method), teacher, seed, epochs, root, evaluate_on)


def _run(
    network: Network,
    method: MethodSpec,
    teacher: Network | None,
    seed: int,
    epochs: int,
    root: str | None,
    evaluate_on: Literal["test", "validation"],
) -> Run:
    ends = tuple(sorted({round(epochs * 8 / 12), round(epochs * 11 / 12)} - {0, epochs}))
    warmup = 1 if epochs > 1 else 0
    return Run(
        student=network,
        teacher=teacher,
        method=method,
        data=Data("coco", root=root, evaluate_on=evaluate_on, batch_size=8, flip=True, size=640),
        optimizer=SGD(lr=0.01, weight_decay=1e-4, clip=10.0),
        learning_rate=LearningRate("step" if ends else "constant", ends, warmup_epochs=warmup, per="step"),
        task=Detection(),
        epochs=epochs,
        seed=seed,
    )


SMALL = "+fpn64+proposals100+anchors8"
SMALL_TEACHER, SMALL_STUDENT = f"fasterrcnn-resnet18{SMALL}", f"fasterrcnn-mobilenet_v3_small{SMALL}"


def small_teacher(
    *,
    name: str = SMALL_TEACHER,
    seed: int = 0,
    epochs: int = 24,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A teacher on images of 128 pixels, for two CPU cores, twice as long as its student; arguments as :func:`teacher`.

    Example:
        >>> small_teacher().student.name
        'fasterrcnn-resnet18+fpn64+proposals100+anchors8'
    """
    return _small(teacher(name=name, seed=seed, epochs=epochs, root=root, evaluate_on=evaluate_on))


def small_student(
    method: MethodSpec,
    teacher: Network,
    *,
    name: str = SMALL_STUDENT,
    seed: int = 0,
    epochs: int = 12,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A student of that teacher; arguments as :func:`student`.

    Example:
        >>> small_student(MethodSpec("kd"), Network("fasterrcnn-resnet18")).data.size
        128
    """
    return _small(student(method, teacher, name=name, seed=seed, epochs=epochs, root=root, evaluate_on=evaluate_on))


def _small(run: Run) -> Run:
    data = replace(run.data, size=128, flip=False, colour=0.2)  # a mirrored digit is none
    rate = LearningRate("cosine", warmup_epochs=run.learning_rate.warmup_epochs, per="step")
    return replace(run, data=data, optimizer=replace(run.optimizer, lr=0.02), learning_rate=rate, threads=1)
