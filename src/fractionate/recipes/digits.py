"""Handwritten digits with few labels: small enough for two CPU cores, hard enough that a teacher helps."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Literal

from ..train import Data, LearningRate, MethodSpec, Monitors, Network, Optimizer, Run
from ..train.spec import METHODS

TEACHER = "convnet_16_32_64"
STUDENT = "convnet_8_16"
PUBLISHED_EPOCHS = 240  # of the CIFAR-100 runs that the methods' default warm-up (in epochs) was made for


def teacher(*, name: str = TEACHER, seed: int = 0, evaluate_on: Literal["test", "validation"] = "test") -> Run:
    """A teacher trained on every training image.

    Args:
        name: network.
        seed: of its weights and batches.
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
        epochs=20,
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
    epochs: int = 40,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A student with few labels, 13 times smaller than the teacher.

    Settings were chosen on the validation part by ``evaluate_on="validation"`` and are the same for every method.

    Args:
        method: what to train with. Its warm-up, unless given, is the same share of the run as in the published runs.
        teacher: network with weights.
        name: student's network.
        seed: of its weights and batches.
        epochs: length; one epoch shows every image 10 times.
        evaluate_on: as for the teacher, which must then come from the same part.

    Example:
        >>> run = student(MethodSpec.parse("dkd+deepkd"), Network("convnet_16_32_64"))
        >>> run.method.args, run.data.labels_per_class
        ({'warmup': 3}, 5)
    """
    return Run(
        student=Network(name),
        teacher=teacher,
        method=scaled_warmup(method, epochs),
        data=Data("digits", labels_per_class=5, evaluate_on=evaluate_on, batch_size=50, passes=10, shift=1),
        optimizer=Optimizer(lr=0.01),
        learning_rate=LearningRate("cosine"),
        monitors=Monitors(gsnr_window=50, cosines=True, norms=True, seeds=(0,)),
        epochs=epochs,
        seed=seed,
        device="cpu",
        threads=1,
        save_every=0,
    )


def scaled_warmup(method: MethodSpec, epochs: int) -> MethodSpec:
    """A default warm-up counts epochs of a long run; in a short one the same share of training is meant."""
    warmup = inspect.signature(METHODS[method.name]).parameters.get("warmup")
    if warmup is None or warmup.default <= 1 or "warmup" in method.args:
        return method
    return replace(method, args={**method.args, "warmup": max(1, round(warmup.default * epochs / PUBLISHED_EPOCHS))})
