"""Regions as rows: the loss is torchvision's, distillation a mean over regions, and parts take the whole's step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fractionate as fr
from fractionate.config import SGD, Data, MethodSpec, Network, Run, from_yaml, to_yaml
from fractionate.config import Detection as Settings
from fractionate.data import Batch
from fractionate.data.boxes import BoxImages, Known, annotated, packed
from fractionate.models.detection import classified
from fractionate.tasks import Detection
from fractionate.tasks.proposals import balanced
from fractionate.teachers import LiveTeacher
from fractionate.train.build import Training, parameters, prepare
from fractionate.train.step import Stepper
from tests.detection import nets, trees

ALL = 10_000  # anchors and regions: every one is in the sample


def batch(count: int = 3, objects: bool = True) -> Batch:
    """Images of 48 x 64 in squares of 64, with one to three objects each, or none."""
    known, images = [], torch.zeros(count, 3, 64, 64)
    for i in range(count):
        pixels, found = trees.picture(i)
        images[i, :, :48] = torch.from_numpy(pixels).permute(2, 0, 1) / 64 - 2
        boxes = torch.tensor([[float(n) for n in (x, y, x + w, y + h)] for _, (x, y, w, h) in found])[
            : len(found) * objects
        ].view(-1, 4)
        labels = torch.tensor([kind + 1 for kind, _ in found])[: len(found) * objects]
        known.append(Known(boxes, labels, torch.ones(len(labels)), torch.zeros(len(labels)).bool(), (48, 64), draw=i))
    return Batch(images, packed(known), torch.arange(count))


def net(seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return nets.detector(3, **options)


def test_the_loss_is_that_of_torchvision_where_everything_is_sampled() -> None:
    student, one = net(regions=ALL).train(), batch(1)
    student.rpn.fg_bg_sampler.batch_size_per_image = ALL
    student.roi_heads.fg_bg_sampler.positive_fraction = student.rpn.fg_bg_sampler.positive_fraction = 1.0
    found = Detection().rows(student, None, one).extra
    task = fr.methods.kd(ce_weight=1.0, kd_weight=0.0).loss(Detection().rows(student, None, one))
    student.transform = _Whole()
    expected = student(one.images, [{"boxes": one.target[0, 1:, 1:5], "labels": one.target[0, 1:, 0].long()}])
    torch.testing.assert_close(task, expected["loss_classifier"])
    for name, theirs in (("box", "box_reg"), ("objectness", "objectness"), ("proposal_box", "rpn_box_reg")):
        torch.testing.assert_close(found[name].mean(), expected[f"loss_{theirs}"])


class _Whole(nn.Module):
    """In place of torchvision's preparation: the image lies in the upper part of its square."""

    def forward(self, images: Any, targets: Any) -> Any:
        from torchvision.models.detection.image_list import ImageList

        return ImageList(images, [(48, 64)] * len(images)), targets

    def postprocess(self, found: Any, *_: Any) -> Any:
        return found


def test_distillation_is_the_mean_over_the_student_s_regions_through_both_heads() -> None:
    student, teacher, some = net(0).train(), net(1, channels=16), batch()
    lg = Detection().rows(student, LiveTeacher(teacher), some)
    assert lg.classes == 4
    assert lg.rows == sum((lg.target >= 0).tolist())
    rows = []
    for s, t in zip(lg.student.detach(), lg.teacher, strict=True):
        p, q = t.softmax(0), s.softmax(0)
        rows.append(sum(float(p[c] * (p[c] / q[c]).log()) for c in range(4)))
    kd = fr.methods.kd(temperature=1, kd_weight=1, ce_weight=0)
    assert float(kd.loss(lg).detach()) == pytest.approx(sum(rows) / len(rows), rel=1e-4)


class Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.mark.parametrize("before", [None, [0.5, 0.25]])
def test_a_region_is_read_where_it_lies_whatever_was_measured_before(before: Any) -> None:
    """The network's features are its places across, in pixels; the images fill the upper part of their square."""
    detector: Any = net(0)
    detector.roi_heads.box_head, detector.roi_heads.box_predictor = nn.Flatten(), Twice()
    detector.roi_heads.box_roi_pool.scales = before
    places = {level: torch.arange(64.0 / s) * s for level, s in (("0", 4), ("1", 8))}
    features = {level: x.expand(1, 1, len(x), len(x)) for level, x in places.items()}
    boxes = [torch.tensor([[20.0, 4.0, 44.0, 28.0], [8.0, 8.0, 16.0, 16.0]])]
    read, _ = classified(detector, features, boxes, torch.zeros(1, 3, 64, 64))
    torch.testing.assert_close(read.mean(1), torch.tensor([32.0, 12.0]), rtol=0, atol=1.0)


