"""A class for every pixel: any folder of images and masks, CamVid for two cores, Cityscapes as published."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..config.data import Data
from ..config.method import MethodSpec
from ..config.optimizers import SGD, LearningRate
from ..config.run import Network, Run
from ..config.task import Segmentation
from ..papers.dense import dense_draft, of_pixels
from ..papers.rows import rows

TEACHER, STUDENT = "smp:deeplabv3plus-resnet34", "torchvision:lraspp_mobilenet_v3_large"
EPOCHS = 40
METHODS = ("ce", "kd", "dkd", "gdkd", "dkd+deepkd(normalize_gain=True)")


def teacher(
    *,
    name: str = TEACHER,
    seed: int = 0,
    epochs: int = EPOCHS,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A network trained on the labels of a folder's pixels.

    Args:
        name: network, ``smp:ARCHITECTURE-ENCODER`` or ``torchvision:NAME``.
        seed: of its weights and batches.
        epochs: length.
        root: folder or zip file of the set, whose layout is recognised.
        evaluate_on: ``"validation"`` measures on the set's validation part, or on a part of the training images.

    Example:
        >>> teacher().task.name
        'segmentation'
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
        method: what to train with; see :func:`of_pixels`.
        teacher: network with weights.
        name: student's network.
        seed: of its weights and batches.
        epochs: length.
        root: folder of the set.
        evaluate_on: as for the teacher.

    Example:
        >>> student(MethodSpec("gdkd"), Network("smp:fpn-resnet34")).method.args["k"]
        3
    """
    return _run(Network(name), of_pixels(method), teacher, seed, epochs, root, evaluate_on)


def _run(
    network: Network,
    method: MethodSpec,
    teacher: Network | None,
    seed: int,
    epochs: int,
    root: str | None,
    evaluate_on: Literal["test", "validation"],
) -> Run:
    from ..data.dense.kinds import recognised

    return Run(
        student=network,
        teacher=teacher,
        method=method,
        data=Data(
            recognised(root) if root else "camvid",
            root=root,
            evaluate_on=evaluate_on,
            batch_size=8,
            crop=(256, 256),
            scale=(0.5, 2.0),
            flip=True,
            colour=0.25,
        ),
        optimizer=SGD(lr=0.02, weight_decay=5e-4, clip=5.0),
        learning_rate=LearningRate("poly", minimum=0.005, warmup_epochs=1 if epochs > 1 else 0, per="step"),
        task=Segmentation(),
        epochs=epochs,
        seed=seed,
    )


SMALL_CROP = (96, 128)


def small_teacher(
    *,
    name: str = "smp:deeplabv3plus-resnet34",
    seed: int = 0,
    epochs: int = 24,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A teacher on CamVid at 240 x 180 pixels, for two CPU cores; arguments as :func:`teacher`.

    Three times as long as a student: after 8 epochs it is behind its student on the test part (32.95 against 35.67 %
    mIoU) and has nothing to teach.

    Example:
        >>> small_teacher().data.crop
        (96, 128)
    """
    run = _small(teacher(name=name, seed=seed, epochs=epochs, root=root, evaluate_on=evaluate_on))
    return replace(run, optimizer=replace(run.optimizer, lr=0.05))


def small_student(
    method: MethodSpec,
    teacher: Network,
    *,
    name: str = STUDENT,
    seed: int = 0,
    epochs: int = 8,
    root: str | None = None,
    evaluate_on: Literal["test", "validation"] = "test",
) -> Run:
    """A student of that teacher; arguments as :func:`student`. Five passes over the images make an epoch.

    The batch norms of MobileNetV3 average over a hundred steps, and an epoch has 230: in a run of one or two epochs
    such a student is measured with statistics that still hold some of their start. Take another one for those.

    Example:
        >>> small_student(MethodSpec("kd"), Network("smp:fpn-resnet18")).data.passes
        5
    """
    return _small(student(method, teacher, name=name, seed=seed, epochs=epochs, root=root, evaluate_on=evaluate_on))


def _small(run: Run) -> Run:
    data = replace(run.data, name="camvid", crop=SMALL_CROP, scale=(0.75, 1.5), passes=5)
    return replace(run, data=data, threads=1)


PAIRS = ("deeplabv3_resnet18", "deeplabv3_mobilenet_v2", "pspnet_resnet18")


def cityscapes(
    pair: str = "deeplabv3_resnet18", method: MethodSpec | None = None, *, root: str | None = None, seed: int = 0
) -> Run:
    """The published settings on Cityscapes as a complete config: DeepLabV3 with ResNet-101 and a small student.

    SGD at 0.02, weight decay 5e-4, poly 0.9 with a floor of 1e-4, batch 16, 40,000 iterations (215 epochs), scales 0.5
    to 2.0 in steps of 0.1, crops of 512 x 1024, flip, evaluation of whole images; logits of stride 8. What differs from
    the published code: images are normalised as ImageNet is (not BGR minus a mean), the cross-entropy is taken at the
    logits' size, labels are aligned, pixels without a label are not distilled, and smp's networks have no auxiliary
    head.

    Args:
        pair: ``"deeplabv3_resnet18"``, ``"deeplabv3_mobilenet_v2"`` or ``"pspnet_resnet18"``.
        method: by default DIST, whose results are published (77.10 and 76.31 % mIoU, from 74.21 and 72.55 alone).
        root: folder with ``leftImg8bit`` and ``gtFine``.
        seed: of the student's weights and batches.

    Raises:
        ValueError: an unknown pair.

    Source: hunto/DIST_KD, ZaberKo/seg-gdkd, winycg/CIRKD; arXiv 2205.10536.

    Example:
        >>> run = cityscapes("pspnet_resnet18")
        >>> run.epochs, run.learning_rate.minimum, run.method.args["scale"]
        (215, 0.005, False)
    """
    if pair not in PAIRS:
        raise ValueError(f"unknown pair {pair!r}: {', '.join(PAIRS)}")
    row = rows()[f"cityscapes/dist/deeplabv3_resnet101__{pair}/seg-gdkd/pixels-at-stride-8"]
    run = dense_draft(row, method or MethodSpec("dist"))
    return replace(run, data=replace(run.data, root=root), seed=seed)
