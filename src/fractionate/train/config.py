"""A :class:`Run`: everything that decides what a training run does, as frozen plain data.

It compares, pickles and goes to YAML and back. Whatever is not in here does not influence the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from .spec import MethodSpec


@dataclass(frozen=True)
class Data:
    """Which images, how many of them, and how they are augmented.

    Args:
        name: data set.
        labels_per_class: keep this many training images of each class; ``None`` keeps all.
        evaluate_on: ``"test"``; or ``"validation"``, a part taken out of the training images, to choose settings on.
        batch_size: images per step.
        passes: how often every image is seen in one epoch.
        shift: random shift by up to this many pixels (pad and crop).
        flip: random mirror image.
        strong: how the second view of two-view methods is made: ``"cutout"`` blackens a square; ``"none"`` makes none.
    """

    name: Literal["digits"] = "digits"
    labels_per_class: int | None = None
    evaluate_on: Literal["test", "validation"] = "test"
    batch_size: int = 64
    passes: int = 1
    shift: int = 0
    flip: bool = False
    strong: Literal["none", "cutout"] = "none"


@dataclass(frozen=True)
class Network:
    """A network by name, and where its weights come from.

    Args:
        name: as in ``fractionate.models.create``.
        checkpoint: file with weights.
        pretrained: the library's default weights (torchvision, timm).
    """

    name: str
    checkpoint: str | None = None
    pretrained: bool = False


@dataclass(frozen=True)
class Optimizer:
    """StreamSGD; ``momentum`` is the base that every stream shifts."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = False
    dampening: float = 0.0

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")


@dataclass(frozen=True)
class LearningRate:
    """How the learning rate changes, as a factor of ``optimizer.lr``; epochs count from 1.

    Args:
        schedule: ``"constant"``, ``"step"`` or ``"cosine"``.
        milestones: with ``"step"``, epochs after which the rate is multiplied by ``decay``.
        decay: that factor.
        minimum: with ``"cosine"``, the rate of the last epoch as a fraction of ``optimizer.lr``.
        warmup_epochs: before this epoch the rate grows linearly from ``warmup_start``.
        warmup_start: first factor.
    """

    schedule: Literal["constant", "step", "cosine"] = "constant"
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    minimum: float = 0.0
    warmup_epochs: int = 0
    warmup_start: float = 0.1

    def __post_init__(self) -> None:
        if bool(self.milestones) != (self.schedule == "step"):
            raise ValueError(
                f"milestones belong to the schedule 'step', which needs some; got schedule={self.schedule!r} and "
                f"milestones={list(self.milestones)}"
            )


@dataclass(frozen=True)
class Monitors:
    """What is observed about the gradient streams.

    Streams stay unmerged meanwhile, which changes no update beyond rounding; a method with a single stream is watched
    component by component.

    Args:
        gsnr_window: steps per window of the gradient signal-to-noise ratio; ``None`` = off.
        cosines: cosine between every two streams, at the last step of an epoch.
        norms: norm of every stream, at the last step of an epoch.
        seeds: watch the runs with these seeds only (watching costs a backward pass per stream); ``None`` = all.
    """

    gsnr_window: int | None = None
    cosines: bool = False
    norms: bool = False
    seeds: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.gsnr_window is not None and self.gsnr_window < 2:
            raise ValueError(f"gsnr_window needs at least 2 steps, got {self.gsnr_window}")

    def watches(self, seed: int) -> bool:
        """Whether a run with this seed is observed."""
        wanted = self.gsnr_window is not None or self.cosines or self.norms
        return wanted and (self.seeds is None or seed in self.seeds)


@dataclass(frozen=True)
class Run:
    """One training run.

    Args:
        student: network that is trained.
        method: loss, gradient streams and momentum shifts.
        teacher: network that is imitated; with ``ce`` it is only compared with.
        data, optimizer, learning_rate, monitors: see there.
        epochs: number of epochs.
        seed: of the student's weights and of the batches.
        merge: join streams with equal momentum; ``None`` = wherever that is exact.
        device: ``"auto"`` takes a GPU if there is one.
        threads: CPU threads; a fixed number gives the same numbers everywhere. ``None`` leaves torch's choice.
        save_every: write ``last.ckpt`` after every so many epochs; 0 = at the end only.

    Raises:
        ValueError: a value out of range, a method that cannot be built, or a method that needs a teacher without one.

    Example:
        >>> run = Run(student=Network("convnet_8_16"), method=MethodSpec("ce"), epochs=3)
        >>> run == Run(student=Network("convnet_8_16"), method=MethodSpec("ce"), epochs=3)
        True
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "strict": True}

    student: Network
    method: MethodSpec
    teacher: Network | None = None
    data: Data = field(default_factory=Data)
    optimizer: Optimizer = field(default_factory=Optimizer)
    learning_rate: LearningRate = field(default_factory=LearningRate)
    monitors: Monitors = field(default_factory=Monitors)
    epochs: int = 240
    seed: int = 0
    merge: bool | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    save_every: int = 1

    def __post_init__(self) -> None:
        for name, value, least in (
            ("epochs", self.epochs, 1),
            ("seed", self.seed, 0),
            ("threads", self.threads or 1, 1),
            ("save_every", self.save_every, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if self.method.distils and self.teacher is None:
            raise ValueError(f"method {self.method.title!r} needs a teacher; 'ce' trains on labels alone")
        self.method.build().momenta(self.optimizer.momentum, self.merge)
