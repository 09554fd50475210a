"""What the Triton kernels promise; run by test_triton.py in a process where Triton interprets them on CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

import fractionate as fr
from fractionate import Logits
from fractionate.kernels import fused, triton_split
from fractionate.kernels.plain import Partition
from fractionate.losses.partitions import whole
from fractionate.losses.split import Split
from tests import cases
from tests.asserts import assert_equal
from tests.losses.partitions import Problem, fusible_problems
from tests.reference import split as twin

BLOCK = 16
PARTITIONS: dict[str, Callable[[Logits], Partition]] = {
    "whole": whole,
    "target": fr.by_target,
    "teacher-top1": fr.by_teacher_top1,
    "top": lambda lg: fr.by_top(lg, 3),
    "lowest": lambda lg: fr.by_top(lg, 3, largest=False),
    "top1-top": lambda lg: fr.by_top1_top(lg, 4),
    "target-top": lambda lg: fr.by_target_top(lg, 3),
}
partitions = pytest.mark.parametrize("make", PARTITIONS.values(), ids=PARTITIONS)


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fused path takes the kernels, in blocks so small that a row has several; what it called."""
    made: list[str] = []

    class Watched:
        def __getattr__(self, name: str) -> object:
            made.append(name)
            return getattr(triton_split, name)

    monkeypatch.setattr(triton_split, "BLOCK", BLOCK)
    monkeypatch.setattr(fused, "rest_code", lambda logits, index: Watched())
    return made


def rows(n: int = 3, c: int = 37, dtype: torch.dtype = torch.float32) -> Logits:
    lg = cases.cast(cases.easy(n, c, strong=False), dtype)
    return Logits(lg.student.requires_grad_(), lg.teacher, lg.target)


def split(lg: Logits, partition: Partition, temperature: float = 4.0, *, kernels: bool = True) -> Split:
    return fr.split_kl(lg.student, lg.teacher, partition, temperature, fused=kernels)


def gradient(s: Split, leaf: Tensor) -> Tensor:
    """Through every output: group masses, inside every group, merged groups."""
    weight = torch.linspace(-1, 2, s.within.shape[1], dtype=s.within.dtype)
    value = s.between.sum() + (s.within @ weight).sum()
    if s.within.shape[1] > 2:
        value = value + s.coarsen([[0], [1, 2]]).between.sum()
    return torch.autograd.grad(value, leaf)[0]


@partitions
@pytest.mark.parametrize("dtype", cases.LOW_PRECISION, ids=str)
def test_kernels_and_plain_agree(make: Callable[[Logits], Partition], dtype: torch.dtype, calls: list[str]) -> None:
    lg = rows(dtype=dtype)
    one, other = (split(lg, make(lg), kernels=k) for k in (True, False))
    for name in ("between", "within", "mass"):
        assert_equal(getattr(one, name), getattr(other, name), name, rtol=2e-5)
    grads = [gradient(s, lg.student) for s in (one, other)]
    assert grads[0].dtype == dtype
    assert_equal(grads[0].float(), grads[1].float(), "gradient", rtol=max(2e-5, 2 * torch.finfo(dtype).eps))
    assert calls == ["read_rest", "write_rest"]


@settings(max_examples=15)
@given(p=fusible_problems())
def test_kernels_equal_the_slow_twin(p: Problem) -> None:
    student = p.student.detach().float().requires_grad_()
    fast = fr.split_kl(student, p.teacher.float(), p.partition, p.temperature, fused=True)
    slow = twin.split_kl(student.double(), p.teacher.float().double(), p.listed, p.temperature)
    near = {"rtol": 1e-4, "atol": 1e-6 * p.temperature**2}
    torch.testing.assert_close(fast.between.double(), slow.between, **near)
    torch.testing.assert_close(fast.within.double(), slow.within, **near)
    grads = [torch.autograd.grad(s.between.sum() + s.within.sum(), student)[0] for s in (fast, slow)]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5 * p.temperature)


