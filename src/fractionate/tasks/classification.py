"""Image classification: metrics of a network."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._typing import Float, Int
from ..data import Batch, Source, bounds, shares
from ..models import logits_of
from ..models.foreign import pick_logits
from ..world import World, current
from .task import measure_with

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

    def guessing(self, classes: int) -> tuple[float, float]:
        """Top-1 % of answers drawn at random among so many classes, and its standard deviation on so many images."""
        chance = 1 / classes
        doubt = (chance * (1 - chance) / max(1, sum(self.calibration.count))) ** 0.5
        return 100 * chance, 100 * doubt

    def columns(self) -> dict[str, float]:
        """The metrics by key, the headline among them; in files each has ``test_`` or ``last_`` before it."""
        return {"top1": self.top1, "top5": self.top5, "loss": self.loss}


class Scores:
    """Metrics of classification, image by image: a few numbers of each are kept, and :meth:`result` is exact.

    Several processes that have divided the images get the same result, to the last bit: numbers are put in the order
    of the images before they are summed up.

    Args:
        answers: ``[n]`` the teacher's class for every image, in the same order; ``None`` without one.

    Example:
        >>> scores, images = Scores(), torch.zeros(2, 1, 1, 1)
        >>> scores.add(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), Batch(images, torch.tensor([0, 0]), torch.arange(2)))
        >>> scores.result().top1
        50.0
    """

    def __init__(self, answers: Int[Tensor, " n"] | None = None) -> None:
        self.answers = answers
        self._sizes: list[int] = []
        self._columns: list[Tensor] = []

    def add(self, outputs: Any, batch: Batch) -> None:
        """Take in what a network has said about a batch, or about this process's part of it; nothing is read."""
        own = slice(None if batch.share else 0)
        self._sizes.append(batch.whole or len(batch))
        logits = pick_logits(outputs)
        if len(logits) != len(batch):
            raise ValueError(f"the network gave logits of {len(logits)} images when asked about {len(batch)}")
        self._columns.append(_columns(logits.float()[own], batch.target[own]))

    def result(self) -> Evaluation:
        """The metrics of all images, of every process.

        Raises:
            Diverged: logits that are NaN or infinite.
        """
        return _evaluation(self._table(), self.answers)

    def top(self) -> Int[Tensor, " n"]:
        """The most likely class of every image."""
        return self._table()[:, -1].long()

    def _table(self) -> Tensor:
        return in_order(torch.cat(self._columns), self._sizes, current())


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
    return in_order(logits, sizes, world), in_order(target, sizes, world)


def in_order(own: Tensor, sizes: list[int], world: World) -> Tensor:
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
    return measure_with(Scores(teacher_top1), net, source).result()


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
    return _evaluation(_columns(logits, target), teacher_top1)


def calibrate(logits: Float[Tensor, "n c"], target: Int[Tensor, " n"], bins: int = BINS) -> Calibration:
    """Reliability bins of the top class's probability."""
    confidence, top = logits.double().softmax(1).max(1)
    return _bins(confidence, (top == target).double(), bins)


def _columns(logits: Float[Tensor, "n c"], target: Int[Tensor, " n"]) -> Float[Tensor, "n 6"]:
    """Of every image: is it finite, is the top class right, one of five, cross-entropy, confidence, top class."""
    hits = logits.topk(min(5, logits.shape[1]), dim=1).indices == target[:, None]
    confidence, top = logits.double().softmax(1).max(1)
    loss = F.cross_entropy(logits, target, reduction="none")
    return torch.stack(
        [x.double() for x in (logits.isfinite().all(1), hits[:, 0], hits.any(1), loss, confidence, top)], 1
    )


def _evaluation(table: Float[Tensor, "n 6"], answers: Int[Tensor, " n"] | None) -> Evaluation:
    finite, first, five, losses, confidence, top = table.unbind(1)
    found = [100 * first.mean(), 100 * five.mean(), losses.mean(), (1 - finite).sum()]
    if answers is not None:
        found.append(100 * (top == answers).double().mean())
    top1, top5, loss, bad, *agreement = torch.stack(found).tolist()  # one transfer for all of them
    if bad:
        raise Diverged(f"the network's logits are not finite for {int(bad)} of {len(table)} images")
    return Evaluation(top1, top5, loss, agreement[0] if agreement else None, _bins(confidence, first, BINS))


def _bins(confidence: Float[Tensor, " n"], right: Float[Tensor, " n"], bins: int) -> Calibration:
    index = (confidence * bins).long().clamp_max(bins - 1)
    sums = [torch.bincount(index, x, minlength=bins) for x in (confidence, right)]
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
