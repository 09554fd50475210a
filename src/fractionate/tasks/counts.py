"""Metrics of a class for every pixel, out of counts that sum exactly, and networks shown window by window."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._typing import Bool, Float, Int
from ..data import Batch
from ..data.dense import VOID
from ..models.dense import maps_of, pick_maps, same_size
from ..models.foreign import run_on
from ..world import current
from .classification import BINS, Calibration, Diverged, in_order

HEADLINE = "miou"


def labelled(target: Int[Tensor, ...], ignore: int, classes: int) -> Bool[Tensor, ...]:
    """Which pixels count: those with a label other than ``ignore``, and other than void, where that is no class.

    Example:
        >>> labelled(torch.tensor([0, 1, 255]), ignore=0, classes=2).tolist()
        [False, True, False]
    """
    keep = target != ignore
    return keep & (target != VOID) if classes <= VOID else keep


def as_float(x: Tensor) -> Tensor:
    """Float32, or float64 where it is that."""
    return x if x.dtype == torch.float64 else x.float()


@dataclass(frozen=True)
class DenseEvaluation:
    """Metrics of a network on images with a class for every pixel.

    Args:
        miou: mean over the classes that occur in the labels of their IoU, in percent.
        miou_published: the same with 0 for every class that does not, as in published code.
        pixel_accuracy: pixels with the right class, in percent of those with a label.
        loss: mean cross-entropy of a labelled pixel in nats.
        agreement: labelled pixels to which the teacher gives the same class, in percent; ``None`` without a teacher.
        calibration: reliability bins over labelled pixels.
        ious: class -> IoU in percent, of the classes that occur.
        absent: the other classes.
        shares: class -> its labelled pixels in percent of all, of the classes that occur.
    """

    miou: float
    miou_published: float
    pixel_accuracy: float
    loss: float
    agreement: float | None
    calibration: Calibration
    ious: dict[str, float]
    absent: tuple[str, ...] = ()
    shares: dict[str, float] = field(default_factory=dict)
    headline: ClassVar[str] = HEADLINE

    @property
    def score(self) -> float:
        """The value of the headline."""
        return self.miou

    def columns(self) -> dict[str, float]:
        """The metrics by key, the headline among them; ``iou/CLASS`` of every class that occurs."""
        return {
            "miou": self.miou,
            "pixel_accuracy": self.pixel_accuracy,
            "loss": self.loss,
            "miou_published": self.miou_published,
            **{f"iou/{name}": value for name, value in self.ious.items()},
        }

    def facts(self) -> dict[str, Any]:
        """What a summary says besides."""
        return {"absent_classes": list(self.absent), "class_shares": dict(self.shares)}


class Counts:
    """Metrics of segmentation, image by image; the whole result is made of counts, which add up exactly.

    The confusion matrix is kept as whole numbers, so that any number of processes, in any order, sum to the same one;
    means of the loss and of confidence are summed in the order of the images. (torchmetrics keeps the same matrix; it
    does without the number of processes whose last part is borrowed, the teacher's answers, and a name for every class
    that is left out.)

    Args:
        ignore: label that does not count.
        classes: names of the classes.
        others: position of an image -> the teacher's classes of its pixels.
        window: height and width of sliding windows; ``None`` shows whole images.
        stride: of the windows, as a part of their size.

    Example:
        >>> counts = Counts(classes=("road", "sky", "car"))
        >>> logits = torch.tensor([[[[2.0, 2.0]], [[0.0, 0.0]], [[0.0, 3.0]]]])
        >>> counts.add(logits, Batch(torch.zeros(1, 3, 1, 2), torch.tensor([[[0, 255]]]), torch.tensor([0])))
        >>> counts.result().miou, counts.result().absent
        (100.0, ('sky', 'car'))
    """

    def __init__(
        self,
        ignore: int = 255,
        classes: tuple[str, ...] = (),
        others: dict[int, Tensor] | None = None,
        window: tuple[int, int] | None = None,
        stride: float = 2 / 3,
    ) -> None:
        self.ignore, self.classes, self.others, self.window, self.stride = ignore, classes, others, window, stride
        self.answers: dict[int, Tensor] = {}
        self._confusion: Tensor | None = None
        self._sizes: list[int] = []
        self._rows: list[Tensor] = []

    def run(self, net: nn.Module, batch: Batch) -> Any:
        """What a network returns for a batch, window by window if that is asked for."""
        if self.window is None:
            return run_on(net, batch.images)
        return slid(net, batch.images, self.window, self.stride)

    def add(self, outputs: Any, batch: Batch) -> None:
        """Take in what a network has said about a batch, or about this process's part of it."""
        self._sizes.append(batch.whole or len(batch))
        logits = pick_maps(outputs)
        if len(logits) != len(batch):
            raise ValueError(f"the network gave logits of {len(logits)} images when asked about {len(batch)}")
        if not batch.share:  # borrowed images are another process's
            self._rows.append(torch.empty(0, 5 + 3 * BINS, dtype=torch.float64, device=logits.device))
            return
        classes = logits.shape[1]
        if self._confusion is None:
            self._confusion = torch.zeros(classes * classes, dtype=torch.int64, device=logits.device)
        for i in range(len(batch)):
            target = batch.target[i]
            one = same_size(as_float(logits[i : i + 1]), (target.shape[0], target.shape[1]))[0]
            self._rows.append(self._image(one, target, int(batch.index[i])))

    def _image(self, logits: Float[Tensor, "c y x"], target: Int[Tensor, "y x"], index: int) -> Tensor:
        """What is kept of an image: five sums over its labelled pixels, and three for every bin of confidence."""
        top = logits.argmax(0)
        if self.others is None:  # a teacher's; nobody compares itself with a student
            self.answers[index] = top.to(torch.uint8 if logits.shape[0] <= 256 else torch.int16).cpu()
        keep = labelled(target, self.ignore, logits.shape[0])
        given, y, found = logits[:, keep].T, target[keep], top[keep]
        assert self._confusion is not None
        self._confusion += torch.bincount(y * logits.shape[0] + found, minlength=len(self._confusion))
        chances = given.softmax(1)
        confidence = chances.gather(1, found[:, None])[:, 0].double()
        right = (found == y).double()
        losses = F.cross_entropy(given, y, reduction="none").double()
        bins = (confidence * BINS).long().clamp(0, BINS - 1)
        sums = [torch.bincount(bins, x, minlength=BINS) for x in (confidence, right)]
        counts = torch.bincount(bins, minlength=BINS).double()
        same = torch.zeros((), dtype=torch.float64)
        if self.others is not None:
            same = (self.others[index].to(found.device)[keep] == found).double().sum()
        bad = (~given.isfinite().all(1)).double().sum()
        five = [torch.tensor(float(len(y)), dtype=torch.float64), right.sum(), losses.sum(), same, bad]
        return torch.cat([torch.stack([x.to(found.device) for x in five]), *sums, counts])[None]

    def result(self) -> DenseEvaluation:
        """The metrics of all images, of every process.

        Raises:
            Diverged: logits that are NaN or infinite.
            ValueError: no pixel of any image has a label.
        """
        world = current()
        table = in_order(torch.cat(self._rows), self._sizes, world)
        confusion = self._counted()
        sums = table.sum(0).tolist()
        pixels, right, loss, same, bad = sums[:5]
        if bad:
            raise Diverged(f"the network's logits are not finite for {int(bad):,} of {int(pixels):,} pixels")
        if not pixels:
            raise ValueError("no pixel of the images has a label, so there is nothing to measure")
        ious, absent, published = self._ious(confusion)
        agreement = 100 * same / pixels if self.others is not None else None
        bins = _calibration(*(sums[5 + i * BINS : 5 + (i + 1) * BINS] for i in range(3)))
        mean = sum(ious.values()) / len(ious)
        counts = dict(zip(self._names(len(confusion)), confusion.sum(1).tolist(), strict=True))
        shares = {name: 100 * counts[name] / sum(counts.values()) for name in ious}
        accuracy = 100 * right / pixels
        return DenseEvaluation(mean, published, accuracy, loss / pixels, agreement, bins, ious, absent, shares)

    def _counted(self) -> Tensor:
        """``[c, c]`` labelled pixels by label and answer, of all processes."""
        world = current()
        most = max(world.everyones(0 if self._confusion is None else len(self._confusion)))
        device = self._rows[0].device
        own = (
            torch.zeros(most, dtype=torch.int64, device=device) if self._confusion is None else self._confusion.clone()
        )
        side = round(most**0.5)
        return world.sum_(own).cpu().view(side, side)

    def _names(self, count: int) -> tuple[str, ...]:
        return self.classes or tuple(str(c) for c in range(count))

    def _ious(self, confusion: Tensor) -> tuple[dict[str, float], tuple[str, ...], float]:
        """IoU of every class that occurs, the others, and the mean in which those count 0; in percent."""
        hits, labels = confusion.diagonal(), confusion.sum(1)
        union = labels + confusion.sum(0) - hits
        names = self._names(len(hits))
        ious = {
            name: 100 * h / u
            for name, n, h, u in zip(names, labels.tolist(), hits.tolist(), union.tolist(), strict=True)
            if n
        }
        absent = tuple(name for name, n in zip(names, labels.tolist(), strict=True) if not n)
        return ious, absent, sum(ious.values()) / len(names)


