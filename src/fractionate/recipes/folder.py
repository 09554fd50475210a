"""Any folder of small images, one folder per class, for people who never read a paper."""

from __future__ import annotations

from typing import Literal

from ..train import Data, LearningRate, MethodSpec, Network, Optimizer, Run
from .scale import scaled

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
    return _run(Network(name), scaled(method, epochs), teacher, seed, epochs, root, evaluate_on)


def _run(
    network: Network,
    method: MethodSpec,
    teacher: Network | None,
    seed: int,
    epochs: int,
    root: str | None,
    evaluate_on: Literal["test", "validation"],
) -> Run:
    two_views = method.build().views == 2
    return Run(
        student=network,
        teacher=teacher,
        method=method,
        data=Data(
            "folder",
            root=root,
            evaluate_on=evaluate_on,
            batch_size=64,
            shift=4,
            flip=True,
            strong="randaugment" if two_views else "none",
        ),
        optimizer=Optimizer(lr=0.05),
        learning_rate=LearningRate("cosine", warmup_epochs=2, per="step"),
        epochs=epochs,
        seed=seed,
        channels_last=True,
    )
