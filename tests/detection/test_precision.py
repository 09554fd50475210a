"""COCO's average precision: by hand, by a slow twin, and what it does without boxes or objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fractionate.data import Batch
from fractionate.data.boxes import Known, packed
from fractionate.tasks import Diverged
from fractionate.tasks.precision import Precisions, Seen, counted, matched, overlap
from tests.detection import nets

NAMES = ("a", "b", "c")


def seen(seed: int, index: int, extra: int = 3) -> Seen:
    """Some objects, and boxes that lie near them or anywhere."""
    made = torch.Generator().manual_seed(seed)
    count = int(torch.randint(1, 5, (1,), generator=made))
    low = torch.rand(count, 2, generator=made) * 150
    boxes = torch.cat([low, low + 10 + torch.rand(count, 2, generator=made) * 120], 1)
    labels = torch.randint(1, 3, (count,), generator=made)  # nothing of c
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    objects = torch.cat([labels[:, None].float(), boxes, area[:, None], torch.zeros(count, 1)], 1)
    near = boxes + torch.randn(count, 4, generator=made) * 6
    far = torch.rand(extra, 2, generator=made) * 150
    found = torch.cat([near, torch.cat([far, far + 30], 1)])
    kinds = torch.cat([labels, torch.randint(1, 4, (extra,), generator=made)])
    scores, order = torch.rand(len(found), generator=made).sort(descending=True)
    return Seen(index, (300, 300), objects, found[order], kinds[order], scores)


def iou(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, wide) * max(0.0, high)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def slow(images: list[Seen], label: int, threshold: float) -> float:
    """AP of one category at one overlap: boxes by score, each takes the free object that it meets best."""
    said = [(s, k, i) for k, one in enumerate(images) for i, s in enumerate(one.scores.tolist())
            if int(one.labels[i]) == label]  # fmt: skip
    objects = [[o[1:5] for o in one.objects.tolist() if int(o[0]) == label] for one in images]
    free = [[True] * len(o) for o in objects]
    total, right, points = sum(map(len, objects)), 0, []
    for n, (_, k, i) in enumerate(sorted(said, key=lambda x: -x[0]), start=1):
        best, at = threshold, None
        for j, box in enumerate(objects[k]):
            if free[k][j] and iou(images[k].boxes[i].tolist(), box) >= best:
                best, at = iou(images[k].boxes[i].tolist(), box), j
        if at is not None:
            free[k][at], right = False, right + 1
        points.append((right / total, right / n))
    return sum(max((p for r, p in points if r >= level / 100 - 1e-12), default=0.0) for level in range(101)) / 101


def test_average_precision_is_that_of_a_slow_twin() -> None:
    images = [seen(seed, index) for index, seed in enumerate(range(12))]
    found = counted(images, NAMES)
    overlaps = [0.5 + 0.05 * i for i in range(10)]
    table = {name: [100 * slow(images, k + 1, t) for t in overlaps] for k, name in enumerate(NAMES[:2])}
    assert found.absent == ("c",)
    for name, values in table.items():
        assert found.aps[name] == pytest.approx(sum(values) / 10, rel=1e-6)
    assert found.ap == pytest.approx(sum(found.aps.values()) / 2, rel=1e-9)
    for metric, i in ((found.ap50, 0), (found.ap75, 5)):
        assert metric == pytest.approx(sum(v[i] for v in table.values()) / 2, rel=1e-6)
    assert 0 < found.ap < found.ap50 < 100
    assert found.columns().keys() >= {"ap", "ap50", "ap75", "ap_large", "ap/a", "ap/b"}


def one(boxes: list[list[float]], scores: list[float], crowd: bool = False) -> Seen:
    objects = torch.tensor([[1.0, 10, 10, 50, 50, 1600, 0]] + [[1.0, 60, 60, 90, 90, 900, 1]] * crowd)
    return Seen(
        0,
        (100, 100),
        objects,
        torch.tensor(boxes).float().view(-1, 4),
        torch.ones(len(boxes)).long(),
        torch.tensor(scores),
    )


def test_a_box_on_its_object_has_100_and_one_beside_it_what_its_overlap_allows() -> None:
    assert counted([one([[10, 10, 50, 50]], [0.9])], ("a",)).ap == 100
    aside = counted([one([[10, 10, 50, 36]], [0.9])], ("a",))  # 26 of 40 lines: IoU 0.65, so 4 of 10 thresholds
    assert (aside.ap, aside.ap50, aside.ap75) == pytest.approx((40, 100, 0))
    assert counted([one([], [])], ("a",)).ap == 0
    assert counted([one([], [])], ("a", "b")).absent == ("b",)


def test_a_box_in_a_crowd_is_no_mistake_and_a_crowd_is_not_missed() -> None:
    boxes, scores = [[62.0, 62, 80, 80], [10, 10, 50, 50]], [0.9, 0.8]
    assert counted([one(boxes, scores, crowd=True)], ("a",)).ap == 100
    assert counted([one(boxes, scores)], ("a",)).ap == pytest.approx(50)


def test_objects_are_what_there_is_to_measure() -> None:
    alone = replace(one([[10, 10, 50, 50]], [0.9]), objects=torch.zeros(0, 7))
    with pytest.raises(ValueError, match="nothing to measure"):
        counted([alone], ("a",))


def batch(count: int = 3, share: float = 1.0) -> Batch:
    box = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
    known = Known(box, torch.tensor([1]), torch.tensor([4096.0]), torch.tensor([False]), (48, 64), factor=2.0)
    return Batch(torch.zeros(count, 3, 64, 64), packed([known] * count), torch.arange(count), share=share)


def output(box: list[float], score: float = 0.9) -> dict[str, Tensor]:
    return {"boxes": torch.tensor([box]).float(), "labels": torch.tensor([1]), "scores": torch.tensor([score])}


def test_boxes_are_counted_in_pixels_of_the_files_and_borrowed_images_not_at_all() -> None:
    metrics = Precisions(("a",))
    metrics.add([output([8, 8, 40, 40])] * 3, batch())
    metrics.add([output([0, 0, 1, 1])] * 3, batch(share=0.0))
    found = metrics.result()
    assert found.ap == 100
    assert found.by_size == {"medium": 100.0}  # 64 x 64 there, 32 x 32 as shown
    assert found.calibration.count[13] == 3
    assert found.calibration.accuracy[13] == 1.0


def test_the_agreement_is_that_of_boxes_which_both_stand_for() -> None:
    teacher, student = Precisions(("a",)), None
    teacher.add([output([8, 8, 40, 40]), output([8, 8, 40, 40]), output([8, 8, 40, 40], 0.3)], batch())
    student = Precisions(("a",), teacher.answers)
    student.add([output([8, 8, 40, 38]), output([20, 20, 60, 60]), output([8, 8, 40, 40])], batch())
    assert student.result().agreement == pytest.approx(25)  # 1 of both, 1 of the teacher's alone, 2 of the student's
    assert teacher.result().agreement is None


def test_numbers_that_are_not_finite_are_said() -> None:
    net: Any = nets.detector(1).eval()
    metrics, some = Precisions(("a",)), batch()
    metrics.add(metrics.run(net, some), some)
    assert metrics.result().ap <= 100
    net.backbone.deeper.weight.data.fill_(float("nan"))
    metrics.add(metrics.run(net, some), some)
    with pytest.raises(Diverged, match="not finite for 3 of 6 images"):
        metrics.result()
    with pytest.raises(ValueError, match="the boxes of 3 images"):
        metrics.add(torch.zeros(3, 4), some)


def test_every_other_is_met_once_and_by_its_own_label() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]])
    assert matched(boxes, torch.tensor([1, 1, 2]), boxes[[0, 2]], torch.tensor([1, 1])).tolist() == [True, False, False]
    assert overlap(boxes, boxes).diagonal().tolist() == [1, 1, 1]
