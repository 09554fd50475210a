"""Image classification: metrics of a network, and rows with the logits of image regions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._typing import Float, Int
from ..data import Batch, Source, bounds, shares
from ..losses import region_logits
from ..models import logits_of
from ..rows import Logits
from ..teachers.live import LiveTeacher, Teacher
from ..world import World, current

BINS = 15
WARM_UP = 2  # batches before the clock runs: memory is found and kernels are chosen in them


SCHEMA = 1
"""Layout of ``metrics.jsonl`` and ``summary.json``; folders from before this was written count as 0."""
HEADLINE = "top1"
"""The metric of classification that tables show first, as in ``test_top1``, ``last_top1``, ``teacher_top1``."""


class Diverged(ArithmeticError):
    """Training produced a number that is not finite; says at which step, in which stream and component."""


@dataclass(frozen=True)
class Calibration:
    """Reliability bins of equal width: mean confidence, accuracy (fractions, ``None`` if empty), number of images."""

    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    count: tuple[int, ...]

    @property
    def ece(self) -> float:
        """Expected calibration error: sum over bins of count / n |accuracy - confidence|, a fraction."""
        gaps = zip(self.count, self.accuracy, self.confidence, strict=True)
        total = sum(n * abs(a - c) for n, a, c in gaps if a is not None and c is not None)
        return total / max(1, sum(self.count))


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a network on a set of images.

    Args:
        top1, top5: accuracy in percent.
        loss: mean cross-entropy in nats.
        agreement: how often the top class is the teacher's, in percent; ``None`` without a teacher.
        calibration: reliability bins.
    """

    top1: float
    top5: float
    loss: float
    agreement: float | None
    calibration: Calibration
    headline: ClassVar[str] = HEADLINE

    @property
    def score(self) -> float:
        """The value of the headline."""
        return self.top1

    def columns(self) -> dict[str, float]:
        """The metrics by key, the headline among them; in files each has ``test_`` or ``last_`` before it."""
        return {"top1": self.top1, "top5": self.top5, "loss": self.loss}


@torch.inference_mode()
def predict(net: nn.Module, source: Source) -> tuple[Float[Tensor, "n c"], Int[Tensor, " n"]]:
    """Logits and labels of every image, the network in evaluation mode (and put back afterwards).

    Several processes divide the images among them, and each of them gets all logits, every image's once. Everything
    stays on its device and nothing is read there, so the host runs ahead of a GPU.
    """
    world, training, sizes, found = current(), net.training, [], []
    net.eval()
    for batch in shares(source, 1, world.rank, world.size):
        own = slice(None if batch.share else 0)
        sizes.append(batch.whole or len(batch))
        found.append((logits_of(net, batch.images).float()[own], batch.target[own]))
    net.train(training)
    logits, target = (torch.cat(x) for x in zip(*found, strict=True))
    return _in_order(logits, sizes, world), _in_order(target, sizes, world)


def _in_order(own: Tensor, sizes: list[int], world: World) -> Tensor:
    """What every process computed of each batch, as if one had computed it all.

    Args:
        own: this process's parts of all batches, one after the other.
        sizes: number of images of each whole batch.
        world: the processes.
    """
    if world.alone:
        return own
    everyones = world.rows(own)
    lengths = [[(s := bounds(n, rank, world.size)).stop - s.start for n in sizes] for rank in range(world.size)]
    parts = [rows.split(each) for rows, each in zip(everyones, lengths, strict=True)]
    return torch.cat([part[i] for i in range(len(sizes)) for part in parts])


def evaluate(net: nn.Module, source: Source, teacher_top1: Int[Tensor, " n"] | None = None) -> Evaluation:
    """All metrics at once.

    Args:
        net: network.
        source: images in a fixed order, without augmentation.
        teacher_top1: the teacher's class for every image, in the same order.
    """
    return measure(*predict(net, source), teacher_top1)


