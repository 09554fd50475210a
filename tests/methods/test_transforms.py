"""Standardised logits and swapped teachers, as functions of logits and around any method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Method, Progress
from fractionate.losses import standardize, swap_target
from tests import asserts, cases
from tests.reference import lskd as twin
from tests.reference import rld as swap_twin

M = fr.methods
LATE = Progress(epoch=200)
TRANSFORMED = {
    "kd+lskd": M.lskd(M.kd(kd_weight=1.0)),
    "dkd+lskd": M.lskd(M.dkd()),
    "gdkd+lskd": M.lskd(M.gdkd(k=3)),
    "dkd+swap": M.swap(M.dkd()),
    "gdkd3+swap+lskd": M.lskd(M.swap(M.gdkd3())),
}
every_transform = pytest.mark.parametrize("method", TRANSFORMED.values(), ids=TRANSFORMED)
BASES = {
    "kd": M.kd(),
    "dkd": M.dkd(),
    "gdkd": M.gdkd(k=3),
    "nkd": M.nkd(),
    "mlkd": M.mlkd(),
    "crld": M.crld(beta=2.0),
}
every_base = pytest.mark.parametrize("base", BASES.values(), ids=BASES)
GRADED = [pytest.param(lg, id=name) for name, lg in cases.graded()]


def rows_of(method: Method) -> asserts.Components:
    return lambda lg: method.components(lg, LATE)


def assert_same_training(a: Method, b: Method, lg: Logits) -> None:
    """The same stream losses under the same momenta."""
    asserts.assert_same(a.stream_losses(lg, LATE, merge=False), b.stream_losses(lg, LATE, merge=False))
    assert dict(a.momenta(0.8)) == dict(b.momenta(0.8))
    assert a.update == b.update


@every_transform
def test_values_and_gradients_are_right_and_finite(method: Method) -> None:
    asserts.assert_gradcheck(rows_of(method), cases.easy(n=3, strong=False))
    for dtype in cases.LOW_PRECISION:
        for size in (200, 1e4):
            asserts.assert_finite(rows_of(method), cases.cast(cases.huge(size=size), dtype))
    for _, lg in cases.graded():
        asserts.assert_finite(rows_of(method), lg)


@every_transform
def test_rows_are_independent_and_the_teacher_gets_no_gradient(method: Method) -> None:
    rows, lg = rows_of(method), cases.easy(strong=False)
    asserts.assert_equal_in_chunks(rows, lg, size=1)
    asserts.assert_shift_invariant(rows, lg)
    asserts.assert_class_permutation_invariant(rows, lg)
    asserts.assert_no_teacher_gradient(rows, lg)
    asserts.assert_empty_batch_is_zero(lambda lg: method.loss(lg, LATE), lg)


@pytest.mark.compiled
@every_transform
def test_compiles(method: Method) -> None:
    asserts.assert_compiles_like_eager(rows_of(method), cases.easy(strong=False))


# -- standardize -----------------------------------------------------------------------------


@pytest.mark.parametrize("lg", GRADED)
def test_standardize_equals_the_twin_where_rows_vary(lg: Logits) -> None:
    z = lg.student[(lg.student - lg.student.mean(1, keepdim=True)).abs().sum(1) > 0]
    if len(z):
        asserts.assert_equal(standardize(z), twin.standardize(z))


def test_standardize_forgets_shift_and_scale_of_a_row() -> None:
    z = cases.easy().student
    a = torch.linspace(1, 9, len(z)).double()[:, None]
    asserts.assert_equal(standardize(a * z + 3 * a), standardize(z), rtol=1e-6)  # 1e-7 beside the deviation


def test_gradient_of_standardize_is_orthogonal_to_shift_and_scale() -> None:
    z = cases.easy().student.requires_grad_()
    upstream = cases.random_logits(*z.shape, 1.0, seed=9)
    (grad,) = torch.autograd.grad(standardize(z), z, upstream)
    asserts.assert_equal(grad.sum(1), torch.zeros(len(z)).double())
    asserts.assert_equal((grad * (z - z.mean(1, keepdim=True))).sum(1), torch.zeros(len(z)).double(), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, *cases.LOW_PRECISION], ids=str)
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e4])
def test_a_constant_row_is_zero_with_zero_gradient(value: float, dtype: torch.dtype) -> None:
    z = torch.full((2, 11), value, dtype=dtype, requires_grad=True)
    x = standardize(z)
    (grad,) = torch.autograd.grad(x, z, torch.arange(22.0).reshape(2, 11).to(x.dtype))
    assert torch.equal(x, torch.zeros_like(x))
    assert torch.equal(grad, torch.zeros_like(grad))


def test_an_almost_constant_row_is_small_with_zero_gradient() -> None:
    z = (torch.tensor([[0.0, 1.0, 2.0]]).double() * 1e-9).requires_grad_()
    x = standardize(z)
    (grad,) = torch.autograd.grad(x.square().sum(), z)
    assert float(x.detach().abs().max()) < 0.01
    assert torch.equal(grad, torch.zeros_like(grad))


# -- lskd ------------------------------------------------------------------------------------


def test_lskd_over_kd_is_kd_of_standardised_logits_with_a_raw_task() -> None:
    lg = cases.easy()
    found = M.lskd(M.kd(ce_weight=0.1, kd_weight=1.0), temperature=3.0).components(lg)
    z = replace(lg, student=twin.standardize(lg.student), teacher=twin.standardize(lg.teacher), strong=None)
    asserts.assert_equal(found["kd"], M.kd(temperature=3.0).components(z)["kd"])
    asserts.assert_equal(found["task"], M.kd().components(lg)["task"])


@every_base
def test_lskd_multiplies_every_distillation_weight_and_keeps_the_task(base: Method) -> None:
    method = M.lskd(base, weight=3.0)
    assert list(method.parts) == list(base.parts)
    for name, part in method.parts.items():
        factor = 1.0 if name == "task" else 3.0
        assert part.weight(LATE) == pytest.approx(factor * base.parts[name].weight(LATE))
        assert part.role == base.parts[name].role


def test_lskd_sets_the_temperature_or_keeps_it() -> None:
    lg = cases.easy()
    for temperature, same in ((2.0, M.kd(temperature=2.0)), (None, M.kd(temperature=5.0))):
        a = M.lskd(M.kd(temperature=5.0), temperature=temperature)
        asserts.assert_same(a.components(lg), M.lskd(same, temperature=None).components(lg))
    assert M.lskd(M.dot(M.deepkd(M.kd()))).with_args(temperature=7.0).origin.value("temperature") == 7.0
    plain = M.ttm()
    asserts.assert_same(M.lskd(plain).components(lg), M.lskd(plain, temperature=None).components(lg))


@every_base
def test_lskd_and_dot_commute(base: Method) -> None:
    assert_same_training(M.lskd(M.dot(base)), M.dot(M.lskd(base)), cases.easy())


@pytest.mark.parametrize("rule", ["paper", "published-code"])
@every_base
def test_lskd_and_deepkd_commute(base: Method, rule: str) -> None:
    keep = None if base.name == "gdkd" else 3
    both = (M.lskd(M.deepkd(base, rule=rule, keep=keep)), M.deepkd(M.lskd(base), rule=rule, keep=keep))
    assert_same_training(*both, cases.easy())


@pytest.mark.parametrize("base", [M.mlkd(), M.crld()], ids=["mlkd", "crld"])
def test_standardised_two_view_methods_change_under_deepkd_too(base: Method) -> None:
    lg = cases.easy()
    a, b = (M.deepkd(m).stream_losses(lg, LATE) for m in (base, M.lskd(base, temperature=None, weight=1.0)))
    assert all(float((a[name] - b[name]).detach().abs()) > 1e-3 for name in ("target",))


def test_both_views_are_standardised() -> None:
    """Scaling the student of either view changes no standardised term."""
    lg, method = cases.easy(), M.lskd(M.crld(tau_weak=0.0, tau_strong=0.0))
    expected = method.components(lg)
    for scaled in (replace(lg, student=3 * lg.student), replace(lg, strong=replace(lg.strong, student=lg.student))):
        found = method.components(scaled)
        same = scaled.strong is lg.strong
        for name in ("within_view", "cross_view"):
            equal = torch.allclose(found[name], expected[name], rtol=1e-6)
            assert equal == same, name


def test_only_mlkd_s_kl_terms_are_standardised() -> None:
    lg, base = cases.easy(), M.mlkd()
    raw = base.components(lg)
    found = M.lskd(base, temperature=None).components(lg)
    for name in ("task", "class_correlation", "batch_correlation"):
        asserts.assert_equal(found[name], raw[name], name)
    z = replace(lg, student=5 * lg.student, strong=replace(lg.strong, student=2 * lg.strong.student))
    asserts.assert_equal(M.lskd(base).components(z)["kd"], M.lskd(base).components(lg)["kd"], rtol=1e-6)


def seen_by(wrap: Callable[[Method], Method], lg: Logits) -> Logits:
    """The rows that a method inside the wrapper receives."""
    seen: list[Logits] = []

    def terms(rows: Logits, progress: Progress) -> dict[str, Tensor]:
        seen.append(rows)
        return {"kd": rows.student.sum(1)}

    wrap(replace(M.kd(), terms=terms, twin=None, origin=None)).components(lg)
    return seen[0]


def test_standardised_rows_are_still_ranked_by_the_raw_teacher() -> None:
    lg = cases.easy()
    rows = seen_by(M.lskd, lg)
    assert torch.equal(rows.rank_by, lg.teacher)
    assert torch.equal(rows.strong.rank_by, lg.strong.teacher)
    asserts.assert_equal(rows.strong.teacher, twin.standardize(lg.strong.teacher))


def test_further_teachers_are_transformed_with_the_first() -> None:
    lg = cases.easy(strong=False)
    lg = replace(lg, teachers=(2 * lg.teacher,))
    asserts.assert_equal(seen_by(M.lskd, lg).teachers[0], standardize(2 * lg.teacher))
    asserts.assert_equal(seen_by(M.swap, lg).teachers[0], swap_target(2 * lg.teacher, lg.target))


@pytest.mark.parametrize("arguments", [{"weight": -1.0}, {"temperature": 0.0}, {"weight": float("nan")}], ids=str)
def test_lskd_refuses_impossible_arguments(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"lskd: {next(iter(arguments))}"):
        M.lskd(M.kd(), **arguments)


# -- swap ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lg", GRADED)
def test_swap_equals_the_twin_and_makes_the_label_the_best_class(lg: Logits) -> None:
    found = swap_target(lg.teacher, lg.target)
    asserts.assert_equal(found, swap_twin.swap(lg.teacher, lg.target))
    assert torch.equal(found.sort(1).values, lg.teacher.sort(1).values), "the same values"
    assert torch.equal(found.gather(1, lg.target[:, None])[:, 0], found.amax(1) if lg.rows else found[:, 0])
    best = lg.teacher.argmax(1) if lg.rows else lg.target
    again = swap_target(lg.teacher, best)
    assert torch.equal(again, lg.teacher), "nothing to do where the label leads"


def test_swap_is_an_involution_of_the_row() -> None:
    lg = cases.confident(right=False)
    swapped = swap_target(lg.teacher, lg.target)
    assert torch.equal(swap_target(swapped, lg.teacher.argmax(1)), lg.teacher)


@every_base
def test_a_swap_changes_nothing_where_the_teacher_is_right(base: Method) -> None:
    lg = cases.confident(right=True)
    asserts.assert_same(M.swap(base).components(lg, LATE), base.components(lg, LATE))


@every_base
def test_a_swap_is_the_method_on_a_swapped_teacher(base: Method) -> None:
    lg = cases.confident(right=False)
    swapped = cases.with_teacher(lg, *(swap_target(v.teacher, v.target) for v in (lg, lg.strong)))
    found, expected = M.swap(base).components(lg, LATE), base.components(swapped, LATE)
    for name in set(found) - {"class_correlation", "batch_correlation"}:  # MLKD's correlations read raw logits
        asserts.assert_equal(found[name], expected[name], name)


def test_the_swapped_teacher_ranks_the_classes_also_over_standardised_logits() -> None:
    lg = cases.confident(right=False)
    for wrap in (M.swap, lambda m: M.swap(M.lskd(m)), lambda m: M.lskd(M.swap(m))):
        rows = seen_by(wrap, lg)
        assert torch.equal(rows.rank_by, swap_target(lg.teacher, lg.target))
        assert torch.equal(rows.teacher.argmax(1), lg.target)


def test_swap_composes_with_dot_and_deepkd_in_both_orders() -> None:
    lg = cases.easy()
    assert_same_training(M.swap(M.dot(M.dkd())), M.dot(M.swap(M.dkd())), lg)
    assert_same_training(M.swap(M.deepkd(M.kd(), keep=3)), M.deepkd(M.swap(M.kd()), keep=3), lg)


def test_swap_needs_hard_labels() -> None:
    lg = cases.easy(strong=False)
    soft = replace(lg, target=torch.nn.functional.one_hot(lg.target, lg.classes).double())
    with pytest.raises(ValueError, match="needs hard labels"):
        M.swap(M.kd()).components(soft)
    asserts.assert_equal(M.swap(M.kd(hard="argmax")).components(soft)["kd"], M.swap(M.kd()).components(lg)["kd"])


@pytest.mark.parametrize("value", [0.1, -0.3, 1e-30, 12345.678])
@pytest.mark.parametrize("classes", [3, 7, 100])
def test_a_constant_row_is_exactly_zero_whatever_its_value(value: float, classes: int) -> None:
    assert not standardize(torch.full((2, classes), value)).any()
