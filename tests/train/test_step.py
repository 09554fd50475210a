"""One step: the rows are float32, the update is that of torch's SGD, a teacher is never moved."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import fractionate as fr
from fractionate.config.method import ce
from fractionate.data import Batch
from fractionate.tasks import make_rows
from fractionate.teachers.live import LiveTeacher
from fractionate.train.build import parameters, prepare
from fractionate.train.loop import Loop
from fractionate.train.step import train_step
from tests.train.runs import tiny


def batch(strong: bool = False, dtype: torch.dtype = torch.float32) -> Batch:
    images = torch.randn(6, 1, 4, 4, dtype=dtype)
    return Batch(images, torch.arange(6) % 5, torch.arange(6), images.flip(3) if strong else None)


def net(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 5)).to(dtype)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_step_with_equal_momenta_is_a_step_of_sgd_on_the_loss(wrapped: bool) -> None:
    method = fr.methods.dkd()
    method = fr.methods.dot(method, delta=0.0) if wrapped else method
    ours, theirs, teacher = net(torch.float64), net(torch.float64), LiveTeacher(net(torch.float64))
    theirs.load_state_dict(ours.state_dict())
    optimizer = fr.StreamSGD(ours.parameters(), lr=0.1, momentum=method.momenta(0.9), weight_decay=0.01)
    sgd = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for step in range(4):
        data, progress = batch(dtype=torch.float64), fr.Progress(step=step)
        train_step(list(ours.parameters()), method, optimizer, make_rows(ours, teacher, data), progress)
        sgd.zero_grad()
        method.loss(make_rows(theirs, teacher, data), progress).backward()
        sgd.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


def test_what_a_step_reports_are_its_loss_and_its_components() -> None:
    method, student, teacher, data = fr.methods.dkd(), net(), LiveTeacher(net()), batch()
    lg, progress = make_rows(student, teacher, data), fr.Progress()
    loss, rows = method.loss(lg, progress), method.components(lg, progress)
    optimizer = fr.StreamSGD(student.parameters(), lr=0.1, momentum=method.momenta(0.9))
    step = train_step(list(student.parameters()), method, optimizer, lg, progress)
    assert torch.allclose(step.loss, loss)
    assert {n: float(x) for n, x in step.components.items()} == pytest.approx(
        {n: float(x.detach().mean()) for n, x in rows.items()}
    )
    assert not step.loss.requires_grad


@pytest.mark.parametrize(("given", "expected"), [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_rows_are_float32_unless_the_student_is_float64(given: torch.dtype, expected: torch.dtype) -> None:
    lg = make_rows(net(given), LiveTeacher(net(given)), batch(dtype=given))
    assert (lg.student.dtype, lg.teacher.dtype) == (expected, expected)


def test_without_a_teacher_labels_train_as_usual() -> None:
    student, data = net(), batch()
    lg = make_rows(student, None, data)
    expected = nn.functional.cross_entropy(student(data.images), data.target)
    assert torch.allclose(ce().loss(lg), expected)


def test_two_views_are_two_forward_passes_with_statistics_of_their_own() -> None:
    student = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 5))
    lg = make_rows(student, LiveTeacher(net()), batch(strong=True))
    assert int(student[0].num_batches_tracked) == 2
    assert lg.strong is not None
    assert lg.strong.student.shape == lg.student.shape


def test_a_strong_view_needs_the_teachers_opinion_of_it() -> None:
    def half_a_teacher(data: Batch) -> tuple[Tensor, None]:
        return torch.zeros(6, 5), None

    with pytest.raises(ValueError, match="the teacher gave no logits for it"):
        make_rows(net(), half_a_teacher, batch(strong=True))


def test_a_teacher_never_moves_and_never_keeps_a_graph() -> None:
    teacher = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 5))
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    live, data = LiveTeacher(teacher), batch(strong=True)
    weak, strong = live(data)
    assert torch.equal(weak, live(data)[0])  # no dropout
    assert strong is not None
    assert not weak.requires_grad
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())


def test_teacher_logits_may_enter_a_backward_pass() -> None:
    z = torch.zeros(6, 5, requires_grad=True)
    weak, _ = LiveTeacher(net())(batch())
    (z * weak).sum().backward()
    assert torch.equal(z.grad, weak)


def test_parameters_that_a_method_learns_are_trained_too() -> None:
    student, method = net(), fr.methods.ctkd()
    assert method.module is not None
    assert len(parameters(student, method)) == len(list(student.parameters())) + 1
    trained = parameters(student, method)
    optimizer = fr.StreamSGD(trained, lr=0.1, momentum=method.momenta(0.9))
    before = [p.detach().clone() for p in trained]
    train_step(trained, method, optimizer, make_rows(student, LiveTeacher(net()), batch()), fr.Progress(epoch=5))
    assert all(not torch.equal(a, b) for a, b in zip(before, trained, strict=True))


@pytest.mark.parametrize(("method", "reads"), [("ce", False), ("kd", False), ("mlkd", True)])
def test_a_strong_view_that_no_term_reads_changes_nothing(method: str, reads: bool) -> None:
    ends = []
    for strong in ("randaugment" if reads else "none", "cutout"):
        run = tiny(method, epochs=1)
        training = prepare(replace(run, data=replace(run.data, strong=strong)))
        list(Loop(training).records())
        ends.append({k: v.clone() for k, v in training.student.state_dict().items()})
    same = all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])
    assert same is not reads
