"""The compiled kernels of the split equal the slow twin and the plain path, for every partition, dtype and layout."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from torch import Tensor

import fractionate as fr
from fractionate import Logits
from fractionate.kernels import c_split
from fractionate.kernels.c_library import library
from fractionate.kernels.c_split import compiled_mean, compiled_serves, compiled_split
from fractionate.kernels.plain import Group, Partition, plain_split
from fractionate.losses.partitions import whole
from tests import cases
from tests.asserts import assert_equal
from tests.losses.partitions import Problem, problems
from tests.reference import split as twin

pytestmark = pytest.mark.skipif(library() is None, reason="there are no compiled kernels: see FRACTIONATE_KERNEL")
PARTITIONS: dict[str, Callable[[Logits], Partition]] = {
    "whole": whole,
    "target": fr.by_target,
    "top": lambda lg: fr.by_top(lg, 5),
    "lowest": lambda lg: fr.by_top(lg, 3, largest=False),
    "top1-top": lambda lg: fr.by_top1_top(lg, 4),
    "target-top": lambda lg: fr.by_target_top(lg, 3),
    "all classes listed": lambda lg: fr.by_target_top(lg, lg.classes),
}
partitions = pytest.mark.parametrize("make", PARTITIONS.values(), ids=PARTITIONS)
EXTREME = dict(cases.graded())
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def rows(n: int = 5, c: int = 37, dtype: torch.dtype = torch.float32) -> Logits:
    lg = cases.cast(cases.easy(n, c, strong=False), dtype)
    return Logits(lg.student.requires_grad_(), lg.teacher, lg.target)


def gradients(parts: tuple[Tensor, ...], leaf: Tensor) -> list[Tensor]:
    """Of every output, and of all of them at once."""
    between, within, _, log_s = parts
    weight = torch.linspace(-1, 2, within.shape[1], dtype=within.dtype)
    # An empty group has the log mass -inf, of which nobody takes a derivative.
    outputs = [between.sum(), (within @ weight).sum(), log_s[log_s.isfinite()].sum()]
    return [torch.autograd.grad(x, leaf, retain_graph=True)[0] for x in (*outputs, sum(outputs))]


def assert_near(found: Tensor, exact: Tensor, temperature: float) -> None:
    """Ten times nearer than the page on large logits asks for, where the value is not near 0."""
    allowed = 1e-5 * exact.abs() + 1e-6 * temperature**2
    assert bool(((found.double() - exact).abs() <= allowed).all())


@given(p=problems())
def test_compiled_equals_the_slow_twin(p: Problem) -> None:
    """Also where groups are empty, and where the listed ones leave no class for the rest."""
    student = p.student.detach().float().requires_grad_()
    between, within, log_t, _ = compiled_split(student, p.teacher.float(), p.partition, p.temperature)
    exact = student.detach().double().requires_grad_()
    slow = twin.split_kl(exact, p.teacher.float().double(), p.listed, p.temperature)
    for fast, right in ((between, slow.between), (within, slow.within), (log_t.exp(), slow.mass)):
        assert_near(fast, right, p.temperature)
    weight = torch.linspace(-1, 2, p.groups)
    inside = (within @ weight).sum(), (slow.within @ weight.double()).sum()
    for fast, right in ((between.sum(), slow.between.sum()), inside):
        found = torch.autograd.grad(fast, student, retain_graph=True)[0]
        assert_near(found, torch.autograd.grad(right, exact, retain_graph=True)[0], p.temperature)


@partitions
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [0.5, 4.0, 20.0])
def test_compiled_and_plain_agree(make: Callable[[Logits], Partition], dtype: torch.dtype, temperature: float) -> None:
    """With float64 on the same logits; the gradient comes in the dtype of the logits."""
    lg = rows(dtype=dtype)
    assert compiled_serves(lg.student, lg.teacher)
    one = compiled_split(lg.student, lg.teacher, make(lg), temperature)
    exact = cases.cast(lg, torch.float64)
    leaf = exact.student.requires_grad_()
    other = plain_split(leaf, exact.teacher, make(lg), temperature, "forward")
    for fast, slow in zip(one[:2], other[:2], strict=True):
        assert_near(fast, slow, temperature)
    for fast, slow in zip(one[2:], other[2:], strict=True):  # -inf where a group is empty
        assert_equal(fast.exp().double(), slow.exp(), rtol=1e-6)
    for fast, slow in zip(gradients(one, lg.student), gradients(other, leaf), strict=True):
        assert_equal(fast.double(), slow, "gradient", rtol=max(1e-5, torch.finfo(dtype).eps))


@pytest.mark.parametrize("c", [2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 1023, 1024, 1025, 2049, 5000])
def test_every_number_of_classes(c: int) -> None:
    """Vectors have 4 to 16 lanes and sums are taken in blocks: remainders of every kind."""
    lg = rows(3, c)
    one = compiled_split(lg.student, lg.teacher, fr.by_top(lg, 1), 4.0)
    other = plain_split(lg.student, lg.teacher, fr.by_top(lg, 1), 4.0, "forward")
    assert_equal(one[1], other[1], rtol=2e-5)
    assert_equal(gradients(one, lg.student)[3], gradients(other, lg.student)[3], rtol=2e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("who", ["student", "teacher"])
@pytest.mark.parametrize("place", [0, 4, 36])
def test_what_is_not_finite_comes_through(bad: float, who: str, place: int) -> None:
    """In its own row only, whether the class is listed or not; quiet NaNs with a payload, too."""
    lg = rows()
    getattr(lg, who).data[1, place] = bad
    at = torch.full((5, 1), 4)
    between, within, *_ = compiled_split(lg.student, lg.teacher, Partition((Group(at),), 37), 4.0)
    total = between + within.sum(1)
    assert total.isfinite().tolist() == [True, False, True, True, True]
    if math.isnan(bad):
        assert total[1].isnan()
        getattr(lg, who).data.view(torch.int32)[1, place] = 0x7FC00001
        assert compiled_split(lg.student, lg.teacher, whole(lg), 4.0)[1][1].isnan()


def layouts() -> dict[str, tuple[Tensor, Tensor]]:
    """The same logits in tensors with other strides."""
    lg = rows(4, 9)
    student, teacher = lg.student.detach(), lg.teacher
    wide = torch.zeros(4, 20)
    wide[:, 3:12] = student
    return {
        "part of a wider tensor": (wide[:, 3:12], teacher),
        "every second row": (student.repeat_interleave(2, 0)[::2], teacher),
        "one row for all": (student[:1].expand(4, -1), teacher),
        "classes apart": (student.T.contiguous().T, teacher),
        "teacher's classes apart": (student, teacher.T.contiguous().T),
    }


@pytest.mark.parametrize("name", list(layouts()))
def test_strides(name: str) -> None:
    """Read as they are, or left to torch."""
    student, teacher = layouts()[name]
    assert compiled_serves(student, teacher) == ("apart" not in name)
    leaf = student.detach().requires_grad_()
    lg = Logits(leaf, teacher, torch.tensor([0, 1, 2, 3]))
    one, other = (fr.split_kl(leaf, teacher, fr.by_target(lg), 4.0, fused=f) for f in (True, False))
    assert_equal(one.within, other.within, rtol=2e-5)
    grads = [torch.autograd.grad(s.total.sum(), leaf)[0] for s in (one, other)]
    assert_equal(*grads, rtol=2e-5)


def test_strides_of_a_partition() -> None:
    """Groups may be columns of a larger tensor, in any order of memory, or one row for all."""
    lg = rows(4, 9)
    index, valid = torch.tensor([[0, 1], [2, 3], [4, 5], [6, 7]]), torch.tensor([[True, False]] * 4)
    for make in (
        Tensor.clone,
        lambda x: x.T.contiguous().T,
        lambda x: x.repeat(1, 2)[:, :2],
        lambda x: x[:1].expand(4, 2),
    ):
        partition = Partition((Group(make(index), make(valid)),), 9)
        one = compiled_split(lg.student, lg.teacher, partition, 4.0)
        assert_equal(one[1], plain_split(lg.student, lg.teacher, partition, 4.0, "forward")[1], rtol=2e-5)


@pytest.mark.parametrize("wrong", [-1, 9, 2**40])
def test_a_class_that_does_not_exist_is_an_error(wrong: int) -> None:
    lg = rows(2, 9)
    with pytest.raises(IndexError, match="a class of the partition does not exist"):
        compiled_split(lg.student, lg.teacher, Partition((Group(torch.tensor([[1], [wrong]])),), 9), 4.0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dtypes", [(torch.int32, torch.bool), (torch.int64, torch.int32)], ids=["index", "valid"])
def test_a_partition_of_another_dtype_is_an_error(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    lg, group = rows(2, 9), Group(*(torch.ones(2, 1).to(dtype) for dtype in dtypes))
    with pytest.raises(IndexError, match=r"must be torch\..* on cpu, got torch\.int32"):
        compiled_split(lg.student, lg.teacher, Partition((group,), 9), 4.0)


@pytest.mark.parametrize("name", ["dtype", "device"])
def test_defaults_of_torch_do_not_matter(name: str) -> None:
    lg = rows(2, 9)
    partition, weights = fr.by_target(lg), (1.0, 0.0, 1.0)
    expected = compiled_mean(lg.student, lg.teacher, partition, 4.0, weights)
    (set_default, value, before) = {
        "dtype": (torch.set_default_dtype, torch.float64, torch.get_default_dtype()),
        "device": (torch.set_default_device, "meta", None),
    }[name]
    set_default(value)
    try:
        between, within, *_ = compiled_split(lg.student, lg.teacher, partition, 4.0)
        found = compiled_mean(lg.student, lg.teacher, partition, 4.0, weights)
    finally:
        set_default(before)
    assert found.dtype == between.dtype == torch.float32
    assert_equal(found, expected, rtol=0)
    assert_equal((between + within[:, 1]).mean(), expected, rtol=1e-6)


def test_a_partition_of_other_rows_is_an_error() -> None:
    lg = rows(2, 9)
    with pytest.raises(IndexError, match="has 1 rows, the logits have 2"):
        compiled_split(lg.student, lg.teacher, Partition((Group(torch.tensor([[1]])),), 9), 4.0)


@partitions
def test_the_mean_is_that_of_the_rows(make: Callable[[Logits], Partition]) -> None:
    lg = rows()
    partition = make(lg)
    weights = tuple(torch.linspace(0.5, 2, 1 + partition.size).tolist())
    at_once = compiled_mean(lg.student, lg.teacher, partition, 4.0, weights)
    between, within, *_ = plain_split(lg.student, lg.teacher, partition, 4.0, "forward")
    slow = (weights[0] * between + within @ torch.tensor(weights[1:])).mean()
    assert at_once.shape == ()
    assert_equal(at_once, slow, rtol=2e-5)
    for factor in (1.0, 0.25):
        grads = [torch.autograd.grad(factor * x, lg.student, retain_graph=True)[0] for x in (at_once, slow)]
        assert_equal(*grads, "gradient", rtol=2e-5)


@partitions
@pytest.mark.parametrize("name", EXTREME)
def test_the_mean_of_extreme_logits_is_finite_and_near_float64(make: Callable[[Logits], Partition], name: str) -> None:
    lg = cases.cast(EXTREME[name], torch.float32)
    exact, student = cases.cast(lg, torch.float64), lg.student.clone().requires_grad_()
    for temperature in (0.5, 1.0, 4.0, 20.0):
        mean = compiled_mean(student, lg.teacher, make(lg), temperature, (1.0,) * (1 + make(lg).size))
        between, within, *_ = plain_split(exact.student, exact.teacher, make(lg), temperature, "forward")
        assert bool(torch.autograd.grad(mean, student)[0].isfinite().all())
        if lg.rows:
            assert_near(mean.detach(), (between + within.sum(1)).mean(), temperature)


def test_a_gradient_that_was_given_away_is_made_again() -> None:
    lg = rows()
    loss = compiled_mean(lg.student, lg.teacher, fr.by_target(lg), 4.0, (1.0, 0.0, 2.0))
    first = torch.autograd.grad(loss, lg.student, retain_graph=True)[0]
    kept = first.clone()
    first.zero_()
    assert_equal(torch.autograd.grad(loss, lg.student)[0], kept, rtol=0)


def test_changed_logits_are_noticed_before_the_gradient() -> None:
    lg = rows()
    student = lg.student * 1
    loss = compiled_mean(student, lg.teacher, fr.by_target(lg), 4.0, (1.0, 0.0, 2.0))
    student.data_ptr()
    student.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@partitions
def test_second_derivatives_go_through_the_plain_path(make: Callable[[Logits], Partition]) -> None:
    lg = rows(3, 9)
    partition = make(lg)
    weights = (1.0, *[0.5] * partition.size)

    def twice(loss: Tensor) -> Tensor:
        (grad,) = torch.autograd.grad(loss, lg.student, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), lg.student)[0]

    found = []
    for split in (compiled_split, lambda *given: plain_split(*given, "forward")):
        between, within, *_ = split(lg.student, lg.teacher, partition, 2.0)
        found.append(twice((between + 0.5 * within.sum(1)).mean()))
    found.append(twice(compiled_mean(lg.student, lg.teacher, partition, 2.0, weights)))
    assert_equal(found[0], found[1], rtol=2e-5)
    assert_equal(found[2], found[1], rtol=2e-5)


def test_batched_gradients_go_through_the_plain_path() -> None:
    lg = rows(3, 9)
    jacobians = []
    for fused in (True, False):
        between = fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), 4.0, fused=fused).between
        row = torch.func.vmap(lambda v, x=between: torch.autograd.grad(x, lg.student, v, retain_graph=True)[0])
        jacobians.append(row(torch.eye(3)))
    assert_equal(*jacobians, rtol=2e-5)


def test_partitions_that_torch_operations_refuse_are_fused() -> None:
    """No class may be left for the rest: deepkd's mask at the end of its schedule."""
    lg = rows(3, 9)
    partition = fr.by_target_top(lg, 9)
    one, other = (fr.split_kl(lg.student, lg.teacher, partition, 4.0, fused=f) for f in (True, False))
    assert_equal(one.within, other.within, rtol=2e-5)
    with pytest.raises(ValueError, match="leave no class for the rest"):
        fr.split_kl(lg.student.double(), lg.teacher.double(), partition, 4.0, fused=True)


