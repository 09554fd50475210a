"""The compiled kernels of reverse KL and of the mixtures equal float64, for every partition, dtype and temperature."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from torch import Tensor

import fractionate as fr
from fractionate import Logits
from fractionate.kernels import Direction, as_direction, c_split, directed_split, why_not_fused
from fractionate.kernels.c_library import library
from fractionate.kernels.c_split import compiled_mean, compiled_split
from fractionate.kernels.plain import Group, Partition, Parts
from fractionate.losses.partitions import whole
from tests import cases
from tests.asserts import assert_equal
from tests.losses.partitions import Problem, problems
from tests.losses.test_c_split import DTYPES, EXTREME, assert_near, gradients, partitions, rows
from tests.reference import directions as twin

pytestmark = pytest.mark.skipif(library() is None, reason="there are no compiled kernels: see FRACTIONATE_KERNEL")
DIRECTIONS = [
    as_direction(d) for d in ("reverse", "jsd(0.5)", "jsd(0.1)", "skew(0.1)", "skew(0.7)", "skew_reverse(0.1)")
]
directions = pytest.mark.parametrize("direction", DIRECTIONS, ids=str)
Make = Callable[[Logits], Partition]


def exactly(lg: Logits, part: Partition, temperature: float, direction: Direction) -> tuple[Parts, Tensor]:
    """The plain path in float64 on the same logits, and its leaf."""
    leaf = lg.student.detach().double().requires_grad_()
    return directed_split(leaf, lg.teacher.double(), part, temperature, direction), leaf


@directions
@given(p=problems())
def test_compiled_equals_the_slow_twin(direction: Direction, p: Problem) -> None:
    """Definitions on probabilities, row by row; logits that these can bear."""
    z, t = (x.detach().float().clamp(-10, 10) for x in (p.student, p.teacher))
    between, within, *_ = compiled_split(z, t, p.partition, p.temperature, direction)
    groups = [[g for g in row if g] for row in p.listed]
    slow_between, slow_within = [], []
    for i, row in enumerate(groups):
        b, w = twin.split(direction, z[i : i + 1].double(), t[i : i + 1].double(), [row], p.temperature)
        at = [j for j, g in enumerate(p.listed[i]) if g]
        slow_between.append(b[0])
        slow_within.append(torch.zeros(p.groups, dtype=torch.float64).scatter(0, torch.tensor(at), w[0]))
    assert_near(between, torch.stack(slow_between), p.temperature)
    assert_near(within, torch.stack(slow_within), p.temperature)


@partitions
@directions
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [0.5, 4.0, 20.0])
def test_compiled_and_plain_agree(make: Make, direction: Direction, dtype: torch.dtype, temperature: float) -> None:
    """Values, and the gradients of every output: of bfloat16 logits they are the rounded ones of float32."""
    lg = rows(dtype=dtype)
    assert why_not_fused(lg.student, lg.teacher, make(lg), temperature, "forward", direction) is None
    one = compiled_split(lg.student, lg.teacher, make(lg), temperature, direction)
    other, leaf = exactly(lg, make(lg), temperature, direction)
    for fast, slow in zip(one[:2], other[:2], strict=True):
        assert_near(fast, slow, temperature)
    for fast, slow in zip(one[2:], other[2:], strict=True):
        assert_equal(fast.exp().double(), slow.exp(), rtol=1e-6)
    found = gradients(one, lg.student)
    for fast, slow in zip(found, gradients(other, leaf), strict=True):
        assert_equal(fast.double(), slow, "gradient", rtol=max(2e-5, torch.finfo(dtype).eps))
    wide = lg.student.detach().float().requires_grad_()
    for fast, slow in zip(
        found,
        gradients(compiled_split(wide, lg.teacher.float(), make(lg), temperature, direction), wide),
        strict=True,
    ):
        assert torch.equal(fast, slow.to(dtype))


@directions
@pytest.mark.parametrize("c", [2, 3, 15, 16, 17, 1024, 1025, 5000])
def test_every_number_of_classes(direction: Direction, c: int) -> None:
    lg = rows(3, c)
    one = compiled_split(lg.student, lg.teacher, fr.by_top(lg, 1), 4.0, direction)
    other, leaf = exactly(lg, fr.by_top(lg, 1), 4.0, direction)
    assert_near(one[1], other[1], 4.0)
    assert_equal(gradients(one, lg.student)[3].double(), gradients(other, leaf)[3], rtol=2e-5)


@partitions
@directions
def test_the_mean_is_that_of_the_rows(make: Make, direction: Direction) -> None:
    lg = rows()
    part = make(lg)
    weights = tuple(torch.linspace(0.5, 2, 1 + part.size).tolist())
    at_once = compiled_mean(lg.student, lg.teacher, part, 4.0, weights, direction)
    between, within, *_ = compiled_split(lg.student, lg.teacher, part, 4.0, direction)
    slow = (weights[0] * between + within @ torch.tensor(weights[1:])).mean()
    assert_equal(at_once, slow, rtol=1e-6)
    for factor in (1.0, 0.25):
        grads = [torch.autograd.grad(factor * x, lg.student, retain_graph=True)[0] for x in (at_once, slow)]
        assert_equal(*grads, "gradient", rtol=1e-6)


@partitions
@directions
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", EXTREME)
def test_extreme_logits_give_finite_numbers_near_float64(
    make: Make, direction: Direction, dtype: torch.dtype, name: str
) -> None:
    lg = cases.cast(EXTREME[name], dtype)
    student = lg.student.clone().requires_grad_()
    for temperature in (0.5, 4.0):
        s = fr.split_kl(student, lg.teacher, make(lg), temperature, fused=True, direction=direction)
        other, _ = exactly(lg, make(lg), temperature, direction)
        assert_near(s.between, other[0], temperature)
        assert_near(s.within, other[1], temperature)
        for value in (s.total.sum(), s.within.sum()):
            assert bool(torch.autograd.grad(value, student, retain_graph=True)[0].isfinite().all())


@directions
@pytest.mark.parametrize("size", [1e4, 6e4])
def test_huge_logits_of_one_sign_each_are_finite(direction: Direction, size: float) -> None:
    student, teacher = (size * cases.random_logits(5, 40, 1.0, seed).sign().float() for seed in (0, 1))
    student.requires_grad_()
    lg = Logits(student, teacher, torch.arange(5))
    s = fr.split_kl(student, teacher, fr.by_top(lg, 3), 1.0, fused=True, direction=direction)
    value = s.total.sum() + s.within.sum()
    assert bool(value.isfinite())
    assert bool(torch.autograd.grad(value, student)[0].isfinite().all())


@partitions
def test_reverse_is_forward_of_swapped_networks(make: Make) -> None:
    lg = rows()
    one = compiled_split(lg.student, lg.teacher, make(lg), 4.0, as_direction("reverse"))
    other = compiled_split(lg.teacher, lg.student.detach(), make(lg), 4.0)
    for a, b in zip(one[:2], other[:2], strict=True):
        assert_near(a, b.double(), 4.0)
    for a, b in zip(one[2:], other[:1:-1], strict=True):  # the masses, -inf where a group is empty
        assert_equal(a.exp(), b.exp(), rtol=1e-6)


def masked(lg: Logits, at: Tensor) -> Logits:
    student, teacher = (z.detach().masked_fill(at, -torch.inf) for z in (lg.student, lg.teacher))
    return Logits(student.requires_grad_(), teacher, lg.target)


@pytest.mark.parametrize("direction", [fr.Direction("forward"), *DIRECTIONS], ids=str)
def test_a_class_that_both_mask_is_not_there(direction: Direction) -> None:
    """Logits of -inf on both sides, by the kernels and by tensor operations, as if the class were cut off."""
    lg = rows(5, 37)
    at = torch.zeros(5, 37, dtype=torch.bool)
    at[:, 30:] = True
    hidden = masked(Logits(lg.student, lg.teacher, lg.target % 30), at)
    cut = Logits(lg.student.detach()[:, :30].clone().requires_grad_(), lg.teacher[:, :30], hidden.target)
    for fused in (True, False):
        for make in (whole, fr.by_target, lambda x: fr.by_top(x, 3)):
            one, other = (
                fr.split_kl(x.student, x.teacher, make(x), 2.0, fused=fused, direction=direction) for x in (hidden, cut)
            )
            assert_equal(one.total, other.total, rtol=1e-6)
            grads = [torch.autograd.grad(s.total.sum(), x.student)[0] for s, x in ((one, hidden), (other, cut))]
            assert_equal(grads[0][:, :30], grads[1], rtol=1e-5)
            assert float(grads[0][:, 30:].abs().max()) < 1e-30


@directions
def test_an_infinite_or_nan_logit_comes_through_in_its_own_row(direction: Direction) -> None:
    for who in ("student", "teacher"):
        for bad in (torch.nan, torch.inf):
            lg = rows()
            getattr(lg, who).data[1, 4] = bad
            s = compiled_split(lg.student, lg.teacher, Partition((Group(torch.full((5, 1), 3)),), 37), 4.0, direction)
            assert (s[0] + s[1].sum(1)).isfinite().tolist() == [True, False, True, True, True]


@directions
def test_second_derivatives_go_through_the_plain_path(direction: Direction) -> None:
    lg = rows(3, 9)
    part = fr.by_top(lg, 3)

    def twice(loss: Tensor) -> Tensor:
        (grad,) = torch.autograd.grad(loss, lg.student, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), lg.student)[0]

    found = []
    for split in (compiled_split, directed_split):
        between, within, *_ = split(lg.student, lg.teacher, part, 2.0, direction)
        found.append(twice((between + 0.5 * within.sum(1)).mean()))
    found.append(twice(compiled_mean(lg.student, lg.teacher, part, 2.0, (1.0, 0.5, 0.5), direction)))
    assert_equal(found[0], found[1], rtol=2e-5)
    assert_equal(found[2], found[1], rtol=2e-5)


@directions
def test_results_do_not_depend_on_the_number_of_threads(direction: Direction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_split, "SHARE", 16)
    lg = rows(7, 33)
    found = []
    for threads in (1, 2, 3, 16):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        parts = compiled_split(lg.student, lg.teacher, fr.by_top(lg, 3), 4.0, direction)
        mean = compiled_mean(lg.student, lg.teacher, fr.by_top(lg, 3), 4.0, (1.0, 0.5, 2.0), direction)
        found.append([*parts, *gradients(parts, lg.student), mean, *torch.autograd.grad(mean, lg.student)])
    for other in found[1:]:
        assert all(bool((a == b).all()) for a, b in zip(found[0], other, strict=True))
    with pytest.raises(IndexError, match="does not exist"):
        compiled_split(lg.student, lg.teacher, Partition((Group(torch.full((7, 1), 99)),), 33), 4.0, direction)


@directions
def test_at_the_teacher_all_is_zero(direction: Direction) -> None:
    teacher = rows(5, 100).teacher
    student = (teacher + 3.0).requires_grad_()
    lg = Logits(student, teacher, torch.arange(5))
    s = fr.split_kl(student, teacher, fr.by_top(lg, 3), 4.0, fused=True, direction=direction)
    assert float(s.total.detach().abs().max()) < 2e-6 * 16
    assert float(torch.autograd.grad(s.total.sum(), student)[0].abs().max()) < 1e-5


METHODS = {
    "kd": lambda d: fr.methods.kd(direction=d),
    "dkd": lambda d: fr.methods.dkd(direction=d),
    "gdkd": lambda d: fr.methods.gdkd(k=3, direction=d),
    "gdkd3": lambda d: fr.methods.gdkd3(k=4, direction=d),
}


@directions
@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_one_look_at_the_logits(name: str, direction: Direction) -> None:
    method, progress, lg = METHODS[name](direction), fr.Progress(epoch=3), rows()
    at_once = method._at_once(lg, progress)
    assert at_once is not None
    means = {part: x.mean() for part, x in method.components(lg, progress).items()}
    (slow,) = method.combine(means, progress).values()
    assert_equal(at_once, slow, rtol=1e-5)
    grads = [torch.autograd.grad(x, lg.student)[0] for x in (at_once, slow)]
    assert_equal(*grads, "gradient", rtol=2e-5)


def test_no_rows() -> None:
    lg = rows(0, 9)
    for direction in DIRECTIONS:
        loss = compiled_mean(lg.student, lg.teacher, fr.by_target(lg), 4.0, (1.0, 0.0, 1.0), direction)
        assert loss.item() == 0
        assert torch.autograd.grad(loss, lg.student)[0].shape == (0, 9)