def _calibration(confidence: list[float], right: list[float], count: list[float]) -> Calibration:
    means = [tuple(s / n if n else None for s, n in zip(sums, count, strict=True)) for sums in (confidence, right)]
    return Calibration(means[0], means[1], tuple(int(n) for n in count))


def slid(net: nn.Module, images: Float[Tensor, "n ch h w"], window: tuple[int, int], stride: float) -> Tensor:
    """Log of the mean probabilities of overlapping windows, ``[n, c, h, w]``.

    Args:
        net: network.
        images: larger than a window, or padded by their own mean (0) to one.
        window: height and width.
        stride: how far windows lie apart, as a part of their size; the last ones end at the edge.

    Example:
        >>> net = nn.Conv2d(1, 2, 1)
        >>> x = torch.randn(1, 1, 5, 7)
        >>> torch.allclose(slid(net, x, (4, 4), 0.5), net(x).log_softmax(1), atol=1e-6)
        True
    """
    height, width = images.shape[2:]
    padded = F.pad(images, (0, max(0, window[1] - width), 0, max(0, window[0] - height)))
    total: Tensor | None = None
    count = torch.zeros(padded.shape[2:], device=images.device)
    for top in _starts(padded.shape[2], window[0], stride):
        for left in _starts(padded.shape[3], window[1], stride):
            rows, columns = slice(top, top + window[0]), slice(left, left + window[1])
            said = same_size(as_float(maps_of(net, padded[:, :, rows, columns])), window).softmax(1)
            if total is None:
                total = said.new_zeros(len(images), said.shape[1], *padded.shape[2:])
            total[:, :, rows, columns] += said
            count[rows, columns] += 1
    assert total is not None
    least = torch.finfo(total.dtype).tiny  # of a class far below the best float32 keeps no probability
    return (total / count).clamp_min(least).log()[:, :, :height, :width]


def _starts(length: int, window: int, stride: float) -> list[int]:
    step = max(1, int(window * stride))
    return sorted({min(at, length - window) for at in range(0, max(1, length - window + step), step)})
