"""Metrics: the values that others compute, and the bounds that hold for everybody."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fractionate.data import Normalization, SmallImages
from fractionate.tasks import Classification, measure_with
from fractionate.tasks.classification import Scores, calibrate, evaluate, measure, predict, throughput


def rows(n: int = 500, c: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    return 2 * torch.randn(n, c), torch.randint(0, c, (n,))


def test_accuracy_loss_and_calibration_error_are_those_of_torchmetrics() -> None:
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    logits, target = rows()
    found = measure(logits, target)
    for k, value in ((1, found.top1), (5, found.top5)):
        theirs = metrics.multiclass_accuracy(logits, target, num_classes=10, average="micro", top_k=k)
        assert value == pytest.approx(100 * float(theirs), abs=1e-4)
    theirs = metrics.multiclass_calibration_error(logits, target, num_classes=10, n_bins=15, norm="l1")
    assert found.calibration.ece == pytest.approx(float(theirs), abs=1e-6)
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(logits, target)))


def test_a_network_that_is_sure_and_right_is_calibrated() -> None:
    target = torch.arange(8)
    found = measure(1e4 * nn.functional.one_hot(target, 8).float(), target)
    assert (found.top1, found.top5, found.loss, found.calibration.ece) == (100.0, 100.0, 0.0, 0.0)
    assert found.calibration.count == (0,) * 14 + (8,)


def test_a_network_that_is_sure_and_wrong_has_a_calibration_error_of_one() -> None:
    target = torch.arange(8)
    wrong = 1e4 * nn.functional.one_hot((target + 1) % 8, 8).float()
    assert measure(wrong, target).calibration.ece == pytest.approx(1.0)


def test_bins_hold_every_image_once_and_average_to_accuracy_and_confidence() -> None:
    logits, target = rows()
    bins = calibrate(logits, target)
    assert sum(bins.count) == 500
    hits = sum(n * a for n, a in zip(bins.count, bins.accuracy, strict=True) if a is not None)
    assert 100 * hits / 500 == pytest.approx(measure(logits, target).top1)
    sure = sum(n * c for n, c in zip(bins.count, bins.confidence, strict=True) if c is not None)
    assert sure / 500 == pytest.approx(float(logits.softmax(1).amax(1).mean()))


def test_an_empty_bin_has_no_mean() -> None:
    bins = calibrate(torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([0]))
    assert bins.accuracy[:14] == (None,) * 14


def test_agreement_counts_equal_answers_right_or_wrong() -> None:
    logits, target = rows(4, 3)
    top = logits.argmax(1)
    assert measure(logits, target, top).agreement == 100.0
    assert measure(logits, target, (top + 1) % 3).agreement == 0.0
    assert measure(logits, target).agreement is None


def test_top5_of_few_classes_is_always_right() -> None:
    assert measure(*rows(20, 4)).top5 == 100.0


def images(batch_size: int) -> SmallImages:
    pixels = torch.randint(0, 256, (23, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    normal = Normalization.of(pixels)
    return SmallImages(pixels, torch.arange(23) % 5, 5, normal, batch_size=batch_size, shuffle=False)


def test_the_batch_size_does_not_matter() -> None:
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 5))
    whole, pieces = predict(net, images(23)), predict(net, images(4))
    assert torch.allclose(whole[0], pieces[0], atol=1e-6)
    assert torch.equal(whole[1], pieces[1])


@pytest.mark.parametrize("batch_size", [23, 4])
def test_metrics_that_are_given_batches_are_those_of_all_logits(batch_size: int) -> None:
    torch.manual_seed(0)
    net, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(16, 5)) for _ in range(2))
    task, source = Classification(), images(batch_size)
    beside = measure_with(task.metrics(), teacher, source)
    found = measure_with(task.metrics(beside), net, source).result()
    assert found == measure(*predict(net, source), predict(teacher, source)[0].argmax(1))
    assert found.score == found.columns()[task.headline]
    assert beside.result().agreement is None


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training: bool) -> None:
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 5)).train(training)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    evaluate(net, images(8))
    assert net.training is training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


class Reads(TorchDispatchMode):
    """Counts how often the host asks for a value, which on a GPU waits for everything before it."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_the_host_never_waits_for_a_batch() -> None:
    net, source = nn.Sequential(nn.Flatten(), nn.Linear(16, 5)), images(2)
    with Reads() as reads:
        predict(net, source)
    assert reads.count == 0
    with Reads() as reads:
        measure_with(Scores(), net, source)
    assert reads.count == 0
    with Reads() as reads:
        float(net(torch.zeros(1, 1, 4, 4)).detach().sum())
    assert reads.count == 1


@pytest.mark.parametrize("training", [True, False])
def test_throughput_counts_images_and_leaves_the_network_as_it_was(training: bool) -> None:
    calls = []
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 5)).train(training)
    net.register_forward_hook(lambda module, inputs, output: calls.append(module.training))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert throughput(net, torch.zeros(32, 1, 4, 4), seconds=0.01) > 32
    assert len(calls) > 2
    assert not any(calls)
    assert net.training is training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_logits_of_other_images_are_refused_where_they_are_measured() -> None:
    images, rule = torch.zeros(12, 1, 8, 8, dtype=torch.uint8), Normalization((0.5,), (0.3,))
    data = SmallImages(images, torch.arange(12) % 10, 10, rule, batch_size=6)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10), Turned())
    with pytest.raises(ValueError, match="logits of 10 images when asked about"):
        evaluate(net, data)


class Turned(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.T
