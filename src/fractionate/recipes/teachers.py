"""Teachers for CIFAR-100, trained as the published ones were."""

from __future__ import annotations

from dataclasses import replace

from .._choices import unknown
from ..config.method import MethodSpec
from ..config.optimizers import LearningRate
from ..config.run import Run
from ..papers.draft import AUGMENTATIONS, CROP, STRONG, draft
from ..papers.recipes import PaperRecipe
from ..papers.rows import Row, rows


def teacher_run(of: PaperRecipe | str, *, strong: bool | None = None) -> Run:
    """The run that trains a teacher, by the published recipe for labels alone.

    Args:
        of: a recipe that has a teacher, or a network of the table, such as ``"resnet32x4"``.
        strong: train with AutoAugment and cutout; ``None`` does so where the recipe's source did.

    Raises:
        ValueError: a recipe without teacher, or a network for which no recipe is published.

    Example:
        >>> teacher_run("resnet32x4").data.augment, teacher_run("resnet32x4", strong=True).data.augment
        ('none', 'autoaugment+cutout')
    """
    if isinstance(of, PaperRecipe):
        if not of.row.teacher:
            raise ValueError(f"{of.id} names no teacher")
        name = of.row.teacher
        strong = of.row.teacher_weights.startswith("aug") if strong is None else strong
    else:
        name = of
    augmented = AUGMENTATIONS[STRONG] if strong else CROP
    run = draft(_row(name, strong=bool(strong)), MethodSpec("ce"))
    return replace(run, data=replace(augmented, batch_size=run.data.batch_size))


SHORT = 60  # epochs
RISE = 3  # of them, in which the rate grows


def short(network: str, *, epochs: int = SHORT, strong: bool | None = None) -> Run:
    """A teacher in a quarter of the published time: the same solver, the rate along half a cosine with every step.

    It is another teacher than the published one: whoever learns from it notes how long it was trained, and by which
    schedule (``teacher_training`` in ``summary.json``).

    Args:
        network: of the table, such as ``"resnet32x4"``.
        epochs: length; the rate grows during the first 3 of 60.
        strong: as for :func:`teacher_run`.

    Raises:
        ValueError: a network for which no recipe is published.

    Example:
        >>> run = short("resnet32x4")
        >>> run.epochs, run.learning_rate.schedule, run.optimizer == teacher_run("resnet32x4").optimizer
        (60, 'cosine', True)
    """
    rate = LearningRate("cosine", warmup_epochs=round(epochs * RISE / SHORT), per="step")
    return replace(teacher_run(network, strong=strong), epochs=epochs, learning_rate=rate)


def alone_top1(network: str) -> float | None:
    """The published accuracy on CIFAR-100 of a network trained alone, without strong augmentation, in percent.

    Example:
        >>> alone_top1("resnet32x4"), alone_top1("resnet8")
        (79.42, None)
    """
    for row in rows().values():
        if row.dataset == "cifar100" and row.augmentation != STRONG:
            for name, accuracy in ((row.teacher, row.teacher_acc), (row.student, row.student_acc)):
                if name == network and accuracy is not None:
                    return accuracy
    return None


def _row(network: str, *, strong: bool) -> Row:
    """The row that trains a network; the one with the other augmentation where the table has no other."""
    found: dict[str, list[Row]] = {}
    for row in rows().values():
        if row.dataset == "cifar100" and row.method == "ce" and row.optimizer == "sgd":
            found.setdefault(row.student, []).append(row)
    if network not in found:
        why = unknown("network with a published recipe", network, found)
        raise ValueError(f"{why}; as a teacher any other needs weights (teacher.checkpoint=FILE)")
    return min(found[network], key=lambda row: (row.augmentation == STRONG) != strong)
