"""Any folder of images, one folder per class, for people who never read a paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..config.method import MethodSpec
from ..config.optimizers import SGD, AdamW, LearningRate
from ..config.run import Network, Run
from ..pictures.plan import EPOCHS, STUDENT, TEACHER
from . import cifar100

CLIP = 1.0
RATES = {"small": 0.05, "photo": 0.02, "light": 0.01}  # of SGD, per 64 images


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


# Words in the names of networks, this package's and others', that are known to want a smaller rate or AdamW.
LIGHT = (
    *("mobile", "shuffle", "efficient", "mnas", "ghost", "rexnet", "regnet", "lcnet", "tinynet", "fbnet", "squeeze"),
    "mixnet",
)
TRANSFORMERS = (
    *("vit", "deit", "swin", "beit", "eva", "cait", "xcit", "pvt", "twins", "coat", "convit", "maxvit", "tnt", "mixer"),
    *("mlp", "former", "convnext"),
)


def kind_of(name: str) -> Literal["small", "photo", "light", "transformer"]:
    """Which settings suit a network, as far as its name tells.

    Example:
        >>> [kind_of(name) for name in ("resnet20", "timm:resnet18", "timm:mobilenetv3_small_050", "timm:vit_tiny")]
        ['small', 'photo', 'light', 'transformer']
    """
    library, _, rest = name.lower().rpartition(":")
    if library == "hf" or (library and any(word in rest for word in TRANSFORMERS)):
        return "transformer"
    if any(word in rest for word in LIGHT):
        return "light"
    return "photo" if library else "small"


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
        return AdamW(lr=3e-4, weight_decay=0.05, clip=CLIP, decay="weights")
    return SGD(lr=RATES[kind], clip=CLIP)


def _here(run: Run) -> Run:
    """The field's settings for CIFAR-100 on a folder: a cosine, whose length is free, in the place of milestones."""
    warmup = max(1, round(run.epochs / 12))
    rates = LearningRate("cosine", warmup_epochs=warmup if run.epochs > 1 else 0, per="step")
    data = replace(run.data, name="folder", cache=True)
    return replace(run, data=data, optimizer=optimizer_for(run.student.name), learning_rate=rates)
