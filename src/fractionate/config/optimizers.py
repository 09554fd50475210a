"""Optimizers of a run, and the course of their learning rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .ranges import check_adamw, check_learning_rate, check_sgd

Decay = Literal["all", "weights"]


@dataclass(frozen=True)
class SGD:
    """:class:`fractionate.StreamSGD`; ``momentum`` is the base that every stream shifts.

    Args:
        name: ``"sgd"``.
        lr, momentum, weight_decay, nesterov, dampening: as in :class:`fractionate.StreamSGD`.
        decay: which parameters weight decay is for: ``"all"``; or ``"weights"``, those of two dimensions and more, not
            biases and norms, and no embeddings (positions and tokens of transformers among them).
        layer_decay: factor from the learning rate of one block of layers to that of the block before it, the last one
            having the whole; for networks whose blocks lie in one list, and timm's. ``None`` = off.
        clip: largest norm of the sum of all streams' gradients; larger ones are scaled down, all streams alike. Of
            a method with the gains of streams as weights (``reweighted``) it is multiplied by the largest of them.
        clip_streams: largest norm of each stream's gradient, before ``clip``; streams are not merged then.
    """

    name: Literal["sgd"] = field(default="sgd", kw_only=True)
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = False
    dampening: float = 0.0
    clip: float | None = None
    clip_streams: float | None = None
    decay: Decay = "all"
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        check_sgd(self)

    @property
    def base(self) -> float:
        """The momentum that every stream shifts."""
        return self.momentum


@dataclass(frozen=True)
class AdamW:
    """:class:`fractionate.StreamAdamW`; ``beta1`` is the base that every stream shifts.

    Args:
        name: ``"adamw"``.
        lr, beta2, eps, weight_decay, gain, clip_rms: as in :class:`fractionate.StreamAdamW`.
        beta1: coefficient of the first moments.
        decay, layer_decay, clip, clip_streams: as in :class:`SGD`.
    """

    name: Literal["adamw"] = field(default="adamw", kw_only=True)
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-2
    gain: Literal["normalised", "heavy-ball"] = "normalised"
    clip: float | None = None
    clip_streams: float | None = None
    clip_rms: float | None = None
    decay: Decay = "all"
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        check_adamw(self)

    @property
    def base(self) -> float:
        """The momentum that every stream shifts."""
        return self.beta1


Optimizer = SGD  # the name that it had while it was the only one


@dataclass(frozen=True)
class LearningRate:
    """How the learning rate changes, as a factor of ``optimizer.lr``; epochs count from 1.

    Args:
        schedule: ``"constant"``, ``"step"``, ``"cosine"`` or ``"poly"``.
        milestones: with ``"step"``, epochs after which the rate is multiplied by ``decay``.
        decay: that factor.
        minimum: with ``"cosine"``, the rate of the last epoch as a fraction of ``optimizer.lr``, as in published code;
            0 = none is named: the cosine then goes to 0, which would come after the last epoch. With ``"poly"``, the
            fraction that is never gone below, which would come after the last one.
        cosine_end: when a cosine reaches its ``minimum``: in the ``"last"`` epoch, or ``"after"`` it, as torch's
            ``CosineAnnealingLR`` does; the warm-up's first epoch then has ``warmup_start`` itself.
        power: with ``"poly"``, the rate is minimum + (1 - minimum) (1 - t)^power after the share t of the run.
        warmup_epochs: during so many epochs the rate grows linearly from ``warmup_start``.
        warmup_start: first factor; with a ``minimum``, the factor before the first epoch.
        per: how often the rate changes: once per ``"epoch"``, as in the published runs, or with every ``"step"``.
    """

    schedule: Literal["constant", "step", "cosine", "poly"] = "constant"
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    minimum: float = 0.0
    warmup_epochs: int = 0
    warmup_start: float = 0.1
    per: Literal["epoch", "step"] = "epoch"
    power: float = 0.9
    cosine_end: Literal["last", "after"] = "last"

    def __post_init__(self) -> None:
        check_learning_rate(self)