@partitions
@pytest.mark.parametrize("dtype", cases.LOW_PRECISION, ids=str)
def test_huge_logits_stay_finite(make: Callable[[Logits], Partition], dtype: torch.dtype) -> None:
    lg = cases.cast(cases.huge(c=19), dtype)
    lg = Logits(lg.student.requires_grad_(), lg.teacher, lg.target)
    one, exact = (
        split(Logits(x, t, lg.target), make(lg), 0.5, kernels=k)
        for x, t, k in ((lg.student, lg.teacher, True), (lg.student.double(), lg.teacher.double(), False))
    )
    torch.testing.assert_close(one.between.double(), exact.between, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(one.within.double(), exact.within, rtol=1e-4, atol=1e-6)
    assert gradient(one, lg.student).isfinite().all()


@pytest.mark.parametrize("c", [3, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_any_number_of_classes(c: int) -> None:
    lg = rows(c=c)
    one, other = (split(lg, fr.by_target(lg), kernels=k) for k in (True, False))
    assert_equal(one.total, other.total, rtol=2e-5)
    assert_equal(gradient(one, lg.student), gradient(other, lg.student), rtol=2e-5)


def test_blocks_in_which_every_class_is_listed() -> None:
    """The first block, and one in the middle, hold no class of the rest."""
    c = 4 * BLOCK
    rank = torch.arange(c).roll(1 - BLOCK).float().expand(2, c)  # the largest end at class BLOCK - 2
    for logits in (rank, rank.roll(2 * BLOCK, 1)):
        lg = rows(2, c)
        lg = Logits(lg.student, lg.teacher, lg.target, ranking=logits)
        part = fr.by_top(lg, 2 * BLOCK)
        one, other = (split(lg, part, kernels=k) for k in (True, False))
        assert_equal(one.within, other.within, rtol=2e-5)
        assert_equal(gradient(one, lg.student), gradient(other, lg.student), rtol=2e-5)


def test_a_maximum_in_every_block() -> None:
    """Sums move to a new maximum block after block, at different blocks for teacher and student."""
    c = 5 * BLOCK
    up = torch.arange(c, dtype=torch.float32).expand(2, c)
    lg = Logits((up.flip(1) * 3).clone().requires_grad_(), up * 5, torch.tensor([0, c - 1]))
    one, other = (split(lg, fr.by_target(lg), kernels=k) for k in (True, False))
    assert_equal(one.within, other.within, rtol=2e-5)
    assert_equal(gradient(one, lg.student), gradient(other, lg.student), rtol=2e-5)


def test_no_rows() -> None:
    lg = rows(n=0)
    s = split(lg, fr.by_top(lg, 3))
    assert s.within.shape == (0, 2)
    assert gradient(s, lg.student).shape == lg.student.shape


def test_logits_need_not_lie_row_by_row() -> None:
    lg = rows()
    turned = lg.student.detach().T.contiguous().T.requires_grad_()
    shared = lg.teacher[:1].expand_as(lg.teacher)
    padded = torch.cat([lg.student.detach(), lg.teacher], 1)[:, : lg.classes].requires_grad_()
    for student, teacher in ((turned, lg.teacher), (padded, shared)):
        other = Logits(student, teacher, lg.target)
        a, b = (split(other, fr.by_top(other, 3), kernels=k) for k in (True, False))
        assert_equal(a.within, b.within, rtol=2e-5)
        assert_equal(gradient(a, student), gradient(b, student), rtol=2e-5)


DIRECTIONS = ("reverse", "jsd(0.1)", "skew(0.7)", "skew_reverse(0.1)")
directions = pytest.mark.parametrize("direction", DIRECTIONS)


def turned(lg: Logits, part: Partition, direction: str, temperature: float = 4.0, *, kernels: bool = True) -> Split:
    """With the kernels, or in float64 by the plain path."""
    if kernels:
        return fr.split_kl(lg.student, lg.teacher, part, temperature, fused=True, direction=direction)
    exact = lg.student.double(), lg.teacher.double()
    return fr.split_kl(*exact, part, temperature, fused=False, direction=direction)


def gradients(s: Split, leaf: Tensor) -> list[Tensor]:
    """Of the groups' masses, of the inside of every group, and of both with the weights that carry a graph."""
    weight = torch.linspace(-1, 2, s.within.shape[1], dtype=s.within.dtype)
    values = s.between.sum(), (s.within @ weight).sum(), s.total.sum()
    return [torch.autograd.grad(x, leaf, retain_graph=True)[0].double() for x in values]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, torch.float32) for name in PARTITIONS), ("top1-top", torch.bfloat16), ("top1-top", torch.float16)],
    ids=str,
)
@directions
def test_other_directions_equal_float64(name: str, direction: str, dtype: torch.dtype, calls: list[str]) -> None:
    lg, make = rows(dtype=dtype), PARTITIONS[name]
    one, other = (turned(lg, make(lg), direction, kernels=k) for k in (True, False))
    for part in ("between", "within", "mass"):
        assert_equal(getattr(one, part).double(), getattr(other, part), part, rtol=2e-5)
    for a, b in zip(gradients(one, lg.student), gradients(other, lg.student), strict=True):
        assert_equal(a, b, "gradient", rtol=max(2e-5, 2 * torch.finfo(dtype).eps))
    looks = ["read_rest"] if direction == "reverse" else ["read_rest", "look_rest"]
    assert calls == [*looks, *["write_tilted"] * 3]


