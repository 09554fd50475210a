"""A :class:`Run`: everything that decides what a training run does, as frozen plain data.

It compares, pickles and goes to YAML and back. What else decides the numbers: images, weights of the teacher, code of
the losses, torch (which run folders know again, ``made_of``), and code of one's own (which they do not).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from .method import MethodSpec
from .ranges import check_adamw, check_data, check_learning_rate, check_run, check_sgd

Name = Literal["digits", "cifar10", "cifar100", "mnist", "fashion-mnist", "folder"]
Decay = Literal["all", "weights"]
Augment = Literal["none", "cutout", "autoaugment", "autoaugment+cutout", "randaugment"]


@dataclass(frozen=True)
class Data:
    """Which images, how many of them, and how they are augmented.

    Args:
        name: data set; ``"folder"`` is any folder of images, one folder per class.
        root: folder the data set lies in, or is downloaded to; ``None`` takes the environment variable
            FRACTIONATE_DATA, else ``data``.
        labels_per_class: keep this many training images of each class; ``None`` keeps all.
        evaluate_on: ``"test"``; or ``"validation"``, a part taken out of the training images, to choose settings on.
        size: of a folder's images, in pixels; ``None`` takes that of the first one.
        skip_broken: leave out files of a folder that cannot be read, with a warning that counts them.
        cache: keep a folder's decoded pictures on disk for later runs, where FRACTIONATE_CACHE says, else in ~/.cache;
            it changes no number.
        batch_size: images per step.
        passes: how often every image is seen in one epoch.
        shift: random shift by up to this many pixels (pad and crop).
        flip: random mirror image.
        augment: what else is done to the training images: ``"autoaugment"`` (the policy found on CIFAR-10),
            ``"autoaugment+cutout"`` (the same and a square of 16 pixels, for GDKD's teachers),
            ``"randaugment"`` (that of CRLD and MLKD, with its cutout), ``"cutout"``.
        strong: how the second view of two-view methods is made, out of the same list; ``"none"`` makes none.
        mixup: parameter of the Beta distribution by which pairs of images and their labels are mixed; 0 = off.
        cutmix: the same for pasted rectangles; with both, each batch draws one of them.
    """

    name: Name = "digits"
    root: str | None = None
    labels_per_class: int | None = None
    evaluate_on: Literal["test", "validation"] = "test"
    size: int | None = None
    skip_broken: bool = False
    cache: bool = False
    batch_size: int = 64
    passes: int = 1
    shift: int = 0
    flip: bool = False
    augment: Augment = "none"
    strong: Augment = "none"
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        check_data(self)


@dataclass(frozen=True)
class Network:
    """A network by name, and where its weights come from.

    Args:
        name: as in ``fractionate.models.create``.
        checkpoint: file with weights.
        pretrained: the library's default weights (torchvision, timm).
        stem: ``"small"`` replaces the stem of a torchvision or timm network by one for small images (3 x 3
            convolution of stride 1, no pooling); ``"default"`` leaves it.
        published_bn: run the second pass through some batch norms that the published wide ResNets make (see the model).
    """

    name: str
    checkpoint: str | None = None
    pretrained: bool = False
    stem: Literal["default", "small"] = "default"
    published_bn: bool = False


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
        clip: largest norm of the sum of all streams' gradients; larger ones are scaled down, all streams alike.
        clip_streams: largest norm of each stream's gradient, before ``clip``.
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
        schedule: ``"constant"``, ``"step"`` or ``"cosine"``.
        milestones: with ``"step"``, epochs after which the rate is multiplied by ``decay``.
        decay: that factor.
        minimum: with ``"cosine"``, the rate of the last epoch as a fraction of ``optimizer.lr``, as in published code;
            0 = none is named: the cosine then goes to 0, which would come after the last epoch.
        warmup_epochs: during so many epochs the rate grows linearly from ``warmup_start``.
        warmup_start: first factor; with a ``minimum``, the factor before the first epoch.
        per: how often the rate changes: once per ``"epoch"``, as in the published runs, or with every ``"step"``.
    """

    schedule: Literal["constant", "step", "cosine"] = "constant"
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    minimum: float = 0.0
    warmup_epochs: int = 0
    warmup_start: float = 0.1
    per: Literal["epoch", "step"] = "epoch"

    def __post_init__(self) -> None:
        check_learning_rate(self)


@dataclass(frozen=True)
class Monitors:
    """What is observed about the gradient streams.

    Streams stay unmerged meanwhile, which changes no update beyond rounding; a method with a single stream is watched
    component by component.

    Args:
        gsnr_window: steps per window of the gradient signal-to-noise ratio; ``None`` = off.
        cosines: cosine between every two streams, at the last step of an epoch.
        norms: norm of every stream, at the last step of an epoch.
        update_rms: root mean square of AdamW's last update in units of its rate; streams may stay merged.
        seeds: watch the runs with these seeds only (watching costs a backward pass per stream); ``None`` = all.
    """

    gsnr_window: int | None = None
    cosines: bool = False
    norms: bool = False
    update_rms: bool = False
    seeds: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.gsnr_window is not None and self.gsnr_window < 2:
            raise ValueError(f"gsnr_window needs at least 2 steps, got {self.gsnr_window}")

    def watches(self, seed: int) -> bool:
        """Whether a run with this seed is observed."""
        wanted = self.gsnr_window is not None or self.cosines or self.norms
        return wanted and (self.seeds is None or seed in self.seeds)


@dataclass(frozen=True)
class Parallel:
    """How the processes of a run that torchrun has started work together; means nothing to one process.

    Args:
        sync: what they exchange at every step: the ``"gradients"`` of every stream, or one ``"update"`` of the weights,
            while momentum buffers stay local; the same result with less traffic.
        sync_batchnorm: batch norms see the images of all processes. On GPUs only.
    """

    sync: Literal["gradients", "update"] = "gradients"
    sync_batchnorm: bool = False


@dataclass(frozen=True)
class Run:
    """One training run.

    Args:
        student: network that is trained.
        method: loss, gradient streams and momentum shifts.
        teacher: network that is imitated; with ``ce`` it is only compared with.
        data, optimizer, learning_rate, monitors, parallel: see there.
        epochs: number of epochs.
        seed: of the student's weights and of the batches.
        merge: join streams with equal momentum; ``None`` = wherever that is exact.
        combine: rule of :mod:`fractionate.combine` that makes all streams one; ``"none"`` = a momentum each.
        ema: decay per step of an average of the student's weights, which is then evaluated and kept; ``None`` = off.
        accumulate: parts in which a step's images go through the networks one after the other, for less memory.
        precision: ``"bfloat16"`` or ``"float16"`` (with a loss scale) is that of the networks; losses stay in float32.
        channels_last: memory layout of images and weights; often faster. Equal up to rounding, which is coarser there
            on a CPU: torch's batch norm is 4e-6 off, not 4e-8, and a first step's gradient by up to 6e-3 of itself.
        teacher_table: keep the teacher's logits per image and crop, and run it once for each: ``"lazy"`` as they are
            needed, ``"full"`` all at the start.
        teacher_table_dtype: ``"float16"`` keeps them in half the room, to about three digits.
        teacher_table_place: ``"file"`` is a memory-mapped one that later runs read too; ``"memory"`` is for this run.
        compile_teacher: let ``torch.compile`` compile the teacher, at its first call.
        device: ``"cpu"``, ``"cuda"`` or one of several GPUs (``"cuda:1"``); ``"auto"`` takes a GPU if there is one.
        graph: on a CUDA GPU, record a step once as one CUDA graph and play it again. It has never run on one yet.
        threads: CPU threads; a fixed number gives the same numbers everywhere. ``None`` leaves torch's choice.
        save_every: write ``last.ckpt`` after every so many epochs; 0 = at the end only.
        keep: how many checkpoints lie in the folder while the run trains, for where the newest is damaged; then one.
        skip_nonfinite: leave out up to this many steps whose loss or gradient is not finite, instead of stopping at the
            first one. On a GPU this waits for every step's gradients.

    Raises:
        ValueError: a value out of range, a method that cannot be built, or a method that needs a teacher without one.

    Example:
        >>> Run(student=Network("convnet_8_16"), method=MethodSpec("ce"), epochs=3).optimizer.lr
        0.1
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "strict": True}

    student: Network
    method: MethodSpec
    teacher: Network | None = None
    data: Data = field(default_factory=Data)
    optimizer: SGD | AdamW = field(default_factory=SGD)
    learning_rate: LearningRate = field(default_factory=LearningRate)
    monitors: Monitors = field(default_factory=Monitors)
    parallel: Parallel = field(default_factory=Parallel)
    epochs: int = 240
    seed: int = 0
    merge: bool | None = None
    combine: Literal["none", "total", "min_norm", "min_norm_log", "pcgrad"] = "none"
    ema: float | None = None
    accumulate: int = 1
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    teacher_table: Literal["off", "lazy", "full"] = "off"
    teacher_table_dtype: Literal["float32", "float16"] = "float32"
    teacher_table_place: Literal["file", "memory"] = "file"
    compile_teacher: bool = False
    device: str = "auto"
    graph: bool = False
    threads: int | None = None
    save_every: int = 1
    keep: int = 2
    skip_nonfinite: int = 0

    def __post_init__(self) -> None:
        check_run(self)
        self.method.build().momenta(self.optimizer.base, self.merge)
