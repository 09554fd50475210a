"""Any folder of images, one folder per class, for people who never read a paper."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from ..config.method import MethodSpec
from ..config.optimizers import SGD, AdamW, LearningRate
from ..config.run import Network, Run
from ..pictures.kinds import RATES, TRANSFORMER_RATE, kind_of
from ..pictures.plan import EPOCHS, STUDENT, TEACHER
from . import cifar100

CLIP = 1.0


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


def optimizer_for(name: str) -> SGD | AdamW:
    """The optimizer of a network on a folder: one that does not diverge, for people who tune nothing.

    A folder holds few images, so that an epoch is a few steps and the first ones decide. The gradient's norm is bounded
    by 1 for all (:class:`~fractionate.StreamSGD` moves at most ``lr / (1 - momentum)`` along it), and the rate warms up
    for a twelfth of the run. The rates are per 64 images:

    - this package's networks for small pictures: SGD at 0.05, the field's;
    - a library's convolutional networks: SGD at 0.02, as the usual 0.1 per 256 images;
    - light ones with depthwise convolutions and normalisations that few images feed: SGD at 0.01, which the field takes
      for MobileNet and ShuffleNet on CIFAR-100;
    - transformers, ConvNeXt and MLPs, which SGD hardly trains: AdamW at 3e-4, decay 0.05.

    Source: arXiv 1706.02677 (rates in proportion to the batch, warm-up); megvii-research/mdistiller (0.05, 0.01); arXiv
    2012.12877 (AdamW and decay of 0.05).

    Example:
        >>> optimizer_for("timm:vit_tiny_patch16_224").name, optimizer_for("timm:mobilenetv3_small_050").lr
        ('adamw', 0.01)
    """
    kind = kind_of(name)
    if kind == "transformer":
        return AdamW(lr=TRANSFORMER_RATE, weight_decay=0.05, clip=CLIP, decay="weights")
    return SGD(lr=RATES[kind], clip=CLIP)


FEWEST, MOST, STEPS = 5, 30, 300  # epochs of fine-tuning, and steps that it should have
FINE = {"small": 0.02, "photo": 0.01, "light": 0.005}  # rates of SGD, per 64 images


def fine_tuning(run: Run, teacher: Network, images: int, epochs: int | None = None) -> Run:
    """The training that makes a teacher of a library's weights whose last layer is for other classes.

    All layers are trained, for few epochs (about 300 steps, between 5 and 30 epochs) at a third to a half of the rates
    that networks start with, under a cosine with a warm-up of one epoch, in which the new last layer learns most; the
    gradient's norm is bounded by 1. Convolutional networks take SGD with a small decay, the others AdamW.

    Args:
        run: how such a teacher would be trained from nothing, on the same images.
        teacher: its name, ``pretrained``, and perhaps the file with the library's weights.
        images: how many are trained on.
        epochs: length; ``None`` chooses it.

    Source: arXiv 1805.08974 (fine-tuning all layers with SGD at about 0.01); 2012.12877 (AdamW for transformers).

    Example:
        >>> run = fine_tuning(teacher(name="timm:resnet18"), Network("timm:resnet18", pretrained=True), images=400)
        >>> run.student.pretrained, run.optimizer.lr, run.epochs
        (True, 0.01, 30)
    """
    steps = max(1, math.ceil(images * run.data.passes / run.data.batch_size))
    length = epochs or min(MOST, max(FEWEST, math.ceil(STEPS / steps)))
    kind = kind_of(teacher.name)
    adamw = AdamW(lr=1e-4, weight_decay=0.05, clip=CLIP, decay="weights")
    optimizer = adamw if kind == "transformer" else SGD(lr=FINE[kind], weight_decay=1e-4, clip=CLIP)
    rates = LearningRate("cosine", warmup_epochs=1 if length > 1 else 0, per="step")
    begun = replace(teacher, stem=run.student.stem, published_bn=run.student.published_bn)
    return replace(run, student=begun, optimizer=optimizer, learning_rate=rates, epochs=length)


def _here(run: Run) -> Run:
    """The field's settings for CIFAR-100 on a folder: a cosine, whose length is free, in the place of milestones."""
    warmup = max(1, round(run.epochs / 12))
    rates = LearningRate("cosine", warmup_epochs=warmup if run.epochs > 1 else 0, per="step")
    data = replace(run.data, name="folder", cache=True)
    return replace(run, data=data, optimizer=optimizer_for(run.student.name), learning_rate=rates)