@pytest.mark.parametrize("name", ["whole", "target-top"])
@directions
def test_huge_logits_stay_finite_in_every_direction(name: str, direction: str) -> None:
    lg, make = cases.cast(cases.huge(c=19), torch.float32), PARTITIONS[name]
    lg = Logits(lg.student.requires_grad_(), lg.teacher, lg.target)
    one, exact = (turned(lg, make(lg), direction, 0.5, kernels=k) for k in (True, False))
    torch.testing.assert_close(one.between.double(), exact.between, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(one.within.double(), exact.within, rtol=1e-4, atol=1e-6)
    assert all(g.isfinite().all() for g in gradients(one, lg.student))


@directions
@pytest.mark.parametrize("c", [3, BLOCK, 3 * BLOCK + 1])
def test_any_number_of_classes_in_every_direction(direction: str, c: int) -> None:
    lg = rows(c=c)
    one, other = (turned(lg, fr.by_target(lg), direction, kernels=k) for k in (True, False))
    assert_equal(one.total.double(), other.total, rtol=2e-5)
    for a, b in zip(gradients(one, lg.student), gradients(other, lg.student), strict=True):
        assert_equal(a, b, rtol=2e-5)


@directions
def test_no_rows_in_any_direction(direction: str) -> None:
    lg = rows(n=0)
    s = turned(lg, fr.by_top(lg, 3), direction)
    assert gradients(s, lg.student)[2].shape == lg.student.shape


@directions
def test_layouts_and_second_derivatives_in_every_direction(direction: str) -> None:
    lg = rows()
    apart = lg.student.detach().T.contiguous().T.requires_grad_()
    other = Logits(apart, lg.teacher[:1].expand_as(lg.teacher), lg.target)
    a, b = (turned(other, fr.by_top(other, 3), direction, kernels=k) for k in (True, False))
    for x, y in zip(gradients(a, apart), gradients(b, apart), strict=True):
        assert_equal(x, y, rtol=2e-5)
    found = []
    for s in (a, b):
        (grad,) = torch.autograd.grad(s.total.mean(), apart, create_graph=True)
        found.append(torch.autograd.grad(grad.square().sum(), apart)[0])
    assert_equal(*found, rtol=2e-5)


@pytest.mark.parametrize("direction", ["forward", *DIRECTIONS])
def test_a_class_that_both_mask_is_not_there(direction: str) -> None:
    lg = rows(2)
    at = torch.zeros(2, 37, dtype=torch.bool)
    at[:, 20:36] = True
    hidden = [z.detach().masked_fill(at, -torch.inf).requires_grad_() for z in (lg.student, lg.teacher)]
    cut = [z.detach()[:, ~at[0]].clone().requires_grad_() for z in (lg.student, lg.teacher)]
    target, found = lg.target % 20, []
    for student, teacher in (hidden, cut):
        given = Logits(student, teacher.detach(), target)
        s = turned(given, fr.by_target(given), direction)
        found.append([s.total, torch.autograd.grad(s.total.sum(), student)[0]])
    assert_equal(found[0][0], found[1][0], rtol=1e-5)
    assert_equal(found[0][1][:, ~at[0]], found[1][1], rtol=1e-5)
    assert not found[0][1][:, 20:36].any()
