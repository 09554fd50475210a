"""Photos as the field distils them: ImageNet's ResNets by SGD, and vision transformers by AdamW."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..config.data import Data
from ..config.method import MethodSpec
from ..config.optimizers import SGD, AdamW, LearningRate
from ..config.run import Network, Run
from ..papers.draft import scaled
from ..papers.photos import WORKERS

TEACHER, STUDENT, VIT = "torchvision:resnet34", "torchvision:resnet18", "timm:deit_tiny_patch16_224"
EPOCHS, LONG = 100, 300
STEPS = (0.3, 0.6, 0.9)  # of the run, after each of which the rate is a tenth


def teacher(
    *,
    name: str = TEACHER,
    seed: int = 0,
    epochs: int = EPOCHS,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A network trained on ImageNet's labels alone.

    Args:
        name: network; with ``teacher.pretrained=true`` a library's weights are taken, and nothing is trained.
        seed: of its weights and batches.
        epochs: length.
        root: the folder, as :func:`fractionate.data.photo_set` reads it; ``data.name=tiny-imagenet`` and the like take
            another set.
        evaluate_on: ``"validation"`` keeps a tenth of the training images apart.

    Example:
        >>> teacher().learning_rate.milestones
        (30, 60, 90)
    """
    return _by_sgd(Network(name), MethodSpec("ce"), None, seed, epochs, root, evaluate_on)


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
    """A student with the settings that the published methods share on ImageNet: SGD at 0.2 per 512 images, steps.

    Args:
        method: what to train with; arguments that are given are kept, a default warm-up keeps its share of the run.
        teacher: network with weights.
        name: student's network.
        seed: of its weights and batches.
        epochs: length; the rate falls after 30, 60 and 90 % of it.
        root: as for the teacher.
        evaluate_on: likewise.

    Source: the settings of megvii-research/mdistiller on ImageNet.

    Example:
        >>> run = student(MethodSpec("kd"), Network("torchvision:resnet34", pretrained=True))
        >>> run.optimizer.lr, run.data.batch_size, run.data.resized_crop
        (0.2, 512, True)
    """
    return _by_sgd(Network(name), scaled(method, epochs), teacher, seed, epochs, root, evaluate_on)


def vit(
    method: MethodSpec,
    teacher: Network,
    *,
    name: str = VIT,
    seed: int = 0,
    epochs: int = LONG,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A vision transformer from nothing, as DeiT is trained: AdamW at 1e-3 per 1024 images, decay of 0.05, cosine.

    RandAugment, random erasing, three augmented forms of an image in a row, label smoothing, and an average of the
    weights; mixup and CutMix for methods that read no single label. Norms, biases, positions and tokens do not decay.
    The gradient's norm is bounded by 1, which DeiT does not do. A student that starts from weights wants
    ``optimizer.layer_decay=0.75`` and a tenth of the rate.

    Args:
        method: what to train with; arguments that are given are kept, a default warm-up keeps its share of the run.
        teacher: network with weights.
        name: student's network.
        seed: of its weights and batches.
        epochs: length; a sixtieth of it, but one at least, warms up.
        root: as for :func:`teacher`.
        evaluate_on: likewise.

    Source: arXiv 2012.12877, table 9.

    Example:
        >>> run = vit(MethodSpec("gdkd"), Network("torchvision:resnet50", pretrained=True))
        >>> run.optimizer.name, run.optimizer.decay, run.data.cutmix, run.learning_rate.warmup_epochs
        ('adamw', 'weights', 1.0, 5)
        >>> vit(MethodSpec("dkd"), Network("torchvision:resnet50", pretrained=True)).data.cutmix
        0.0
    """
    method = scaled(method, epochs)
    method = replace(method, args={"label_smoothing": 0.1, **method.args})
    soft = not method.build().needs_labels
    rate = 1e-3
    return Run(
        student=Network(name),
        teacher=teacher,
        method=method,
        data=replace(
            _data(root, evaluate_on, method),
            batch_size=1024,
            augment="randaugment-2-9",
            erasing=0.25,
            repeats=3,
            mixup=0.8 if soft else 0.0,
            cutmix=1.0 if soft else 0.0,
            interpolation="bicubic",
        ),
        optimizer=AdamW(lr=rate, weight_decay=0.05, clip=1.0, decay="weights"),
        learning_rate=LearningRate(
            "cosine",
            minimum=1e-5 / rate,
            warmup_epochs=max(1, round(epochs / 60)) if epochs > 1 else 0,
            warmup_start=1e-6 / rate,
            per="step",
        ),
        ema=0.9999,
        epochs=epochs,
        seed=seed,
        channels_last=True,
    )


def vit_teacher(
    *,
    name: str = "torchvision:resnet50",
    seed: int = 0,
    epochs: int = EPOCHS,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """The teacher of :func:`vit`: arguments as those of :func:`teacher`.

    Example:
        >>> vit_teacher().student.name
        'torchvision:resnet50'
    """
    return teacher(name=name, seed=seed, epochs=epochs, root=root, evaluate_on=evaluate_on)


def _data(root: str | None, evaluate_on: Literal["test", "validation"], method: MethodSpec) -> Data:
    two_views = method.build().views == 2
    return Data(
        "imagenet",
        root=root,
        evaluate_on=evaluate_on,
        size=224,
        workers=WORKERS,
        flip=True,
        resized_crop=True,
        strong="randaugment" if two_views else "none",
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
    marks = tuple(sorted({max(1, round(share * epochs)) for share in STEPS}))
    return Run(
        student=network,
        teacher=teacher,
        method=method,
        data=replace(_data(root, evaluate_on, method), batch_size=512),
        optimizer=SGD(lr=0.2, momentum=0.9, weight_decay=1e-4),
        learning_rate=LearningRate("step", milestones=marks),
        epochs=epochs,
        seed=seed,
        channels_last=True,
    )
