"""The parts of a step count by the weights of their rows, so that they give the step of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

import fractionate as fr
from fractionate.data import Batch, Normalization, SmallImages
from fractionate.rows import with_weight
from fractionate.tasks import Classification
from fractionate.teachers import Teacher
from fractionate.train.build import Training, parameters, prepare
from fractionate.train.step import Stepper
from tests.distributed.problem import Double
from tests.train.runs import tiny

WEIGHTS = torch.tensor([0.0, 0.0, 0.0, 2.0, 1.0, 0.5, 0.0, 3.0])  # the first of four parts counts for nothing


@dataclass(frozen=True)
class Weighted(Classification):
    """Rows that count by their images' places in the set."""

    @property
    def even(self) -> bool:
        return False

    def rows(self, student: nn.Module, teacher: Teacher | None, batch: Batch) -> fr.Logits:
        return with_weight(super().rows(student, teacher, batch), WEIGHTS.double()[batch.index])


@dataclass(frozen=True)
class Ignoring(Weighted):
    """The same rows with those left out that have no weight, and the others once for every unit of weight."""

    def rows(self, student: nn.Module, teacher: Teacher | None, batch: Batch) -> fr.Logits:
        units = (2 * WEIGHTS[batch.index]).long()
        return Classification.rows(self, student, teacher, batch)[torch.arange(len(batch)).repeat_interleave(units)]


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()


@pytest.mark.parametrize("method", ["dkd", "dist"])
def test_a_row_wise_step_gathers_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("fractionate.train.step.gathered", lambda lg, world, count: asked.append(count) or lg)
    training = training_of(method, Classification(), accumulate=2)
    Stepper(training, parameters(training.student, training.method))(batch(), fr.Progress())
    assert bool(asked) != training.method.row_wise


def training_of(method: str, task: Classification, accumulate: int) -> Training:
    torch.manual_seed(0)
    images = Double(
        SmallImages(torch.zeros(8, 1, 8, 8).byte(), torch.arange(8), 10, Normalization((0.5,), (0.3,)), batch_size=4)
    )
    run = tiny(method, accumulate=accumulate)
    return prepare(run, student=linear(), teacher=linear(), train=images, test=images, task=task)


def batch() -> Batch:
    made = torch.Generator().manual_seed(1)
    images = torch.randn(8, 1, 8, 8, generator=made, dtype=torch.float64)
    return Batch(images, torch.arange(8), torch.arange(8))


def slow(training: Training) -> tuple[float, dict[str, Tensor]]:
    """The loss of the whole batch, sum_i w_i x_i / sum_i w_i word by word, and the gradient of every stream."""
    t, data, progress = training, batch(), fr.Progress()
    lg = fr.Logits(t.student(data.images), t.teacher(data)[0], data.target)
    w = WEIGHTS.double()
    means = {name: sum(w[i] * x[i] for i in range(8)) / sum(w) for name, x in t.method.components(lg, progress).items()}
    losses = t.method.combine(means, progress, t.merge)
    trained = parameters(t.student, t.method)
    grads = {name: torch.autograd.grad(loss, trained, retain_graph=True) for name, loss in losses.items()}
    return float(sum(losses.values()).detach()), flat(grads)


def flat(grads: Mapping[str, Sequence[Tensor | None]]) -> dict[str, Tensor | None]:
    return {f"{name} {i}": g for name, row in grads.items() for i, g in enumerate(row)}


@pytest.mark.parametrize("accumulate", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("method", ["kd", "dkd+deepkd"])
@pytest.mark.parametrize("task", [Weighted(), Ignoring()], ids=["weights", "rows left out"])
def test_parts_weighed_by_their_rows_take_the_step_of_the_whole(
    task: Classification, method: str, accumulate: int
) -> None:
    training = training_of(method, task, accumulate)
    loss, expected = slow(training)
    step = Stepper(training, parameters(training.student, training.method))(batch(), fr.Progress())
    found = flat(step.grads)
    assert float(step.loss) == pytest.approx(loss, rel=1e-12)
    assert found.keys() == expected.keys()
    for name, g in expected.items():
        torch.testing.assert_close(found[name], g, rtol=1e-10, atol=1e-13)


def test_a_step_in_which_no_row_counts_moves_nothing_by_its_gradient() -> None:
    training = training_of("dkd", Weighted(), 2)
    nothing = replace(batch(), index=torch.zeros(8, dtype=torch.int64))
    step = Stepper(training, parameters(training.student, training.method))(nothing, fr.Progress())
    assert float(step.loss) == 0
    assert all(not g.any() for row in step.grads.values() for g in row)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_rows_that_all_count_alike_take_the_steps_of_images_to_the_last_bit(accumulate: int) -> None:
    """A task that says nothing about its rows, of which there is one for each image, is not divided by anything."""

    @dataclass(frozen=True)
    class Unsaid(Classification):
        @property
        def even(self) -> bool:
            return False

    moved = []
    for task in (Classification(), Unsaid()):
        training = training_of("dkd+deepkd", task, accumulate)
        take = Stepper(training, parameters(training.student, training.method))
        for _ in range(3):
            take(batch(), fr.Progress())
        moved.append([p.detach() for p in training.student.parameters()])
    for a, b in zip(*moved, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13 if accumulate > 1 else 0, atol=0)
