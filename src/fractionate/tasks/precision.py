"""COCO's average precision: boxes are kept image by image, gathered from all processes, and counted as there."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .._typing import Float, Int
from ..data import Batch
from ..data.boxes import unpacked
from ..models.detection import are_detections, detected
from ..models.foreign import PASSED_ON, described
from ..models.handled import name_of
from ..world import current
from .classification import BINS, Calibration, Diverged

HEADLINE = "ap"
EVALUATORS = ("faster_coco_eval", "pycocotools")
SURE, HIT = 0.5, 0.5  # score of a box that a network stands for, and overlap from which two boxes are the same
SIZES = ("all", "small", "medium", "large")  # of objects, in the evaluator's order
MOST = 100  # boxes of an image that count


@dataclass(frozen=True)
class DetectionEvaluation:
    """Metrics of a detector on images with boxes; all in percent.

    Args:
        ap: mean over the categories that occur, and over overlaps (IoU) of 0.50 to 0.95 in steps of 0.05, of the
            precision at 101 recalls; at most 100 boxes of an image.
        ap50, ap75: the same at one overlap.
        by_size: the same over objects of less than 32 x 32 pixels of the file (``small``), up to 96 x 96 (``medium``)
            and more (``large``), where there are such.
        agreement: of the boxes with a score of at least 0.5 that student or teacher gives, how many both give: of the
            same category, with an IoU of at least 0.5. ``None`` without a teacher, or where neither gives any.
        calibration: reliability bins over all boxes: score, and how often it meets an object (IoU 0.5).
        aps: category -> AP, of those that occur.
        absent: the other categories.
    """

    ap: float
    ap50: float
    ap75: float
    by_size: dict[str, float]
    agreement: float | None
    calibration: Calibration
    aps: dict[str, float]
    absent: tuple[str, ...] = ()
    headline: ClassVar[str] = HEADLINE

    @property
    def score(self) -> float:
        """The value of the headline."""
        return self.ap

    def columns(self) -> dict[str, float]:
        """The metrics by key, the headline first; ``ap/CATEGORY`` of every category that occurs."""
        sizes = {f"ap_{size}": value for size, value in self.by_size.items()}
        named = {f"ap/{name}": value for name, value in self.aps.items()}
        return {"ap": self.ap, "ap50": self.ap50, "ap75": self.ap75, **sizes, **named}

    def facts(self) -> dict[str, Any]:
        """What a summary says besides."""
        return {"absent_classes": list(self.absent)}


@dataclass(frozen=True, eq=False)
class Seen:
    """One image: its number, its objects, and a network's boxes; all in pixels of the file, on the CPU."""

    index: int
    size: tuple[int, int]
    objects: Float[Tensor, "k 7"]  # category from 1, box, area, crowd
    boxes: Float[Tensor, "d 4"]
    labels: Int[Tensor, " d"]
    scores: Float[Tensor, " d"]


