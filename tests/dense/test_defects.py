"""Where the published code of segmentation differs: the rows T1 to T6 of docs/differences.csv."""

from __future__ import annotations

import pytest
import torch

import fractionate as fr


def test_far_logits_keep_their_gradient_in_float32() -> None:
    """A pixel whose mass outside the teacher's top class is below float32's step from 1."""
    teacher = torch.tensor([[20.0, 0.0, 0.0]]).reshape(1, 3, 1, 1)
    student = torch.tensor([[0.0, 20.0, 0.0]]).reshape(1, 3, 1, 1).requires_grad_()
    lg = fr.rows.pixels(student, teacher, torch.zeros(1, 1, 1, dtype=torch.int64))
    between = fr.methods.gdkd(k=1, temperature=1, warmup=1).components(lg)["between"].sum()
    (grad,) = torch.autograd.grad(between, student)
    assert float(between.detach()) == pytest.approx(20.0, abs=1e-4)
    assert float(grad.flatten()[0]) == pytest.approx(-1.0, abs=1e-4)


@pytest.mark.parametrize("ignore", [0, 2, 255, -1])
@pytest.mark.parametrize("method", [fr.methods.kd(), fr.methods.dkd(), fr.methods.gdkd(k=2)], ids=lambda m: m.name)
def test_any_label_may_be_the_ignored_one(method: fr.Method, ignore: int) -> None:
    made = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 4, 3, 5, generator=made, dtype=torch.float64) for _ in range(2))
    y = torch.randint(0, 4, (2, 3, 5), generator=made)
    y[0, 0] = ignore
    lg = fr.rows.pixels(student, teacher, y, ignore_index=ignore)
    assert lg.rows == int((y != ignore).sum())
    assert not bool((lg.target == ignore).any())
    assert bool(method.loss(lg).isfinite())
    nothing = fr.rows.pixels(student.requires_grad_(), teacher, torch.full_like(y, ignore), ignore_index=ignore)
    loss = method.loss(nothing)
    assert float(loss.detach()) == 0
    assert not bool(torch.autograd.grad(loss, student)[0].any())


def test_columns_are_those_of_labelled_pixels() -> None:
    """What stands at void pixels moves no term of dist, whose columns run over the whole batch."""
    made = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 4, 3, 5, generator=made, dtype=torch.float64) for _ in range(2))
    y = torch.randint(0, 4, (2, 3, 5), generator=made)
    y[1, :2] = 255
    method = fr.methods.dist(scale=False, temperature=1)
    losses = []
    for values in (0.0, 50.0):
        other = student.clone()
        other[1, :, :2] = values
        losses.append(float(method.loss(fr.rows.pixels(other, teacher, y))))
    assert losses[0] == losses[1]