def measure(
    logits: Float[Tensor, "n c"], target: Int[Tensor, " n"], teacher_top1: Int[Tensor, " n"] | None = None
) -> Evaluation:
    """Metrics of given logits.

    Raises:
        Diverged: logits that are NaN or infinite.

    Example:
        >>> e = measure(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0]), torch.tensor([0, 1]))
        >>> e.top1, e.agreement, round(e.calibration.ece, 4)
        (50.0, 100.0, 0.3808)
    """
    if not bool((finite := logits.isfinite().all(1)).all()):
        raise Diverged(f"the network's logits are not finite for {int((~finite).sum())} of {len(logits)} images")
    top = logits.topk(min(5, logits.shape[1]), dim=1).indices
    hits = top == target[:, None]
    found = [100 * _mean(hits[:, 0]), 100 * _mean(hits.any(1)), F.cross_entropy(logits, target).double()]
    if teacher_top1 is not None:
        found.append(100 * _mean(top[:, 0] == teacher_top1))
    top1, top5, loss, *agreement = torch.stack(found).tolist()  # one transfer for all of them
    return Evaluation(top1, top5, loss, agreement[0] if agreement else None, calibrate(logits, target))


def calibrate(logits: Float[Tensor, "n c"], target: Int[Tensor, " n"], bins: int = BINS) -> Calibration:
    """Reliability bins of the top class's probability."""
    confidence, top = logits.double().softmax(1).max(1)
    index = (confidence * bins).long().clamp_max(bins - 1)
    sums = [torch.bincount(index, x.double(), minlength=bins) for x in (confidence, top == target)]
    count = torch.bincount(index, minlength=bins)
    *means, counts = torch.stack([*(s / count for s in sums), count.double()]).tolist()
    confidences, accuracies = (tuple(m if n else None for m, n in zip(s, counts, strict=True)) for s in means)
    return Calibration(confidences, accuracies, tuple(map(int, counts)))


@torch.inference_mode()
def throughput(net: nn.Module, images: Float[Tensor, "n ch h w"], seconds: float = 1.0) -> float:
    """Images per second through the network in evaluation mode, the images being on its device already.

    Args:
        net: network; left in the mode it was in.
        images: one batch, normalised.
        seconds: measure at least this long; the median over batches is what counts.

    Example:
        >>> throughput(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), torch.zeros(8, 1, 8, 8), seconds=0.01) > 0
        True
    """
    training = net.training
    times: list[float] = []
    net.eval()
    for _ in range(WARM_UP):
        net(images)
    begun = time.perf_counter()
    while not times or time.perf_counter() - begun < seconds:
        times.append(_timed(net, images))
    net.train(training)
    return len(images) / sorted(times)[len(times) // 2]


def _timed(net: nn.Module, images: Tensor) -> float:
    _wait(images.device)
    started = time.perf_counter()
    net(images)
    _wait(images.device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _mean(hits: Tensor) -> Tensor:
    return hits.double().mean()


def region_rows(student: nn.Module, teacher: Teacher | None, batch: Batch, scales: Sequence[int]) -> Logits:
    """Student and teacher logits of a batch and of its regions, from one forward pass of each network.

    Args:
        student: network with ``features(x)``, a list of feature maps, and a linear head after global average pooling.
        teacher: a live network of the same kind.
        batch: images.
        scales: sizes of the grids, the whole image (1) first.

    Raises:
        ValueError: a teacher that is not a network, or a network without such a head.
    """
    if not isinstance(teacher, LiveTeacher):
        raise ValueError("region logits need the teacher as a live network, not stored logits")
    own = _regions(student, batch.images, scales)
    own = own if own.dtype == torch.float64 else own.float()
    with torch.inference_mode():
        other = _regions(teacher.net, batch.images, scales)
    other = other.clone().to(own.dtype)
    count = sum(size * size for size in scales)
    regions = Logits(own, other, batch.target.repeat_interleave(count, 0))
    return Logits(own[::count], other[::count], batch.target, regions=regions)


def _regions(net: nn.Module, images: Tensor, scales: Sequence[int]) -> Tensor:
    head = next((m for m in reversed(list(net.modules())) if isinstance(m, nn.Linear)), None)
    features = getattr(net, "features", None)
    if head is None or not callable(features):
        raise ValueError(_refusal(net, "no features(x) or no linear layer was found"))
    maps = [x for x in features(images) if x.ndim == 4]
    if not maps or maps[-1].shape[1] != head.in_features:
        found = "none" if not maps else f"{maps[-1].shape[1]} channels"
        raise ValueError(_refusal(net, f"the last feature map has {found}, the head reads {head.in_features} numbers"))
    return region_logits(maps[-1], head, scales)


def _refusal(net: nn.Module, why: str) -> str:
    return (
        f"sdd classifies regions of the last feature map, so {type(net).__name__} must end in global average pooling "
        f"and one linear layer: {why}. Networks of this package that do: the CIFAR networks and convnet_gap_*"
    )