class Precisions:
    """Metrics of detection; images are counted once, whichever process has seen them.

    Args:
        classes: names of the categories.
        others: number of an image -> the teacher's boxes that it stands for, and their categories.
    """

    def __init__(self, classes: tuple[str, ...] = (), others: dict[int, tuple[Tensor, Tensor]] | None = None) -> None:
        self.classes, self.others = classes, others
        self.answers: dict[int, tuple[Tensor, Tensor]] = {}
        self._seen: list[Seen] = []
        self._same, self._either, self._bad = 0, 0, 0

    def run(self, net: nn.Module, batch: Batch) -> Any:
        """The boxes that a network gives for the images of a batch, without their padding."""
        try:
            return detected(net, batch.images, [known.size for known in unpacked(batch.target)])
        except PASSED_ON:
            raise
        except RuntimeError as error:
            raise ValueError(
                f"the network {name_of(net)} cannot take images {list(batch.images.shape)}: {error}"
            ) from error

    def add(self, outputs: Any, batch: Batch) -> None:
        """Take in what a network has said about a batch, or about this process's part of it."""
        if not are_detections(outputs) or len(outputs) != len(batch):
            raise ValueError(f"expected the boxes of {len(batch)} images from the network, got {described(outputs)}")
        if not batch.share:  # borrowed images are another process's
            return
        for found, known, index in zip(outputs, unpacked(batch.target.cpu()), batch.index.tolist(), strict=True):
            self._bad += int(not found.get("finite", True))
            boxes, labels, scores = (found[key].detach().cpu() for key in ("boxes", "labels", "scores"))
            sure = scores >= SURE
            if self.others is None:
                self.answers[index] = boxes[sure], labels[sure]
            else:
                other = self.others[index]
                same = int(matched(boxes[sure], labels[sure], *other).sum())
                self._same, self._either = self._same + same, self._either + int(sure.sum()) + len(other[1]) - same
            scale = known.factor
            height, width = (round(n * scale) for n in known.size)
            lines = torch.cat([known.labels[:, None].float(), known.boxes * scale, known.area[:, None],
                               known.crowd[:, None].float()], 1)  # fmt: skip
            self._seen.append(Seen(index, (height, width), lines, boxes * scale, labels, scores))

    def result(self) -> DetectionEvaluation:
        """The metrics of all images, of every process.

        Raises:
            Diverged: feature maps or logits that are NaN or infinite.
            ValueError: no image has an object.
            ImportError: no evaluator is installed.
        """
        world = current()
        seen = sorted((one for part in world.everyones(self._seen) for one in part), key=lambda one: one.index)
        same, either, bad = (
            sum(each) for each in zip(*world.everyones((self._same, self._either, self._bad)), strict=True)
        )
        if bad:
            raise Diverged(f"the network's numbers are not finite for {bad:,} of {len(seen):,} images")
        agreement = 100 * same / either if either else None
        highest = max((int(x[:, 0].max()) for one in seen if len(x := one.objects)), default=0)
        names = self.classes or tuple(str(c) for c in range(highest))
        return counted(seen, names, agreement)


def counted(seen: Sequence[Seen], classes: Sequence[str], agreement: float | None = None) -> DetectionEvaluation:
    """The metrics of images, in the order of which boxes of equal score are ranked.

    Raises:
        ValueError: no image has an object that is not a crowd.
        ImportError: no evaluator is installed.
    """
    if not any(bool((one.objects[:, 6] == 0).any()) for one in seen):
        raise ValueError("no image has a box of an object, so there is nothing to measure")
    table = _evaluated(seen, len(classes))  # overlaps, recalls, categories, sizes
    means = [_mean(x) for x in (table[..., 0], table[0, ..., 0], table[5, ..., 0])]
    per_class = [_mean(table[:, :, k, 0]) for k in range(len(classes))]
    sizes = {size: _mean(table[..., i]) for i, size in enumerate(SIZES) if i}
    return DetectionEvaluation(
        ap=means[0] or 0.0,
        ap50=means[1] or 0.0,
        ap75=means[2] or 0.0,
        by_size={size: value for size, value in sizes.items() if value is not None},
        agreement=agreement,
        calibration=_calibration(seen),
        aps={name: value for name, value in zip(classes, per_class, strict=True) if value is not None},
        absent=tuple(name for name, value in zip(classes, per_class, strict=True) if value is None),
    )


def _mean(table: Tensor) -> float | None:
    """In percent, over the entries that are none of the evaluator's -1 for what does not occur."""
    there = table[table > -1]
    return float(100 * there.mean()) if len(there) else None


def _evaluated(seen: Sequence[Seen], classes: int) -> Float[Tensor, "t r k a"]:
    """The evaluator's table of precisions at 100 boxes an image."""
    coco, evaluation = _evaluator()
    images = [{"id": one.index + 1, "height": one.size[0], "width": one.size[1]} for one in seen]
    truth: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for one in seen:
        for label, left, top, right, bottom, area, crowd in one.objects.double().tolist():
            box = [left, top, right - left, bottom - top]
            truth.append({"id": len(truth) + 1, "image_id": one.index + 1, "category_id": int(label), "bbox": box,
                          "area": area, "iscrowd": int(crowd)})  # fmt: skip
        found = zip(one.boxes.double().tolist(), one.labels.tolist(), one.scores.double().tolist(), strict=True)
        for (left, top, right, bottom), label, score in found:
            box = [left, top, right - left, bottom - top]
            said.append({"image_id": one.index + 1, "category_id": label, "bbox": box, "score": score})
    if not said:
        return torch.zeros(10, 101, classes, 4).where(_there(seen, classes), -1.0)
    categories = [{"id": k + 1, "name": str(k)} for k in range(classes)]
    known = coco()
    known.dataset = {"images": images, "annotations": truth, "categories": categories, "info": {}}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        known.createIndex()
        run = evaluation(known, known.loadRes(said), "bbox")
        run.evaluate()
        run.accumulate()
    return torch.as_tensor(run.eval["precision"])[..., -1].double()


