"""Test metrics: accuracy, loss, agreement with the teacher, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._typing import Float, Int
from ..data import Source

BINS = 15


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


@torch.inference_mode()
def predict(net: nn.Module, source: Source) -> tuple[Float[Tensor, "n c"], Int[Tensor, " n"]]:
    """Logits and labels of every image, the network in evaluation mode (and put back afterwards)."""
    training = net.training
    net.eval()
    found = [(net(batch.images).float(), batch.target) for batch in source.batches(epoch=1)]
    net.train(training)
    return torch.cat([z for z, _ in found]), torch.cat([y for _, y in found])


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

    Example:
        >>> e = measure(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0]), torch.tensor([0, 1]))
        >>> e.top1, e.agreement, round(e.calibration.ece, 4)
        (50.0, 100.0, 0.3808)
    """
    top = logits.topk(min(5, logits.shape[1]), dim=1).indices
    hits = top == target[:, None]
    agreement = None if teacher_top1 is None else 100 * _mean(top[:, 0] == teacher_top1)
    return Evaluation(
        top1=100 * _mean(hits[:, 0]),
        top5=100 * _mean(hits.any(1)),
        loss=float(F.cross_entropy(logits, target)),
        agreement=agreement,
        calibration=calibrate(logits, target),
    )


def calibrate(logits: Float[Tensor, "n c"], target: Int[Tensor, " n"], bins: int = BINS) -> Calibration:
    """Reliability bins of the top class's probability."""
    confidence, top = logits.double().softmax(1).max(1)
    index = (confidence * bins).long().clamp_max(bins - 1)
    count = torch.bincount(index, minlength=bins)
    sums = [torch.bincount(index, x.double(), minlength=bins) / count for x in (confidence, top == target)]
    means = [tuple(m if n else None for m, n in zip(s.tolist(), count.tolist(), strict=True)) for s in sums]
    return Calibration(means[0], means[1], tuple(count.tolist()))


def _mean(hits: Tensor) -> float:
    return float(hits.double().mean())
