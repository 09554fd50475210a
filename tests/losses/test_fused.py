"""The fused path of split_kl equals the slow twin and the plain path, in values and every derivative.

Here by torch operations; test_c_split.py has the compiled kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from torch import Tensor

import fractionate as fr
from fractionate import Logits
from fractionate.kernels import c_split, why_not_fused
from fractionate.kernels import fused as path
from fractionate.kernels.plain import Partition
from fractionate.kernels.rest import CHUNK, KEEP
from fractionate.losses.split import Split
from tests import cases
from tests.asserts import assert_equal
from tests.losses.partitions import Problem, fusible_problems, problems
from tests.reference import split as twin

# Up to KEEP numbers a batch is read once and its softmax kept; larger ones are read again, some rows at a time.
BATCHES = {"read once": KEEP, "read twice": 0}
batches = pytest.mark.parametrize("keep", BATCHES.values(), ids=BATCHES)


@pytest.fixture(autouse=True)
def _no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_split, "library", lambda: None)


@contextmanager
def keeping(numbers: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(path, "KEEP", numbers)
        yield


def fused(p: Problem) -> Split:
    return fr.split_kl(p.student, p.teacher, p.partition, p.temperature, fused=True)


def gradient(value: Tensor, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(value, leaf, retain_graph=True)[0]


@batches
@given(p=fusible_problems())
def test_fused_equals_the_slow_twin(keep: int, p: Problem) -> None:
    with keeping(keep):
        fast = fused(p)
    slow = twin.split_kl(p.student, p.teacher, p.listed, p.temperature)
    weight = torch.linspace(-1, 2, p.groups).double()
    for name in ("between", "within", "mass"):
        assert_equal(getattr(fast, name), getattr(slow, name), name)
    for a, b in ((fast.between, slow.between), (fast.within @ weight, slow.within @ weight)):
        assert_equal(gradient(a.sum(), p.student), gradient(b.sum(), p.student), "gradient")


@batches
@given(p=fusible_problems())
def test_merged_groups_of_a_fused_split_have_the_right_gradient(keep: int, p: Problem) -> None:
    """`coarsen` differentiates through the log masses."""
    pairs = [[0], list(range(1, p.groups))] if p.groups > 1 else [[0]]
    with keeping(keep):
        coarse = fused(p).coarsen(pairs)
    merged = p._replace(assignment=[[min(g, 1) for g in row] for row in p.assignment], groups=len(pairs))
    slow = twin.split_kl(p.student, p.teacher, merged.listed, p.temperature)
    assert_equal(coarse.between, slow.between)
    assert_equal(coarse.within, slow.within)
    assert_equal(gradient(coarse.between.sum(), p.student), gradient(slow.between.sum(), p.student))


@given(problems())
def test_partitions_that_cannot_be_fused_say_why(p: Problem) -> None:
    """Whatever the partition: either the fused path takes it and is right, or it names the reason."""
    reason = why_not_fused(p.student, p.teacher, p.partition, p.temperature, "forward")
    if reason:
        with pytest.raises(ValueError, match=f"fused path cannot be used here: {reason}"):
            fused(p)
        return
    plain = fr.split_kl(p.student, p.teacher, p.partition, p.temperature, fused=False)
    assert_equal(fused(p).between, plain.between)
    assert_equal(fused(p).within, plain.within)


def test_the_teachers_masses_carry_no_graph() -> None:
    lg = cases.easy()
    student = lg.student.clone().requires_grad_()
    for fused_path in (True, False):
        s = fr.split_kl(student, lg.teacher, fr.by_target(lg), fused=fused_path)
        assert not s.mass.requires_grad
        assert not s.log_mass[0].requires_grad


PARTITIONS: dict[str, Callable[[Logits], Partition]] = {
    "target": fr.by_target,
    "top": lambda lg: fr.by_top(lg, 2),
    "top1-top": lambda lg: fr.by_top1_top(lg, 3),
    "target-top": lambda lg: fr.by_target_top(lg, 2),
}


@batches
@pytest.mark.parametrize("make", PARTITIONS.values(), ids=PARTITIONS)
def test_the_gradient_of_the_gradient(make: Callable[[Logits], Partition], keep: int) -> None:
    lg = cases.easy(n=2, c=6)
    partition = make(lg)

    def parts(student: Tensor) -> tuple[Tensor, Tensor]:
        with keeping(keep):
            s = fr.split_kl(student, lg.teacher, partition, 2.0, fused=True)
        return s.between, s.within

    student = lg.student.clone().requires_grad_()
    assert torch.autograd.gradcheck(parts, student)
    assert torch.autograd.gradgradcheck(parts, student)


@batches
@pytest.mark.parametrize("make", PARTITIONS.values(), ids=PARTITIONS)
@pytest.mark.parametrize("dtype", cases.LOW_PRECISION, ids=str)
def test_fused_and_plain_agree_in_low_precision(
    make: Callable[[Logits], Partition], dtype: torch.dtype, keep: int
) -> None:
    lg = cases.cast(cases.easy(n=5, c=9), dtype)
    student = lg.student.clone().requires_grad_()
    with keeping(keep):
        one, other = (fr.split_kl(student, lg.teacher, make(lg), 4.0, fused=f) for f in (True, False))
    assert one.within.dtype == other.within.dtype == torch.float32
    assert_equal(one.between, other.between, rtol=1e-5)
    assert_equal(one.within, other.within, rtol=1e-5)
    grads = [gradient(s.total.sum(), student).float() for s in (one, other)]
    assert grads[0].shape == student.shape
    assert_equal(*grads, rtol=2 * torch.finfo(dtype).eps)


def test_more_rows_than_fit_in_one_chunk() -> None:
    c = CHUNK // 3
    lg = cases.cast(cases.easy(n=7, c=c, strong=False), torch.float32)
    student = lg.student.clone().requires_grad_()
    one, other = (fr.split_kl(student, lg.teacher, fr.by_top(lg, 5), 4.0, fused=f) for f in (True, False))
    assert_equal(one.within, other.within, rtol=1e-5)
    assert_equal(gradient(one.total.sum(), student), gradient(other.total.sum(), student), rtol=1e-5)


@batches
def test_two_backward_passes_through_one_loss_add_up(keep: int) -> None:
    """What is kept between the passes is not used up by the first."""
    lg = cases.cast(cases.easy(n=5, c=9), torch.float32)
    student = lg.student.clone().requires_grad_()
    with keeping(keep):
        s = fr.split_kl(student, lg.teacher, fr.by_top(lg, 3), 4.0, fused=True)
    parts = gradient(s.between.sum(), student) + gradient(s.within.sum(), student)
    assert_equal(parts, gradient(s.between.sum() + s.within.sum(), student), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kl": "reverse"}, "forward KL, not 'reverse'"),
        ({"temperature": torch.tensor(4.0)}, "tensor temperature"),
    ],
)
def test_insisting_on_the_fused_path_names_what_is_in_the_way(options: dict[str, object], reason: str) -> None:
    lg = cases.easy()
    with pytest.raises(ValueError, match=reason):
        fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), fused=True, **options)


@batches
def test_a_class_that_both_mask_is_not_there(keep: int) -> None:
    lg = cases.easy(n=5, c=12, strong=False)
    at = torch.arange(12).expand(5, -1) >= 9
    student, teacher = (z.detach().masked_fill(at, -torch.inf) for z in (lg.student, lg.teacher))
    hidden = Logits(student.requires_grad_(), teacher, lg.target % 9)
    cut = Logits(lg.student.detach()[:, :9].clone().requires_grad_(), lg.teacher[:, :9], hidden.target)
    with keeping(keep):
        one, other = (
            fr.split_kl(x.student, x.teacher, fr.by_target(x), 2.0, fused=True).total.sum() for x in (hidden, cut)
        )
        grads = [torch.autograd.grad(v, x.student)[0] for v, x in ((one, hidden), (other, cut))]
    assert_equal(one, other)
    assert_equal(grads[0][:, :9], grads[1])
    assert not grads[0][:, 9:].any()