def test_only_regions_with_objects_are_distilled_if_that_is_asked_for_and_the_detector_learns_from_all() -> None:
    student, teacher, some = net(0).train(), LiveTeacher(net(1)), batch()
    part, whole = Detection(Settings(keep="foreground")), Detection()
    lg, every = part.rows(student, teacher, some), whole.rows(student, teacher, some)
    kd = fr.methods.kd(temperature=1, kd_weight=1, ce_weight=1)
    found = {k: float(x.mean().detach()) for k, x in part.completed(kd).components(lg).items()}
    real = lg.target > 0
    assert 0 < int(real.sum()) < lg.rows
    assert found["kd"] == pytest.approx(float(kd.components(lg[real])["kd"].mean().detach()), rel=1e-5)
    others = {k: float(x.mean().detach()) for k, x in whole.completed(kd).components(every).items()}
    assert {k: v for k, v in found.items() if k != "kd"} == pytest.approx(
        {k: v for k, v in others.items() if k != "kd"}
    )


@pytest.mark.parametrize("method", ["kd", "dist", "dist_gdkd(k=2, warmup=1)+deepkd", "atkd"])
def test_what_is_distilled_of_objects_alone_is_what_they_give_without_the_others(method: str) -> None:
    task = Detection(Settings(keep="foreground"))
    lg = task.rows(net(0).train(), LiveTeacher(net(1)), batch())
    there, logits = lg.target > 0, lg.student.detach().requires_grad_()
    lg, plain = replace(lg, student=logits), MethodSpec.parse(method).build()
    found, alone = task.completed(plain).components(lg), plain.components(lg[there])
    parts = [name for name in plain.parts if name != "task"]
    for name in parts:
        torch.testing.assert_close(found[name].mean(), alone[name].mean(), rtol=1e-5, atol=1e-6)
    (grad,) = torch.autograd.grad(sum((found[name].mean() for name in parts), torch.zeros(())), logits)
    assert not bool(grad[~there].any())
    assert bool(grad[there].any())


@pytest.mark.parametrize("keep", ["all", "foreground"])
@pytest.mark.parametrize("name", ["dkd(temperature=1, warmup=1)+deepkd", "dist", "dist_gdkd(k=2)+deepkd", "atkd"])
def test_images_without_objects_give_a_finite_loss_with_a_graph(keep: Any, name: str) -> None:
    student, task, method = net(0).train(), Detection(Settings(keep=keep)), MethodSpec.parse(name).build()
    lg = task.rows(student, LiveTeacher(net(1)), batch(objects=False))
    assert not bool(lg.target.any())
    streams = task.completed(method).stream_losses(lg, merge=False)
    assert all(bool(x.isfinite()) and x.requires_grad for x in streams.values())
    if keep == "foreground":
        found = task.completed(method).components(lg)
        assert not any(bool(found[part].any()) for part in method.parts if part != "task")


def test_no_proposals_and_no_objects_give_nothing_with_a_graph() -> None:
    student, task = net(0).train(), Detection(Settings(features=1.0))
    student.rpn.score_thresh = 2.0  # no proposal is good enough
    lg = task.rows(student, LiveTeacher(net(1)), batch(objects=False))
    assert lg.rows == 0
    loss = task.completed(fr.methods.dkd()).loss(lg)
    assert float(loss.detach()) == 0
    grads = torch.autograd.grad(loss, list(student.parameters()), allow_unused=True)
    assert all(g is None or not bool(g.any()) for g in grads)


def training(method: str, **options: Any) -> Training:
    source = _Given(batch(5), 3)
    task = options.pop("task", Settings())
    run = Run(
        student=Network("given"), teacher=Network("given"), method=MethodSpec.parse(method), task=task,
        optimizer=SGD(lr=0.05), epochs=1, threads=1, device="cpu", **options,
    )  # fmt: skip
    return prepare(run, student=net(0).double(), teacher=net(1).double(), train=source, test=source)