def test_no_rows() -> None:
    lg = rows(0, 9)
    loss = compiled_mean(lg.student, lg.teacher, fr.by_target(lg), 4.0, (1.0, 0.0, 1.0))
    assert loss.item() == 0
    assert torch.autograd.grad(loss, lg.student)[0].shape == (0, 9)
    assert compiled_split(lg.student, lg.teacher, fr.by_top(lg, 2), 4.0)[1].shape == (0, 2)


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit; and with more threads than rows."""
    monkeypatch.setattr(c_split, "SHARE", 16)
    lg = rows(7, 33)
    found = []
    for threads in (1, 2, 3, 16):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        parts = compiled_split(lg.student, lg.teacher, fr.by_top(lg, 3), 4.0)
        mean = compiled_mean(lg.student, lg.teacher, fr.by_top(lg, 3), 4.0, (1.0, 0.5, 2.0))
        found.append([*parts, *gradients(parts, lg.student), mean, *torch.autograd.grad(mean, lg.student)])
    for other in found[1:]:
        assert all(bool((a == b).all()) for a, b in zip(found[0], other, strict=True))
    with pytest.raises(IndexError, match="does not exist"):
        compiled_split(lg.student, lg.teacher, Partition((Group(torch.full((7, 1), 99)),), 33), 4.0)


def test_what_has_no_memory_of_its_own_is_left_to_torch() -> None:
    """Another device or dtype, a subclass, operations that somebody counts, a negated view."""
    from torch.utils.flop_counter import FlopCounterMode

    z = torch.zeros(2, 4)
    assert compiled_serves(z, z)
    for other in (z.double(), z.to("meta"), z.as_subclass(type("Odd", (Tensor,), {})), torch._neg_view(z)):
        assert not compiled_serves(other, other)
    assert not compiled_serves(z, z.half())
    with FlopCounterMode(display=False):
        assert not compiled_serves(z, z)


METHODS = {
    "kd": fr.methods.kd(),
    "dkd": fr.methods.dkd(),
    "dkd_top1": fr.methods.dkd_top1(),
    "gdkd": fr.methods.gdkd(k=3),
    "gdkd3": fr.methods.gdkd3(k=4),
    "only": fr.only(fr.methods.dkd(), ["nontarget"]),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_of_a_method_at_once_is_the_sum_of_its_means(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, progress, lg = METHODS[name], fr.Progress(epoch=3), rows()
    at_once = method._at_once(lg, progress)
    assert at_once is not None
    means = {part: x.mean() for part, x in method.components(lg, progress).items()}
    (slow,) = method.combine(means, progress).values()
    assert_equal(at_once, slow, rtol=1e-5)
    assert_equal(*(torch.autograd.grad(x, lg.student)[0] for x in (at_once, slow)), rtol=2e-5)
    assert_equal(method.loss(lg, progress), slow, rtol=1e-5)


def test_a_loss_goes_over_the_rows_where_they_are_needed() -> None:
    lg, progress, method = rows(), fr.Progress(), fr.methods.dkd()
    weighted = Logits(lg.student, lg.teacher, lg.target, weight=torch.arange(5.0))
    half = Logits(lg.student.half(), lg.teacher.half(), lg.target)
    double = Logits(lg.student.double(), lg.teacher.double(), lg.target)
    for other in (weighted, half, double):
        assert method._at_once(other, progress) is None
    for other in (fr.methods.dkd(kl="reverse"), fr.methods.deepkd(method, keep=3), fr.methods.dist()):
        assert other._at_once(lg, progress) is None


@pytest.mark.usefixtures("unchecked")
def test_a_loss_at_once_still_names_what_is_not_finite() -> None:
    lg = rows()
    lg.teacher[2, 3] = torch.nan
    with pytest.raises(ValueError, match="teacher logits are not finite in row 2"):
        fr.methods.dkd().loss(lg)
