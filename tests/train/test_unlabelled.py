"""Training on images without labels: the step is that of its slow twin, however it is divided; the rest is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fractionate as fr
from fractionate.config.data import Data
from fractionate.config.run import Monitors, Network
from fractionate.data import Batch, Joined, Normalization, SmallImages, part
from fractionate.tasks import Classification
from fractionate.teachers.live import LiveTeacher
from fractionate.train.build import Training, parameters, prepare
from fractionate.train.checks import check_training, check_unlabelled
from fractionate.train.loop import fit
from fractionate.train.step import Stepper
from tests.distributed.problem import Double
from tests.train.runs import teacher_file, tiny

KNOWN, UNKNOWN, CLASSES = 4, 7, 10


def linear(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)).double()


def both(**options: object) -> Joined:
    pixels = torch.randint(0, 256, (30, 1, 8, 8), generator=torch.Generator().manual_seed(2)).byte()
    rule = Normalization((0.5,), (0.3,))
    known = SmallImages(pixels[:8], torch.arange(8), CLASSES, rule, batch_size=KNOWN, **options)
    hidden = torch.full((22,), -1)
    return Joined(known, SmallImages(pixels[8:], hidden, CLASSES, rule, batch_size=UNKNOWN, **options))


def training_of(method: str, accumulate: int = 1, **options: object) -> Training:
    images = both(**options)
    train, test = Double(images), Double(both().labelled)
    run = tiny(method, accumulate=accumulate)
    return prepare(run, student=linear(0), teacher=linear(1), train=train, test=test, task=Classification())


def batch_of(**options: object) -> Batch:
    return next(iter(Double(both(**options)).batches(1)))


def twin_kd(student: nn.Module, teacher: nn.Module, batch: Batch, ce_weight: float, temperature: float) -> Tensor:
    """ce_weight times the mean cross-entropy of the images with a label, one after the other, plus the mean of KD."""
    labelled, distilled = [], []
    for x, y in zip(batch.images, batch.target, strict=True):
        z, t = student(x[None])[0], teacher(x[None])[0].detach()
        p, q = ((v / temperature).log_softmax(0) for v in (t, z))
        distilled.append(temperature**2 * (p.exp() * (p - q)).sum())
        if y.ndim == 0 and y >= 0:
            labelled.append(-z.log_softmax(0)[y])
        elif y.ndim == 1 and y.sum() > 0:
            labelled.append(-(y * z.log_softmax(0)).sum())
    assert len(labelled) == KNOWN
    return ce_weight * sum(labelled) / len(labelled) + sum(distilled) / len(distilled)


@pytest.mark.parametrize("options", [{}, {"mixup": 0.4}], ids=["hard", "soft"])
@pytest.mark.parametrize("accumulate", [1, 2, 3, 11])
def test_the_step_is_that_of_the_twin_however_many_parts_it_is_taken_in(
    accumulate: int, options: dict[str, float]
) -> None:
    training, batch = (
        training_of("kd(ce_weight=0.3, kd_weight=1, temperature=2)", accumulate, **options),
        batch_of(**options),
    )
    expected = twin_kd(training.student, linear(1), batch, 0.3, 2.0)
    trained = parameters(training.student, training.method)
    gradient = torch.autograd.grad(expected, trained)
    step = Stepper(training, trained)(batch, fr.Progress())
    assert float(step.loss) == pytest.approx(float(expected.detach()), rel=1e-9)
    (found,) = step.grads.values()
    for a, b in zip(found, gradient, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("processes", [2, 3, 11])
@pytest.mark.parametrize("method", ["gdkd(warmup=1)+deepkd", "kd+dot"])
def test_parts_of_several_processes_add_up_to_the_gradients_of_one(method: str, processes: int) -> None:
    training, batch = training_of(method), batch_of()
    trained = parameters(training.student, training.method)
    teacher = LiveTeacher(linear(1))

    def gradients(piece: Batch) -> dict[str, list[Tensor]]:
        losses = training.method.stream_losses(
            training.task.rows(training.student, teacher, piece), fr.Progress(), False
        )
        return {
            name: [piece.share * g for g in torch.autograd.grad(loss, trained, retain_graph=True)]
            for name, loss in losses.items()
        }

    whole, parts = gradients(batch), [gradients(part(batch, i, processes)) for i in range(processes)]
    for name, grads in whole.items():
        for k, g in enumerate(grads):
            torch.testing.assert_close(sum(p[name][k] for p in parts), g, rtol=1e-9, atol=1e-12)


def test_rows_with_a_label_weight_are_the_weighted_twin_and_survive_slices() -> None:
    z, t = torch.randn(6, 5).double(), torch.randn(6, 5).double()
    y, w = torch.tensor([1, 0, 0, 4, 0, 2]), torch.tensor([2.0, 0, 0, 2.0, 0, 2.0]).double()
    lg, method = fr.Logits(z, t, y, label_weight=w), fr.methods.kd(ce_weight=1.0)
    labelled = [0, 3, 5]
    assert torch.allclose(method.components(lg)["task"].mean(), F.cross_entropy(z[labelled], y[labelled]))
    assert torch.equal(method.components(lg)["kd"], method.components(fr.Logits(z, t, y))["kd"])
    assert torch.equal(lg[2:].label_weight, w[2:])
    assert float(method.loss(lg)) == pytest.approx(float(sum(method.stream_losses(lg, merge=False).values())))


@pytest.mark.parametrize("name", ["dkd", "nkd", "topkd", "adkd"])
def test_a_method_that_reads_labels_refuses_rows_of_which_some_have_none(name: str) -> None:
    method = getattr(fr.methods, name)()
    z, weight = torch.randn(3, 5), torch.tensor([1.5, 1.5, 0])
    lg = fr.Logits(z, z.flip(1), torch.tensor([0, 1, 0]), label_weight=weight)
    with pytest.raises(ValueError, match=r"reads the label of a row, and some rows have none"):
        method.loss(lg)
    with pytest.raises(ValueError, match=r"images have no label, and .* reads that of every image"):
        check_unlabelled(replace(training_of(name), train=both()))


# -- runs ----------------------------------------------------------------------------------------


def run_without_labels(folder: Path, method: str, **changes: object) -> Training:
    run = tiny(method, data=Data(labels_per_class=2, batch_size=5, shift=1), epochs=2, **changes)
    run = replace(run, teacher=Network("convnet_8_16", checkpoint=teacher_file(folder)))
    made = prepare(run)
    pixels = made.train.images[:, 1:9, 1:9].permute(0, 3, 1, 2).clone()
    hidden = replace(made.train, images=pixels, target=torch.full((20,), -1))
    return prepare(run, train=hidden, test=made.test)


@pytest.mark.parametrize("method", ["kd", "gdkd", "dist", "dkd_top1"])
def test_label_free_methods_do_without_labels_what_they_do_with_labels_that_do_not_count(
    method: str, tmp_path: Path
) -> None:
    spec = f"{method}(ce_weight=0)"
    training = run_without_labels(tmp_path, spec)
    check_training(training)
    records = list(fit(training))
    assert [set(r.components) for r in records] == [set(training.method.parts) - {"task"}] * 2
    run = replace(training.run, epochs=2)
    labelled = prepare(run)
    other = list(fit(labelled))
    assert [r.train_loss for r in records] == pytest.approx([r.train_loss for r in other], rel=1e-5)
    for a, b in zip(training.student.parameters(), labelled.student.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["kd(ce_weight=0)+dot", "gdkd(ce_weight=0)+deepkd"])
def test_streams_and_monitors_work_without_labels(method: str, tmp_path: Path) -> None:
    training = run_without_labels(tmp_path, method, monitors=Monitors(gsnr_window=2, cosines=True, norms=True))
    check_training(training)
    (*_, last) = fit(training)
    assert last.monitors
    assert last.test.top1 >= 0


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("kd", r"none of the training images has a label, but the cross-entropy of .* weight 0\.1; give method\.args"),
        ("ce", r"'ce' learns from labels; name a teacher"),
        ("dkd(ce_weight=0)", r"reads that of every image"),
    ],
)
def test_what_needs_labels_is_refused_in_one_line(method: str, said: str, tmp_path: Path) -> None:
    training = run_without_labels(tmp_path, method)
    with pytest.raises(ValueError, match=said) as error:
        check_training(training, needs=("config", "data", "networks"))
    assert "\n" not in str(error.value)


def test_a_run_on_few_labels_and_many_images_is_written_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    data = Data(labels_per_class=2, batch_size=5, shift=1, unlabelled="all", unlabelled_batch=120)
    run = tiny("kd+dot", data=data, epochs=2, teacher=Network("convnet_8_16", checkpoint=teacher_file(tmp_path)))
    whole, begun = prepare(run), prepare(run)
    list(fit(whole))
    rounds = fit(begun)
    next(rounds)
    again = prepare(run)
    again.student.load_state_dict(begun.student.state_dict())
    again.optimizer.load_state_dict(begun.optimizer.state_dict())
    again.epoch, again.step = begun.epoch, begun.step
    list(fit(again))
    for a, b in zip(whole.student.parameters(), again.student.parameters(), strict=True):
        assert torch.equal(a, b)
