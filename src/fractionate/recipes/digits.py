"""Handwritten digits with few labels: small enough for two CPU cores, hard enough that a teacher helps."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..config.data import Data
from ..config.method import MethodSpec
from ..config.optimizers import LearningRate, Optimizer
from ..config.run import Monitors, Network, Run
from ..papers.draft import defaults, scaled

TEACHER = "convnet_16_32_64"
STUDENT = "convnet_8_16"
ENOUGH = 98.0  # percent of right answers that a teacher must reach


def teacher(
    *,
    name: str = TEACHER,
    seed: int = 0,
    epochs: int = 20,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A teacher trained on every training image.

    Args:
        name: network.
        seed: of its weights and batches.
        epochs: number of epochs.
        evaluate_on: ``"validation"`` keeps that part out of the training images.

    Example:
        >>> teacher().method.title
        'labels alone'
    """
    return Run(
        student=Network(name),
        method=MethodSpec("ce"),
        data=Data("digits", evaluate_on=evaluate_on, batch_size=64, shift=1),
        optimizer=Optimizer(lr=0.1),
        learning_rate=LearningRate("cosine"),
        epochs=epochs,
        seed=seed,
        device="cpu",
        threads=1,
        save_every=0,
    )


def student(
    method: MethodSpec,
    teacher: Network,
    *,
    name: str = STUDENT,
    seed: int = 0,
    epochs: int = 30,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A student with 10 labels per class, 13 times smaller than the teacher.

    Settings were chosen on the validation part (``evaluate_on="validation"``), never on the test images: the learning
    rate by the mean over labels alone, kd, dkd, gdkd, dot and deepkd, and what :func:`settings` changes.

    Args:
        method: what to train with; arguments that are given are kept.
        teacher: network with weights.
        name: student's network.
        seed: of its weights and batches.
        epochs: length; one epoch shows every image 5 times.
        evaluate_on: as for the teacher, which must then come from the same part.

    Example:
        >>> run = student(MethodSpec.parse("dkd+deepkd"), Network("convnet_16_32_64"))
        >>> run.method.args, run.data.labels_per_class
        ({'warmup': 2, 'beta': 1.0}, 10)
    """
    method = settings(method, epochs)
    return Run(
        student=Network(name),
        teacher=teacher,
        method=method,
        data=Data(
            "digits",
            labels_per_class=10,
            evaluate_on=evaluate_on,
            batch_size=50,
            passes=5,
            shift=1,
            strong="cutout" if method.build().views == 2 else "none",
        ),
        optimizer=Optimizer(lr=0.05),
        learning_rate=LearningRate("cosine"),
        monitors=Monitors(gsnr_window=50, cosines=True, norms=True, seeds=(0,)),
        epochs=epochs,
        seed=seed,
        device="cpu",
        threads=1,
        save_every=0,
    )


def settings(method: MethodSpec, epochs: int) -> MethodSpec:
    """The method with defaults for digits where the general ones are made for long runs on 100 classes.

    A warm-up keeps its share of the run. The weight of the non-target term, 8 by default, becomes 1, which was better
    on the validation part for dkd, dot and deepkd alike.

    Args:
        method: arguments that are given are kept.
        epochs: length of the run.
    """
    open_ones = [name for name in ("beta", "w2") if name not in method.unsettled]
    fixed = {name: 1.0 for name in open_ones if defaults(method).get(name) == 8}
    method = scaled(method, epochs)
    return replace(method, args={**method.args, **fixed})