class _Given:
    def __init__(self, whole: Batch, classes: int) -> None:
        self.whole, self.num_classes, self.classes = whole, classes, ("red", "green", "blue")
        self.count = self.batch_size = len(whole)
        self.variants = None

    def __len__(self) -> int:
        return 1

    def batches(self, epoch: int, start: int = 0) -> Any:
        yield Batch(self.whole.images.double(), self.whole.target.double(), self.whole.index)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_parts_of_a_batch_take_the_step_of_the_whole(accumulate: int) -> None:
    found = []
    for parts in (1, accumulate):
        t = training("dkd(temperature=1, warmup=1)+deepkd", accumulate=parts, task=Settings(features=0.5))
        step = Stepper(t, parameters(t.student, t.method))(next(t.train.batches(1)), fr.Progress.end())
        found.append((step.loss, step.components, [p.detach() for p in t.student.parameters()]))
    (loss, components, weights), (other, others, moved) = found
    torch.testing.assert_close(other, loss, rtol=1e-9, atol=0)
    assert components.keys() == others.keys() >= {"task", "box", "objectness", "proposal_box", "target", "features"}
    for name, value in components.items():
        torch.testing.assert_close(others[name], value, rtol=1e-9, atol=1e-12)
    for a, b in zip(weights, moved, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-8, atol=1e-12)


def test_the_detector_s_losses_are_in_the_task_s_stream_and_features_in_one_of_their_own() -> None:
    method = Detection(Settings(features=2.0)).completed(fr.methods.deepkd(fr.methods.gdkd3(k=2)))
    streams = {s.name: s.components for s in method.streams}
    assert streams["task"] == ("task", "box", "objectness", "proposal_box")
    assert streams["features"] == ("features",)
    assert set(streams) == {"task", "target", "nontarget", "features"}


def test_features_are_compared_level_by_level_and_need_one_shape() -> None:
    student, some, task = net(0).train(), batch(2), Detection(Settings(features=1.0))
    lg = task.rows(student, LiveTeacher(net(1)), some)
    with torch.no_grad():
        maps = [x.backbone(some.images) for x in (student, net(1))]
    gaps = [float(((maps[0][k] - maps[1][k]) ** 2)[0].mean()) for k in maps[0]]
    assert float(lg.extra["features"][0].detach()) == pytest.approx(sum(gaps) / len(gaps), rel=1e-5)
    with pytest.raises(ValueError, match="same shapes"):
        task.rows(student, LiveTeacher(net(1, channels=16)), some)


@pytest.mark.parametrize(("method", "said"), [("gram_direction", "every other"), ("kd+sdd", "regions of images")])
def test_methods_without_room_for_regions_are_refused_in_words(method: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Detection().completed(MethodSpec.parse(method).build())


def test_samples_are_balanced_and_follow_from_the_number_alone() -> None:
    labels = torch.tensor([0] * 50 + [2] * 9 + [-1] * 5)
    have, rest = balanced(labels, 20, 0.25, torch.Generator().manual_seed(3))
    again = balanced(labels, 20, 0.25, torch.Generator().manual_seed(3))
    assert (len(have), len(rest)) == (5, 15)
    assert bool((labels[have] == 2).all() & (labels[rest] == 0).all())
    assert torch.equal(have, again[0])
    assert torch.equal(rest, again[1])


def test_other_networks_and_other_batches_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="no detector of two stages"):
        Detection().rows(nets.one_stage(3), None, batch())
    with pytest.raises(ValueError, match=r"packed, got \[3\]"):
        Detection().rows(net(), None, Batch(torch.zeros(3, 3, 64, 64), torch.zeros(3).long(), torch.arange(3)))
    wider = nets.detector(5)
    with pytest.raises(ValueError, match="6 classes and the student's 4"):
        Detection().rows(net(), LiveTeacher(wider), batch())


def test_the_task_survives_yaml(tmp_path: Path) -> None:
    run = Run(
        student=Network("fasterrcnn-resnet18"), teacher=Network("fasterrcnn-resnet50"), method=MethodSpec("kd"),
        data=Data("coco", size=128, batch_size=2), task=Settings(keep="foreground", features=0.5),
    )  # fmt: skip
    assert from_yaml(to_yaml(run)) == run
    source = BoxImages(annotated(str(trees.coco(tmp_path / "coco")), "train"), 2, 64).read()
    assert source.num_classes == 3
