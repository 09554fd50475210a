"""Gradients of split_kl: the closed forms of the specification, finite differences, the temperature."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import fractionate as fr
from tests import cases
from tests.asserts import assert_equal
from tests.losses.partitions import Problem, problems

DIRECTIONS = ("forward", "reverse", "both")


def group_softmax(z: Tensor, members: list[int]) -> Tensor:
    """q^G: softmax restricted to a group, 0 elsewhere."""
    out = torch.zeros_like(z)
    out[members] = torch.softmax(z[members], 0)
    return out


@given(problems(), st.data())
def test_the_gradient_of_the_weighted_form(p: Problem, data: st.DataObject) -> None:
    """dL/dz_i = (T/n) [ w_0 q_i^{G,S} (b_G^S - b_G^T) + w_G (q_i^{G,S} - q_i^{G,T}) ] for i in G."""
    weight = st.floats(-2, 8)
    w0 = data.draw(weight)
    w = torch.tensor(data.draw(st.lists(weight, min_size=p.groups, max_size=p.groups))).double()
    s = fr.split_kl(p.student, p.teacher, p.partition, p.temperature)
    loss = (w0 * s.between + (w * s.within).sum(1)).mean()
    (grad,) = torch.autograd.grad(loss, p.student)

    n, expected = len(p.teacher), torch.zeros_like(p.teacher)
    for row, groups in enumerate(p.listed):
        z_s, z_t = p.student[row].detach() / p.temperature, p.teacher[row] / p.temperature
        for g, members in enumerate(groups):
            if not members:
                continue
            b_s, b_t = (torch.softmax(z, 0)[members].sum() for z in (z_s, z_t))
            q_s, q_t = (group_softmax(z, members) for z in (z_s, z_t))
            expected[row] += p.temperature / n * (w0 * q_s * (b_s - b_t) + w[g] * (q_s - q_t))
    assert_equal(grad, expected)


@given(problems())
def test_masses_as_weights_give_the_gradient_of_kd(p: Problem) -> None:
    """w_0 = 1 and w_G = b_G^T: the gradient is (T/n)(p^S - p^T)."""
    s = fr.split_kl(p.student, p.teacher, p.partition, p.temperature)
    (grad,) = torch.autograd.grad(s.total.mean(), p.student)
    p_s, p_t = (torch.softmax(z.detach() / p.temperature, 1) for z in (p.student, p.teacher))
    assert_equal(grad, p.temperature / len(p.teacher) * (p_s - p_t))


@given(problems())
def test_the_reverse_gradient_inside_a_group(p: Problem) -> None:
    """T q_i^S (r_i - sum_j q_j^S r_j) with r = log q^S - log q^T, per row."""
    s = fr.split_kl(p.student, p.teacher, p.partition, p.temperature, "reverse")
    (grad,) = torch.autograd.grad(s.within.sum(), p.student)
    expected = torch.zeros_like(p.teacher)
    for row, groups in enumerate(p.listed):
        for members in (m for m in groups if m):
            z_s, z_t = (z[row, members].detach() / p.temperature for z in (p.student, p.teacher))
            q, r = torch.softmax(z_s, 0), torch.log_softmax(z_s, 0) - torch.log_softmax(z_t, 0)
            expected[row, members] = p.temperature * q * (r - (q * r).sum())
    assert_equal(grad, expected)


@pytest.mark.parametrize("kl", DIRECTIONS)
@pytest.mark.parametrize(
    "make",
    [
        fr.by_target,
        fr.by_teacher_top1,
        lambda lg: fr.by_top(lg, 3),
        lambda lg: fr.by_top(lg, 2, largest=False),
        lambda lg: fr.by_top1_top(lg, 4),
        lambda lg: fr.by_target_top(lg, 3),
    ],
    ids=["target", "top1", "top", "bottom", "top1-top", "target-top"],
)
def test_gradients_agree_with_finite_differences(make: object, kl: str) -> None:
    lg = cases.easy(n=3, c=6)
    partition = make(lg)

    def parts(student: Tensor) -> tuple[Tensor, Tensor]:
        s = fr.split_kl(student, lg.teacher, partition, 2.0, kl)
        return s.between, s.within

    assert torch.autograd.gradcheck(parts, lg.student.clone().requires_grad_())


def test_a_tensor_temperature_receives_a_gradient() -> None:
    lg = cases.easy(n=3, c=6)

    def total(temperature: Tensor) -> Tensor:
        return fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), temperature).total.sum()

    assert torch.autograd.gradcheck(total, torch.tensor(3.0).double().requires_grad_())


def test_the_teacher_receives_no_gradient() -> None:
    lg = cases.easy(n=3, c=6)
    student, teacher = (z.clone().requires_grad_() for z in (lg.student, lg.teacher))
    fr.split_kl(student, teacher, fr.by_top(lg, 2)).total.sum().backward()
    assert teacher.grad is None
