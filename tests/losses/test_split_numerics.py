"""split_kl on logits up to +-1e4 in float32, bfloat16 and float16."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits
from tests import cases
from tests.asserts import assert_equal
from tests.reference import split as twin

PARTITIONS = {
    "target": (fr.by_target, lambda lg: twin.by_target(lg.teacher, lg.target)),
    "top1": (fr.by_teacher_top1, lambda lg: twin.by_teacher_top1(lg.teacher)),
    "top": (lambda lg: fr.by_top(lg, 3), lambda lg: twin.by_top(lg.teacher, 3)),
    "bottom": (
        lambda lg: fr.by_top(lg, 2, largest=False),
        lambda lg: twin.by_top(lg.teacher, 2, largest=False),
    ),
    "top1-top": (lambda lg: fr.by_top1_top(lg, 4), lambda lg: twin.by_top1_top(lg.teacher, 4)),
    "target-top": (
        lambda lg: fr.by_target_top(lg, 3),
        lambda lg: twin.by_target_top(lg.teacher, lg.target, 3),
    ),
}
TEMPERATURES = (0.5, 1.0, 4.0, 20.0)
INPUTS = dict(cases.graded())


def assert_near_float64(value: Tensor, reference: Tensor, temperature: float, what: str) -> None:
    """|x - ref| <= 1e-4 |ref| + 1e-6 T^2, entry by entry."""
    assert bool(value.isfinite().all()), what
    bound = 1e-4 * reference.abs() + 1e-6 * temperature**2
    assert bool(((value.double() - reference).abs() <= bound).all()), what


@pytest.mark.parametrize("dtype", cases.LOW_PRECISION, ids=str)
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("shape", PARTITIONS)
def test_low_precision_is_finite_and_near_float64(name: str, shape: str, dtype: torch.dtype) -> None:
    lg = cases.cast(INPUTS[name], dtype)
    exact = cases.cast(lg, torch.float64)
    make, make_twin = PARTITIONS[shape]
    student = lg.student.clone().requires_grad_()
    for temperature in TEMPERATURES:
        fast = fr.split_kl(student, lg.teacher, make(lg), temperature)
        for part in ("between", "within"):
            (grad,) = torch.autograd.grad(getattr(fast, part).sum(), student, retain_graph=True)
            assert bool(grad.isfinite().all()), f"gradient of {part} at T={temperature}"
        if not lg.rows:
            continue
        slow = twin.split_kl(exact.student, exact.teacher, make_twin(exact), temperature)
        for part in ("between", "within", "mass"):
            assert_near_float64(
                getattr(fast, part).detach(), getattr(slow, part), temperature, f"{part} T={temperature}"
            )


@pytest.mark.parametrize("kl", ["reverse", "both"])
@pytest.mark.parametrize("dtype", cases.LOW_PRECISION, ids=str)
def test_the_other_directions_are_finite_too(dtype: torch.dtype, kl: str) -> None:
    lg = cases.cast(cases.huge(), dtype)
    student = lg.student.clone().requires_grad_()
    for temperature in TEMPERATURES:
        s = fr.split_kl(student, lg.teacher, fr.by_top(lg, 3), temperature, kl)
        (grad,) = torch.autograd.grad(s.within.sum(), student)
        assert bool(s.within.isfinite().all())
        assert bool(grad.isfinite().all())


@pytest.mark.parametrize("gap", [18.0, 104.0, 200.0, 1e4])
def test_a_gap_that_underflows_a_softmax_is_exact(gap: float) -> None:
    """log(sum of softmax) is -inf here in float16 (18) and float32 (104); the log-odds form is not."""
    student = torch.tensor([[gap, 0.0, -1.0]], requires_grad=True)
    lg = Logits(student, torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([0]))
    s = fr.split_kl(lg.student, lg.teacher, fr.by_target(lg))
    exact = cases.cast(lg, torch.float64)
    slow = twin.split_kl(exact.student, exact.teacher, twin.by_target(exact.teacher, exact.target))
    assert_near_float64(s.between.detach(), slow.between.detach(), 1.0, "between")
    (grad,) = torch.autograd.grad(s.between.sum(), student)
    assert_equal(grad.sum(), torch.tensor(0.0), rtol=1e-6)
    assert float(grad[0, 0]) > 0.9  # pulls the overconfident class down, at full strength


def test_half_precision_is_computed_in_float32() -> None:
    lg = cases.cast(cases.easy(), torch.float16)
    s = fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), 4.0)
    wide = fr.split_kl(lg.student.float(), lg.teacher.float(), fr.by_target(lg), 4.0)
    assert s.between.dtype == torch.float32
    assert torch.equal(s.between, wide.between)


def test_float64_stays_float64() -> None:
    lg = cases.easy()
    assert fr.split_kl(lg.student, lg.teacher, fr.by_target(lg)).within.dtype == torch.float64


def test_autocast_changes_nothing() -> None:
    lg = cases.cast(cases.easy(), torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = fr.split_kl(lg.student, lg.teacher, fr.by_top(lg, 3), 4.0)
    outside = fr.split_kl(lg.student, lg.teacher, fr.by_top(lg, 3), 4.0)
    assert torch.equal(inside.within, outside.within)
