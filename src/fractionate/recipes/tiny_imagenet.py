"""A part of Tiny-ImageNet for two CPU cores: a ResNet-18 of timm teaches a small MobileNet, or a small transformer."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..config.data import Data
from ..config.method import MethodSpec
from ..config.optimizers import SGD, AdamW, LearningRate
from ..config.run import Network, Run
from ..papers.draft import scaled

TEACHER = "timm:resnet18"
STUDENT = "timm:mobilenetv3_small_050"
VIT = "timm:vit_tiny_patch16_224(img_size=64, patch_size=8, embed_dim=96, depth=6, num_heads=3)"
TEACHER_EPOCHS, EPOCHS, VIT_EPOCHS = 30, 12, 12
PIXELS, SHIFT, BATCH = 64, 4, 64
METHODS = ("ce", "kd", "dkd", "gdkd", "gdkd3", "dkd+deepkd")
VIT_METHODS = ("ce", "kd", "gdkd", "dkd", "dkd+deepkd")


def teacher(
    *,
    name: str = TEACHER,
    seed: int = 0,
    epochs: int = TEACHER_EPOCHS,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A teacher from nothing, on the labels of the images that its students see, until it knows most of them.

    It computes on two threads, because everything waits for it; students on one.

    Args:
        name: network.
        seed: of its weights and batches.
        epochs: length.
        root: folder of Tiny-ImageNet, or of a part of its classes and images.
        evaluate_on: ``"validation"`` keeps a tenth of the training images apart.

    Example:
        >>> run = teacher()
        >>> run.student.name, run.data.size, run.learning_rate.schedule
        ('timm:resnet18', 64, 'cosine')
    """
    run = _by_sgd(Network(name), MethodSpec("ce"), None, seed, epochs, root, evaluate_on)
    return replace(run, optimizer=replace(run.optimizer, lr=0.025), threads=2)


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
    """A student by SGD; the teacher's logits are kept per image, shift and flip, so that it runs once for each.

    Args:
        method: what to train with; arguments that are given are kept, a default warm-up keeps its share of the run.
        teacher: network with weights.
        name: student's network.
        seed: of its weights and batches.
        epochs: length.
        root: as for the teacher.
        evaluate_on: likewise.

    Example:
        >>> run = student(MethodSpec("dkd"), Network("timm:resnet18"))
        >>> run.method.args, run.teacher_table
        ({'warmup': 1}, 'lazy')
    """
    run = _by_sgd(Network(name), scaled(method, epochs), teacher, seed, epochs, root, evaluate_on)
    return replace(run, teacher_table="lazy")


def vit(
    method: MethodSpec,
    teacher: Network,
    *,
    name: str = VIT,
    seed: int = 0,
    epochs: int = VIT_EPOCHS,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A vision transformer by AdamW: patches of 8 pixels, 6 blocks of width 96, warm-up, cosine, smoothed labels.

    Norms, biases, positions and tokens do not decay. Under mixup (``data.mixup=0.2``) no logits can be kept:
    ``teacher_table=off``.

    Args:
        method, teacher, name, seed, epochs, root, evaluate_on: as for :func:`student`.

    Source: arXiv 2012.12877 for optimizer, decay and smoothing; 0.0005 per 64 images was not tuned.

    Example:
        >>> run = vit(MethodSpec("gdkd"), Network("timm:resnet18"))
        >>> run.optimizer.name, run.optimizer.decay, run.learning_rate.warmup_epochs
        ('adamw', 'weights', 2)
    """
    method = scaled(method, epochs)
    method = replace(method, args={"label_smoothing": 0.1, **method.args})
    run = _by_sgd(Network(name), method, teacher, seed, epochs, root, evaluate_on)
    return replace(
        run,
        optimizer=AdamW(lr=5e-4, weight_decay=0.05, clip=1.0, decay="weights"),
        learning_rate=LearningRate("cosine", warmup_epochs=2 if epochs > 2 else 0, per="step"),
        channels_last=False,
        teacher_table="lazy",
    )


def _by_sgd(
    network: Network,
    method: MethodSpec,
    teacher: Network | None,
    seed: int,
    epochs: int,
    root: str | None,
    evaluate_on: Literal["test", "validation"],
) -> Run:
    return Run(
        student=network,
        teacher=teacher,
        method=method,
        data=Data(
            "tiny-imagenet",
            root=root,
            evaluate_on=evaluate_on,
            size=PIXELS,
            batch_size=BATCH,
            shift=SHIFT,
            flip=True,
            cache=True,
            strong="randaugment" if method.build().views == 2 else "none",
        ),
        optimizer=SGD(lr=0.02, weight_decay=5e-4, nesterov=True),
        learning_rate=LearningRate("cosine", warmup_epochs=1 if epochs > 1 else 0, per="step"),
        epochs=epochs,
        seed=seed,
        channels_last=True,
        threads=1,
    )
