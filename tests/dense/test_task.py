"""Pixels as rows: those without a label are in no loss and no metric; parts of a step take the step of the whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import fractionate as fr
from fractionate.config import MethodSpec, Network, Run, from_yaml, to_yaml
from fractionate.config import Segmentation as Settings
from fractionate.data import Batch, Normalization
from fractionate.data.dense import DenseImages, Kept, Pairs
from fractionate.data.dense.pairs import identity
from fractionate.models import create
from fractionate.models.dense import aligned_corners, maps_of
from fractionate.tasks import DenseEvaluation, Diverged, Segmentation
from fractionate.tasks.counts import Counts, slid
from fractionate.teachers import LiveTeacher
from fractionate.train.build import Training, parameters, prepare
from fractionate.train.checks import check_training
from fractionate.train.step import Stepper
from tests.dense import nets

C = 4


def images(count: int = 6, void: bool = True) -> Kept:
    made = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 8, 12), generator=made, dtype=torch.uint8)
    masks = torch.randint(0, C, (count, 8, 12), generator=made, dtype=torch.uint8)
    if void:
        masks[0], masks[1, :4] = 255, 255
    pairs = Pairs((), ("road", "sky", "tree", "car"), identity(C))
    return Kept(pairs, tuple(pixels), tuple(masks))


def training(method: str = "dkd", student: nn.Module | None = None, **options: Any) -> Training:
    torch.manual_seed(0)
    task = options.pop("task", Settings())
    run = Run(
        student=Network("given"),
        teacher=Network("given"),
        method=MethodSpec.parse(method),
        task=task,
        epochs=1,
        threads=1,
        device="cpu",
        **options,
    )
    source = DenseImages(images(), ("road", "sky", "tree", "car"), 6, normalization=Normalization.none(3))
    nets_ = student or nets.plain(C), nets.plain(C)
    ready = prepare(
        run, student=nets_[0].double(), teacher=nets_[1].double(), train=_Double(source), test=_Double(source)
    )
    return ready


class _Double:
    """The same batches in float64."""

    def __init__(self, inner: DenseImages) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __len__(self) -> int:
        return len(self.inner)

    def batches(self, epoch: int, start: int = 0) -> Any:
        return (replace(b, images=b.images.double()) for b in self.inner.batches(epoch, start))


def batch() -> Batch:
    source = DenseImages(images(), ("road", "sky", "tree", "car"), 6, normalization=Normalization.none(3))
    found = next(source.batches(1))
    return replace(found, images=found.images.double())


@pytest.mark.parametrize("logits", ["labels", "head"])
def test_pixels_without_a_label_are_in_no_loss(logits: str) -> None:
    t, b = training(task=Settings(logits=logits)), batch()
    blind = t.student
    other = replace(b, images=b.images.clone())
    other.images[0] = torch.rand(3, 8, 12, dtype=torch.float64)  # an image without any label
    losses = [t.method.loss(t.task.rows(blind, t.teacher, x)).detach() for x in (b, other)]
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-14)
    lg = t.task.rows(blind, t.teacher, b)
    assert lg.rows < b.target.numel()
    assert not bool((lg.target == 255).any())


def test_a_batch_without_any_label_gives_a_finite_loss_with_a_graph_and_moves_nothing_by_it() -> None:
    t = training("dkd+deepkd")
    nothing = replace(batch(), target=torch.full_like(batch().target, 255))
    step = Stepper(t, parameters(t.student, t.method))(nothing, fr.Progress())
    assert float(step.loss) == 0
    assert all(g is not None and not g.any() for row in step.grads.values() for g in row)


@pytest.mark.parametrize("method", ["kd", "dkd+deepkd", "gdkd(k=2)", "dkd+deepkd(normalize_gain=True)"])
@pytest.mark.parametrize("accumulate", [2, 3, 6])
def test_parts_of_a_batch_take_the_step_of_the_whole(method: str, accumulate: int) -> None:
    found = []
    for parts in (1, accumulate):
        t = training(method, accumulate=parts)
        step = Stepper(t, parameters(t.student, t.method))(batch(), fr.Progress())
        found.append((step, [p.detach() for p in t.student.parameters()]))
    (whole, moved), (some, also) = found
    assert float(some.loss) == pytest.approx(float(whole.loss), rel=1e-12)
    for name, row in whole.grads.items():
        for a, b in zip(row, some.grads[name], strict=True):
            torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-13)
    for a, b in zip(moved, also, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-14)


def test_the_loss_is_the_mean_over_labelled_pixels_word_by_word() -> None:
    t, b = training("kd(temperature=1, kd_weight=1, ce_weight=1)"), batch()
    up = nn.functional.interpolate
    with torch.no_grad():
        s, z = (up(net(b.images), (8, 12), mode="bilinear", align_corners=True) for net in (t.student, t.teacher.net))
    total, count = 0.0, 0
    for i in range(6):
        for y in range(8):
            for x in range(12):
                if (label := int(b.target[i, y, x])) != 255:
                    q, p = s[i, :, y, x].log_softmax(0), z[i, :, y, x].log_softmax(0)
                    total += float(-q[label] + (p.exp() * (p - q)).sum())
                    count += 1
    assert float(t.method.loss(t.task.rows(t.student, t.teacher, b)).detach()) == pytest.approx(total / count, rel=1e-6)


@pytest.mark.parametrize("method", ["kd", "dkd+deepkd"])
def test_the_auxiliary_head_is_a_component_of_the_task_s_stream(method: str) -> None:
    t = training(method, nets.with_auxiliary(C), task=Settings(auxiliary=0.4))
    assert t.method.parts["auxiliary"].role == "task"
    (home,) = [s for s in t.method.streams if "auxiliary" in s.components]
    assert "task" in home.components
    lg = t.task.rows(t.student, t.teacher, batch())
    aux = t.student(batch().images)["aux"].permute(0, 2, 3, 1)[batch().target != 255]
    expected = nn.functional.cross_entropy(aux, lg.target)
    assert float(t.method.components(lg)["auxiliary"].mean().detach()) == pytest.approx(
        float(expected.detach()), rel=1e-6
    )
    with pytest.raises(ValueError, match=r"returns no map 'aux'.*task\.auxiliary=0"):
        check_training(training(method, task=Settings(auxiliary=0.4)), needs=("networks",))


def test_logits_of_the_head_are_those_before_they_are_enlarged() -> None:
    net, task = nets.with_auxiliary(C), Segmentation(Settings(logits="head"))
    lg = task.rows(net, LiveTeacher(net, task.ask), replace(batch(), images=batch().images.float()))
    maps = net.classifier(net.backbone(batch().images.float()).relu()).permute(0, 2, 3, 1).reshape(-1, C)
    picked = fr.rows.pixels(maps.reshape(6, 4, 6, C).permute(0, 3, 1, 2), torch.zeros(6, C, 4, 6), batch().target)
    assert torch.equal(lg.student, picked.student)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("gram_direction", "compares every pixel with every other"),
        ("dkd+with_contrast", "compares every pixel with every other"),
        ("mlkd", "compares every pixel with every other"),
        ("crld", "needs a second view, head or regions"),
        ("kd+sdd", "needs a second view, head or regions"),
    ],
)
def test_methods_without_room_for_pixels_are_refused_in_words(method: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"{said}.*or dist"):
        training(method)


def test_dist_compares_columns_of_pixels_and_refuses_parts_of_a_batch() -> None:
    t = training("dist(scale=False, temperature=1)")
    assert float(t.method.loss(t.task.rows(t.student, t.teacher, batch())).detach()) > 0
    with pytest.raises(ValueError, match="accumulate"):
        check_training(training("dist", accumulate=2), needs=("config",))


def test_void_counts_nowhere_whichever_label_is_ignored_besides() -> None:
    t, b = training(task=Settings(ignore=0)), batch()
    lg = t.task.rows(t.student, t.teacher, b)
    assert sorted(lg.target.unique().tolist()) == [1, 2, 3]
    assert lg.rows == int(((b.target != 0) & (b.target != 255)).sum())
    counts = t.task.metrics()
    counts.add(t.student(b.images), b)
    assert counts.result().absent == ("road",)
    assert sum(counts.result().calibration.count) == lg.rows


def test_a_network_without_a_map_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[images, classes, height, width\], are not found"):
        check_training(training(student=nets.blind(C)), needs=("networks",))


# -- metrics ---------------------------------------------------------------------------------


def test_the_mean_iou_is_that_of_sets_of_pixels() -> None:
    b, net = batch(), nets.plain(C).double()
    counts = Counts(classes=("road", "sky", "tree", "car", "bus"))
    logits = torch.cat([net(b.images), torch.full((6, 1, 4, 6), -9.0)], 1)
    counts.add(logits, b)
    top = nn.functional.interpolate(logits, (8, 12), mode="bilinear", align_corners=True).argmax(1)
    valid = b.target != 255
    ious = {}
    for c, name in enumerate(("road", "sky", "tree", "car")):
        said = {tuple(p) for p in (valid & (top == c)).nonzero().tolist()}
        true = {tuple(p) for p in (valid & (b.target == c)).nonzero().tolist()}
        ious[name] = 100 * len(said & true) / len(said | true)
    found = counts.result()
    assert found.ious == pytest.approx(ious, rel=1e-14)
    assert found.absent == ("bus",)
    assert found.miou == pytest.approx(sum(ious.values()) / 4, rel=1e-14)
    assert found.miou_published == pytest.approx(sum(ious.values()) / 5, rel=1e-14)
    assert found.pixel_accuracy == pytest.approx(100 * float((top == b.target)[valid].double().mean()), rel=1e-14)
    assert sum(found.calibration.count) == int(valid.sum())


def test_metrics_do_not_depend_on_the_batches_and_agree_with_oneself() -> None:
    b, net = batch(), nets.plain(C).double()

    def measured(size: int, beside: Counts | None = None) -> tuple[Counts, DenseEvaluation]:
        counts = Segmentation().metrics(beside)
        for at in range(0, 6, size):
            piece = replace(b.at(slice(at, at + size)), whole=None, share=1.0)
            counts.add(net(piece.images), piece)
        return counts, counts.result()

    first, whole = measured(6)
    assert measured(2)[1] == replace(whole, agreement=None)
    assert measured(3, first)[1].agreement == 100.0


def test_logits_that_are_not_finite_and_images_without_labels_are_said() -> None:
    b = batch()
    counts = Counts()
    counts.add(torch.full((6, C, 8, 12), float("nan")), b)
    with pytest.raises(Diverged, match="not finite"):
        counts.result()
    counts = Counts()
    counts.add(torch.zeros(6, C, 8, 12), replace(b, target=torch.full_like(b.target, 255)))
    with pytest.raises(ValueError, match="nothing to measure"):
        counts.result()


@pytest.mark.parametrize("window", [(8, 12), (4, 4), (5, 7), (16, 16)])
def test_windows_cover_every_pixel_and_a_network_of_single_pixels_sees_no_difference(window: tuple[int, int]) -> None:
    net, x = nn.Conv2d(3, C, 1), torch.randn(2, 3, 8, 12)
    torch.testing.assert_close(slid(net, x, window, 2 / 3), net(x).log_softmax(1), rtol=1e-4, atol=1e-5)


def test_windows_of_a_confident_network_are_finite_and_name_the_same_classes() -> None:
    net = nn.Conv2d(3, C, 1)
    nn.init.zeros_(net.weight)
    with torch.no_grad():
        assert net.bias is not None
        net.bias.copy_(torch.linspace(90, -90, C))
    found = slid(net, torch.randn(1, 3, 8, 12), (5, 7), 2 / 3)
    assert bool(found.isfinite().all())
    assert bool((found.argmax(1) == 0).all())


def test_the_task_survives_yaml_and_configs_of_before_are_read() -> None:
    run = Run(student=Network("resnet8"), method=MethodSpec("ce"), task=Settings(auxiliary=0.4, logits="head"))
    assert from_yaml(to_yaml(run)) == run
    before = "\n".join(line for line in to_yaml(replace(run, task=Run(run.student, run.method).task)).split("\n"))
    assert from_yaml(before.replace("task:\n  name: classification\n", "")).task.name == "classification"
    with pytest.raises(ValueError, match=r"task\.auxilary.*did you mean 'task\.auxiliary'"):
        from_yaml("student: resnet8\nmethod: ce\ntask: {name: segmentation, auxilary: 1}")
    with pytest.raises(ValueError, match="needs a class for every pixel"):
        prepare(Run(student=Network("resnet8"), method=MethodSpec("ce"), task=Settings()))


@pytest.mark.parametrize(
    "names", [("lraspp_mobilenet_v3_large", "fpn-resnet18"), ("fpn-resnet18", "lraspp_mobilenet_v3_large")]
)
@pytest.mark.parametrize("chunked", [False, True])
def test_logits_of_heads_are_compared_where_each_network_puts_them(names: tuple[str, str], chunked: bool) -> None:
    """Torchvision's enlarge without aligned corners, segmentation-models-pytorch's with them."""
    pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    nets = [create(f"{'torchvision' if 'lraspp' in n else 'smp'}:{n}", num_classes=5).eval() for n in names]
    assert [aligned_corners(net) for net in nets] == ["fpn" in n for n in names]
    y = torch.arange(64).reshape(1, 1, 64).expand(2, 64, 64) % 5
    batch, task = Batch(torch.randn(2, 3, 64, 64), y, torch.arange(2)), Segmentation(Settings(logits="head"))
    lg = (task.maps if chunked else task.rows)(nets[0], LiveTeacher(nets[1], task.ask), batch)
    lg = lg.rows if chunked else lg
    heads = [maps_of(net, batch.images, head=True) for net in nets]
    ways = ("fpn" in names[0], "fpn" in names[1])
    expected = fr.rows.pixels(*heads, y, corners=ways)
    for name in ("student", "teacher", "target"):
        assert torch.equal(getattr(lg, name), getattr(expected, name))
    off = fr.rows.pixels(*heads, y)
    assert not torch.equal(lg.student, off.student)
    for net, head, way in zip(nets, heads, ways, strict=True):  # and that is what the network does itself
        enlarged = torch.nn.functional.interpolate(head, (64, 64), mode="bilinear", align_corners=way)
        torch.testing.assert_close(maps_of(net, batch.images), enlarged)
