"""A detector of one stage, torchvision's RetinaNet, distilled at its positive anchors in a loop of one's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou

import fractionate as fr
from tests.detection import nets

C = 3
HEADS = (("classification", "cls_logits"), ("regression", "bbox_reg"))


def retina(seed: int) -> Any:
    torch.manual_seed(seed)
    anchors = AnchorGenerator(((8, 16), (24, 32)), ((1.0,),) * 2)
    return RetinaNet(nets.Trunk(32), C, anchor_generator=anchors, min_size=64, max_size=64)


def classes(net: Any, images: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """``[n, a, c]`` class logits of all anchors, and the anchors."""
    shown = net.transform(images)[0]
    maps = list(net.backbone(shown.tensors).values())
    return net.head.classification_head(maps), net.anchor_generator(shown, maps)


def test_positive_anchors_are_rows_and_the_detector_s_own_loss_is_the_task() -> None:
    student, teacher = retina(0).train(), retina(1).eval()
    method = fr.methods.with_extra(fr.methods.dkd(temperature=1, warmup=1, ce_weight=0), name="detector", role="task")
    method = fr.methods.deepkd(method, normalize_gain=True)
    optimizer = fr.StreamSGD(student.parameters(), lr=0.05, momentum=method.momenta(0.9, merge=False))
    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [20.0, 30.0, 36.0, 46.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([2, 0])}] * 2
    before = [p.detach().clone() for p in student.parameters()]
    for _ in range(2):
        own = sum(student(images, targets).values())
        logits, anchors = classes(student, images)
        best = [box_iou(boxes, one).max(0) for one in anchors]
        labels = [torch.where(b.values >= 0.5, targets[0]["labels"][b.indices], -1) for b in best]
        with torch.no_grad():
            given = classes(teacher, images)[0]
        lg = fr.rows.anchors(logits, given, torch.stack(labels))
        assert lg.rows == sum(int((y >= 0).sum()) for y in labels) > 0
        lg = fr.Logits(lg.student, lg.teacher, lg.target, extra={"detector": own.expand(lg.rows)})
        assert all(bool(x.isfinite().all()) for x in method.components(lg).values())
        grads = fr.stream_grads(method.stream_losses(lg, merge=False), student.parameters())
        optimizer.step(grads)
    names = [name for name, _ in student.named_parameters()]
    last, offset = (names.index(f"head.{kind}_head.{name}.weight") for kind, name in HEADS)
    assert list(grads) == ["task", "target", "nontarget"]
    assert all(bool(grads[stream][last].any()) for stream in grads)  # all streams reach the class logits
    reached = [grads[stream][offset] is not None and bool(grads[stream][offset].any()) for stream in grads]
    assert reached == [True, False, False]  # only the detector's own loss reaches the box offsets
    assert all(bool((a != b).any()) for a, b in zip(before, student.parameters(), strict=True))


def test_without_a_positive_anchor_there_is_no_row_and_a_loss_of_nothing_with_a_graph() -> None:
    logits, _ = classes(retina(0).train(), [torch.rand(3, 64, 64)])
    lg = fr.rows.anchors(logits, logits.detach(), torch.full(logits.shape[:2], -1))
    loss = fr.methods.gdkd(k=1, ce_weight=0).loss(lg)
    assert (lg.rows, float(loss.detach()), loss.requires_grad) == (0, 0.0, True)