def _there(seen: Sequence[Seen], classes: int) -> Tensor:
    """``[1, 1, k, a]`` whether a category occurs among objects of a size; for networks without any box."""
    lines = torch.cat([one.objects[one.objects[:, 6] == 0] for one in seen])
    bounds = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
    table = torch.zeros(classes, len(bounds), dtype=torch.bool)
    for a, (low, high) in enumerate(bounds):
        there = lines[(lines[:, 5] >= low) & (lines[:, 5] <= high), 0].long() - 1
        table[there, a] = True
    return table[None, None]


def _evaluator() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Classes of annotations and of the evaluation; the faster package where it is installed."""
    for package in EVALUATORS:
        try:
            module = importlib.import_module(package)
        except ModuleNotFoundError:
            continue
        if package == "faster_coco_eval":
            return module.COCO, module.COCOeval_faster
        parts = (importlib.import_module(f"{package}.{part}") for part in ("coco", "cocoeval"))
        return next(parts).COCO, next(parts).COCOeval
    raise ImportError(
        f"average precision needs the package 'faster-coco-eval' (or {EVALUATORS[1]!r}), which is not installed: pip "
        f"install 'fractionate[detection]'"
    )


def matched(
    boxes: Float[Tensor, "d 4"], labels: Int[Tensor, " d"], others: Float[Tensor, "k 4"], of: Int[Tensor, " k"]
) -> Tensor:
    """``[d]`` whether a box meets one of the others: same label, IoU of at least 0.5; each of those is met once.

    Args:
        boxes, labels: the best first.
        others, of: boxes and their labels.

    Example:
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> matched(box.repeat(2, 1), torch.tensor([1, 1]), box, torch.tensor([1])).tolist()
        [True, False]
    """
    hits = torch.zeros(len(boxes), dtype=torch.bool)
    if not len(boxes) or not len(others):
        return hits
    table = overlap(boxes, others).where(labels[:, None] == of[None], torch.zeros(()))
    rows, free = table.tolist(), [True] * len(others)
    for i, row in enumerate(rows):
        best = max((k for k in range(len(row)) if free[k]), key=row.__getitem__, default=None)
        if best is not None and row[best] >= HIT:
            hits[i], free[best] = True, False
    return hits


def overlap(a: Float[Tensor, "d 4"], b: Float[Tensor, "k 4"]) -> Float[Tensor, "d k"]:
    """Intersection over union of every two boxes.

    Example:
        >>> overlap(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]])).item()
        0.3333333432674408
    """
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clamp(min=0).prod(2)
    areas = [(x[:, 2:] - x[:, :2]).prod(1) for x in (a, b)]
    return both / (areas[0][:, None] + areas[1][None] - both).clamp(min=1e-12)


def _calibration(seen: Sequence[Seen]) -> Calibration:
    scores, hits = [], []
    for one in seen:
        objects = one.objects[one.objects[:, 6] == 0]
        hits.append(matched(one.boxes, one.labels, objects[:, 1:5], objects[:, 0].long()).double())
        scores.append(one.scores.double())
    sure, right = torch.cat(scores), torch.cat(hits)
    bins = (sure * BINS).long().clamp(0, BINS - 1)
    sums = [torch.bincount(bins, x, minlength=BINS).tolist() for x in (sure, right)]
    counts = torch.bincount(bins, minlength=BINS).tolist()
    means = [tuple(s / n if n else None for s, n in zip(each, counts, strict=True)) for each in sums]
    return Calibration(means[0], means[1], tuple(counts))
