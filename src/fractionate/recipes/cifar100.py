"""CIFAR-100 as the field trains it: 240 epochs, pad-crop-flip, steps at 150, 180 and 210."""

from __future__ import annotations

from typing import Literal

from ..config.data import Data
from ..config.method import MethodSpec
from ..config.optimizers import LearningRate, Optimizer
from ..config.run import Network, Run
from ..models.cifar import ALIASES
from ..papers.draft import PUBLISHED_EPOCHS, milestones, scaled

TEACHER = "resnet32x4"
STUDENT = "resnet8x4"
MILESTONES = (150, 180, 210)
SLOW = ("mobilenet_v2", "shufflenet_v1", "shufflenet_v2")  # trained with a smaller learning rate throughout the field


def teacher(
    *,
    name: str = TEACHER,
    seed: int = 0,
    epochs: int = PUBLISHED_EPOCHS,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A network trained on labels alone.

    Args:
        name: network.
        seed: of its weights and batches.
        epochs: length; milestones keep their share of it.
        root: folder of the data set.
        evaluate_on: ``"validation"`` keeps a tenth of the training images apart.

    Source: the settings of megvii-research/mdistiller, used by the papers of all methods here.

    Example:
        >>> teacher(epochs=24).learning_rate.milestones
        (15, 18, 21)
    """
    return _run(Network(name), MethodSpec("ce"), None, seed, epochs, root, evaluate_on)


def student(
    method: MethodSpec,
    teacher: Network,
    *,
    name: str = STUDENT,
    seed: int = 0,
    epochs: int = PUBLISHED_EPOCHS,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A student with the settings that the published methods share; those of one paper are in the recipes.

    Args:
        method: what to train with; arguments that are given are kept, a default warm-up keeps its share of the run.
        teacher: network with weights.
        name: student's network.
        seed: of its weights and batches.
        epochs: length.
        root: folder of the data set.
        evaluate_on: as for the teacher, which must then come from the same part.

    Example:
        >>> run = student(MethodSpec.parse("crld"), Network("resnet32x4"))
        >>> run.data.strong, run.optimizer.lr
        ('randaugment', 0.05)
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
    slow = ALIASES.get(network.name, network.name) in SLOW
    two_views = method.build().views == 2
    return Run(
        student=network,
        teacher=teacher,
        method=method,
        data=Data(
            "cifar100",
            root=root,
            evaluate_on=evaluate_on,
            batch_size=64,
            shift=4,
            flip=True,
            strong="randaugment" if two_views else "none",
        ),
        optimizer=Optimizer(lr=0.01 if slow else 0.05),
        learning_rate=LearningRate("step", milestones(MILESTONES, epochs)),
        epochs=epochs,
        seed=seed,
        channels_last=True,
    )
