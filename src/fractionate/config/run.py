"""A :class:`Run`: everything that decides what a training run does, as frozen plain data.

It compares, pickles and goes to YAML and back. What else decides the numbers: images, weights of the teacher, code of
the losses, torch, files with the code of one's own networks. Run folders know them again (``made_of``), but not what
such code imports or reads in its turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from .data import Data
from .method import MethodSpec
from .optimizers import SGD, AdamW, LearningRate
from .ranges import check_run
from .task import Classification, Detection, Segmentation


@dataclass(frozen=True)
class Network:
    """A network by name, and where its weights come from.

    Args:
        name: as in ``fractionate.models.create``.
        checkpoint: file with weights.
        pretrained: the library's weights (torchvision, timm, hf); out of ``checkpoint`` if that is given too. Of other
            numbers of classes, a student gets a new last layer, and a teacher is fine-tuned first.
        preprocessing: ``"library"`` shows it pixels as the library (torchvision, timm, hf) prepares them, ``"data"`` as
            the data have them; ``None`` finds out, or asks.
        stem: ``"small"`` replaces the stem of a torchvision or timm network by one for small images (3 x 3
            convolution of stride 1, no pooling); ``"default"`` leaves it.
        published_bn: run the second pass through some batch norms that the published wide ResNets make (see the model).
    """

    name: str
    checkpoint: str | None = None
    pretrained: bool = False
    stem: Literal["default", "small"] = "default"
    published_bn: bool = False
    preprocessing: Literal["library", "data"] | None = None


@dataclass(frozen=True)
class Monitors:
    """What is observed about the gradient streams.

    Streams stay unmerged meanwhile, which changes no update beyond rounding; a method with a single stream is watched
    component by component (not under ``optimizer.clip_streams``, where that would be other streams to clip).

    Args:
        gsnr_window: steps per window of the gradient signal-to-noise ratio, whose columns are null in an epoch in
            which no window ended; ``None`` = off.
        cosines: cosine between every two streams, at the last step of an epoch.
        norms: norm of every stream, at the last step of an epoch.
        shares: part of every stream in the optimizer's buffers, which make the update, at the end of an epoch.
        layers: with ``gsnr_window``, the ratio of every layer too (the modules right below the network).
        ranks: size of every stream's gradient at the logits by the teacher's rank, at the end of an epoch, for the
            first batch of the first epoch.
        update_rms: root mean square of AdamW's last update in units of its rate; streams may stay merged.
        seeds: watch the runs with these seeds only (watching costs a backward pass per stream); ``None`` = all.
    """

    gsnr_window: int | None = None
    cosines: bool = False
    norms: bool = False
    update_rms: bool = False
    shares: bool = False
    layers: bool = False
    ranks: bool = False
    seeds: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.gsnr_window is not None and self.gsnr_window < 2:
            raise ValueError(f"gsnr_window needs at least 2 steps, got {self.gsnr_window}")
        if self.layers and self.gsnr_window is None:
            raise ValueError("monitors.layers is the ratio of gsnr_window layer by layer; give gsnr_window as well")

    def watches(self, seed: int) -> bool:
        """Whether a run with this seed is observed."""
        wanted = self.gsnr_window is not None or self.cosines or self.norms
        wanted = wanted or self.shares or self.ranks
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
        data, optimizer, learning_rate, monitors, parallel, task: see there.
        epochs: number of epochs.
        seed: of the student's weights and of the batches.
        merge: join streams with equal momentum; ``None`` = wherever that is exact.
        combine: rule of :mod:`fractionate.combine` that makes all streams one; ``"none"`` = a momentum each.
        ema: decay per step of an average of the student's weights, which is then evaluated and kept; ``None`` = off.
        accumulate: parts in which a step's images go through the networks one after the other, for less memory.
        precision: ``"bfloat16"`` or ``"float16"`` (with a loss scale) is that of the networks; losses stay in float32.
            ``"auto"`` is bfloat16 where the processor or GPU has a unit for it, else float32; the folder's config says
            which.
        channels_last: memory layout of images and weights; often faster. Equal up to rounding, which is coarser there
            on a CPU: torch's batch norm is 4e-6 off, not 4e-8, and a first step's gradient by up to 6e-3 of itself.
        teacher_table: keep the teacher's logits per image and crop, and run it once for each: ``"lazy"`` as they are
            needed, ``"full"`` all at the start.
        teacher_table_dtype: ``"float16"`` keeps them in half the room, to about three digits.
        teacher_table_place: ``"file"`` is a memory-mapped one that later runs read too; ``"memory"`` is for this run.
        compile_teacher: let ``torch.compile`` compile the teacher, at its first call.
        device: ``"cpu"``, ``"cuda"`` or one of several GPUs (``"cuda:1"``); ``"auto"`` takes a GPU if there is one.
        graph: on a CUDA GPU, record a step once as one CUDA graph and play it again. It has never run on one yet.
        threads: CPU threads; a fixed number gives the same numbers everywhere. ``None`` leaves torch's choice, of which
            several processes (``--workers``) take equal shares.
        evaluate_every: measure on the test images after every so many epochs, and after the last; 0 = after the last
            alone. ``best`` in the summary is then the best of those measured.
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
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    channels_last: bool = False
    teacher_table: Literal["off", "lazy", "full"] = "off"
    teacher_table_dtype: Literal["float32", "float16"] = "float32"
    teacher_table_place: Literal["file", "memory"] = "file"
    compile_teacher: bool = False
    device: str = "auto"
    graph: bool = False
    threads: int | None = None
    save_every: int = 1
    evaluate_every: int = 1
    keep: int = 2
    skip_nonfinite: int = 0
    task: Classification | Segmentation | Detection = field(default_factory=Classification)

    def evaluates(self, epoch: int) -> bool:
        """Whether the student is measured after this epoch, counted from 1."""
        return epoch >= self.epochs or bool(self.evaluate_every and epoch % self.evaluate_every == 0)

    def __post_init__(self) -> None:
        check_run(self)
        self.method.build().momenta(self.optimizer.base, self.merge)
