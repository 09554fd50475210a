"""A teacher stored as its best classes and the mass of the rest: what is exact, what is dropped, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Method, TopLogits
from fractionate.kernels.plain import Group, Partition
from fractionate.language.teachers import on_top_logits
from fractionate.losses.stored import coarse
from tests import cases
from tests.asserts import assert_equal, assert_same
from tests.methods.language import gradients, words

T = 2.0
K = 4


def problem(n: int = 6, c: int = 9) -> Logits:
    lg = cases.easy(n, c, strong=False)
    return replace(lg, student=lg.student.clone().requires_grad_())


def singles(lg: Logits, k: int) -> Partition:
    """Every one of the teacher's k best classes alone, and the rest."""
    top = fr.losses.top_classes(lg.teacher, k)
    return Partition(tuple(Group(top[:, i : i + 1]) for i in range(k)), lg.classes)


def stored(method: Method, lg: Logits, k: int = K, temperature: float = T) -> dict[str, Tensor]:
    """Components with the teacher in the rows replaced by one that must not be read."""
    top = TopLogits.of(lg.teacher, k, temperature)
    blind = replace(lg, teacher=torch.full_like(lg.teacher, torch.nan))
    return on_top_logits(method, top).components(blind)


def assert_same_with_gradients(found: Tensor, expected: Tensor, lg: Logits) -> None:
    assert_equal(found, expected)
    a, b = (torch.autograd.grad(x.sum(), lg.student, retain_graph=True)[0] for x in (found, expected))
    assert_equal(a, b, "gradient")


@given(k=st.integers(1, 8), temperature=st.sampled_from([0.5, 1.0, 4.0]), seed=st.integers(0, 99))
def test_kd_is_the_between_of_the_stored_classes_alone_and_the_rest(k: int, temperature: float, seed: int) -> None:
    lg = replace(problem(), teacher=cases.easy(6, 9, seed).teacher)
    found = stored(fr.methods.kd(temperature=temperature), lg, k, temperature)["kd"]
    between = fr.split_kl(lg.student, lg.teacher, singles(lg, k), temperature, fused=False).between
    assert_same_with_gradients(found, between, lg)


def test_what_kd_drops_is_the_rests_mass_times_the_divergence_inside_it() -> None:
    lg = problem()
    split = fr.split_kl(lg.student, lg.teacher, singles(lg, K), T, fused=False)
    found = stored(fr.methods.kd(temperature=T), lg)["kd"]
    dense = fr.methods.kd(temperature=T).components(lg)["kd"]
    assert_same_with_gradients(found + split.mass[:, -1] * split.within[:, -1], dense, lg)


EXACT: dict[str, tuple[Method, list[str]]] = {
    "gdkd": (fr.methods.gdkd(k=3, temperature=T), ["task", "between", "top"]),
    "gdkd-all-stored": (fr.methods.gdkd(k=K, temperature=T), ["task", "between", "top"]),
    "gdkd-both": (fr.methods.gdkd(k=3, temperature=T, kl="both"), ["task", "between", "top"]),
    "gdkd3": (fr.methods.gdkd3(k=3, temperature=T), ["task", "between", "top"]),
    "dkd_top1": (fr.methods.dkd_top1(temperature=T), ["task", "target"]),
    "deepkd": (fr.methods.deepkd(fr.methods.gdkd(k=3, temperature=T)), ["task", "between", "top"]),
    "only": (fr.methods.only(fr.methods.gdkd(k=2, temperature=T), ["between"]), ["between"]),
    "dot": (fr.methods.dot(fr.methods.gdkd3(k=K, temperature=T)), ["task", "between", "top"]),
}


@pytest.mark.parametrize("name", EXACT)
def test_terms_without_a_relation_inside_the_rest_equal_the_dense_ones(name: str) -> None:
    method, exact = EXACT[name]
    lg = problem()
    dense, found = method.components(lg), stored(method, lg)
    for component in exact:
        assert_same_with_gradients(found[component], dense[component], lg)


def test_within_the_rest_only_the_stored_classes_are_told_apart() -> None:
    """GDKD's `other` is what a coarser look at the rest still sees; with all listed, nothing is left."""
    lg = problem()
    listed, mass = 2, fr.split_kl(lg.student, lg.teacher, fr.by_top(lg, 2), T).mass
    method = fr.methods.gdkd(k=listed, temperature=T)
    split = fr.split_kl(lg.student, lg.teacher, singles(lg, K), T, fused=False)
    share = split.mass[:, -1] / mass[:, -1]
    found, dense = stored(method, lg)["other"], method.components(lg)["other"]
    assert_same_with_gradients(found + share * split.within[:, -1], dense, lg)
    assert not stored(fr.methods.gdkd(k=K, temperature=T), lg)["other"].any()


def test_a_rest_of_large_mass_is_still_not_listed() -> None:
    """Flat teachers: the rest outweighs every stored class, and the top group holds the same classes all the same."""
    lg = problem(6, 50)
    lg = replace(lg, teacher=lg.teacher / 100)
    method = fr.methods.gdkd(k=3, temperature=T)
    top = TopLogits.of(lg.teacher, K, T)
    assert bool((T * top.rest > top.values[:, 0]).all())
    assert_same_with_gradients(stored(method, lg)["top"], method.components(lg)["top"], lg)


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("name", ["kd", *EXACT])
def test_the_linear_path_equals_the_rows_of_the_stored_teacher(name: str, chunk: int) -> None:
    method = fr.methods.kd(temperature=T) if name == "kd" else EXACT[name][0]
    w = words()
    kept = w.target != -100
    top = TopLogits.of(w.teacher, K, T)
    found = fr.linear_stream_losses(method, w.hidden, w.weight, w.target, teacher=top, bias=w.bias, chunk=chunk)
    lg = w.rows
    expected = on_top_logits(method, TopLogits.of(w.teacher[kept], K, T)).stream_losses(lg)
    assert_same(found, expected)
    for stream in expected:
        assert_same(gradients(found[stream], w.leaves), gradients(expected[stream], w.leaves))


def test_log_probabilities_and_their_total_give_the_same_rest() -> None:
    teacher = cases.easy(20, 9, strong=False).teacher
    top = TopLogits.of(teacher.log_softmax(1), K)
    again = TopLogits.from_total(top.values, top.indices, 0.0)
    assert_equal(again.rest, top.rest)
    hot = TopLogits.of(teacher, K, T)
    again = TopLogits.from_total(hot.values, hot.indices, (teacher / T).logsumexp(1), T)
    assert_equal(again.rest, hot.rest)


def test_a_rest_that_rounding_leaves_no_room_for_stays_finite() -> None:
    values = torch.tensor([[0.0, -200.0], [0.01, -3.0]])
    top = TopLogits.from_total(values, torch.tensor([[1, 2], [3, 4]]), 0.0)
    lg = Logits(torch.randn(2, 9, requires_grad=True), torch.zeros(2, 9), torch.tensor([0, 1]))
    for method in (fr.methods.kd(temperature=1.0), fr.methods.gdkd(k=2, temperature=1.0)):
        value = on_top_logits(method, top).loss(lg)
        (gradient,) = torch.autograd.grad(value, lg.student)
        assert bool(value.isfinite())
        assert bool(gradient.isfinite().all())


def test_huge_logits_stay_finite() -> None:
    lg = cases.huge()
    lg = replace(lg, strong=None, student=lg.student.clone().requires_grad_())
    found = stored(fr.methods.gdkd(k=2, temperature=T), lg, 3)
    assert all(bool(x.isfinite().all()) for x in found.values())
    assert bool(torch.autograd.grad(sum(x.sum() for x in found.values()), lg.student)[0].isfinite().all())


def test_it_may_be_stored_in_half_precision_and_small_integers() -> None:
    lg = problem()
    top = TopLogits.of(lg.teacher.bfloat16(), K, T)
    small = replace(top, indices=top.indices.int())
    rounded = replace(lg, teacher=lg.teacher.bfloat16().double())
    method = fr.methods.gdkd(k=3, temperature=T)
    found, dense = on_top_logits(method, small).components(lg), method.components(rounded)
    assert top.values.dtype == torch.bfloat16
    for component in ("between", "top"):
        assert_equal(found[component], dense[component], component, rtol=1e-6)


REFUSED: dict[str, tuple[Callable[[], Method], str]] = {
    "label": (lambda: fr.methods.dkd(temperature=T), "the label of 8 of 10 rows is not stored"),
    "label-of-kd": (lambda: fr.methods.deepkd(fr.methods.kd(temperature=T)), "the label of 8 of 10 rows is not stored"),
    "label-of-nkd": (lambda: fr.methods.nkd(), "nkd: cannot work on stored top classes; kd, dkd"),
    "mask": (lambda: fr.methods.deepkd(fr.methods.dkd(temperature=T), keep=5), "keep=5 may list more"),
    "schedule": (
        lambda: fr.methods.deepkd(fr.methods.dkd(temperature=T), keep=fr.schedules.phases(plateau=0.5)),
        "may list more classes",
    ),
    "transform": (lambda: fr.methods.lskd(fr.methods.kd(temperature=T)), "cannot work on stored top classes"),
    "prefix": (lambda: fr.methods.grouped(), "cannot work on stored top classes"),
    "own": (lambda: replace(fr.methods.kd(temperature=T), origin=None), "cannot work on stored top classes"),
    "more": (lambda: fr.methods.gdkd(k=5, temperature=T), "lists the 5 best classes, and 4 are stored"),
    "worst": (lambda: fr.methods.gdkd(k=2, temperature=T, largest=False), "lists the smallest logits"),
    "temperature": (lambda: fr.methods.dot(fr.methods.kd()), r"temperature 4.0, .* stored at 2.0 .*with_args"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_method_that_needs_more_than_is_stored_says_so(name: str) -> None:
    make, message = REFUSED[name]
    w = words()
    with pytest.raises(ValueError, match=message):
        fr.linear_loss(make(), w.hidden, w.weight, w.target, teacher=TopLogits.of(w.teacher, K, T))


LABELLED: dict[str, tuple[Method, list[str]]] = {
    "dkd": (fr.methods.dkd(temperature=T), ["task", "target"]),
    "dkd-reverse": (fr.methods.dkd(temperature=T, direction="reverse"), ["task", "target"]),
    "dkd-jsd": (fr.methods.dkd(temperature=T, direction="jsd"), ["task", "target"]),
    "drkl": (fr.methods.drkl(temperature=T), ["task", "target"]),
    "deepkd-dkd": (fr.methods.deepkd(fr.methods.dkd(temperature=T)), ["task", "target"]),
    "deepkd-kd": (fr.methods.deepkd(fr.methods.kd(temperature=T)), ["task", "target"]),
    "deepkd-mask": (fr.methods.deepkd(fr.methods.dkd(temperature=T), keep=3), ["task", "target", "nontarget"]),
}


@pytest.mark.parametrize("name", LABELLED)
def test_with_the_label_stored_methods_that_list_it_work(name: str) -> None:
    """Exact is what compares the label's mass with the others', and a mask that keeps stored classes alone; with every
    class but one stored, all is."""
    lg, (method, exact) = problem(), LABELLED[name]
    blind = replace(lg, teacher=torch.full_like(lg.teacher, torch.nan))
    dense = method.components(lg)
    for k, names in ((3, exact), (7, list(dense))):
        top = TopLogits.of(lg.teacher, k, T, labels=lg.target)
        assert top.k == k + 1
        assert bool((top.indices == lg.target[:, None]).any(1).all())
        assert_equal(top.values[:, :k], TopLogits.of(lg.teacher, k, T).values)
        found = on_top_logits(method, top).components(blind)
        for part in names:
            assert_same_with_gradients(found[part], dense[part], lg)


def test_what_dkd_drops_is_the_divergence_inside_the_rest() -> None:
    lg = problem()
    top = TopLogits.of(lg.teacher, 3, T, labels=lg.target)
    others = [i[i != y] for i, y in zip(top.indices, lg.target, strict=True)]
    part = Partition(
        (Group(lg.target[:, None]), *(Group(torch.stack(others)[:, j : j + 1]) for j in range(3))), lg.classes
    )
    fine = fr.split_kl(lg.student, lg.teacher, part, T, fused=False)
    lost = (fine.mass[:, -1] / (1 - fine.mass[:, 0])) * fine.within[:, -1]
    method = fr.methods.dkd(temperature=T)
    found = on_top_logits(method, top).components(lg)["nontarget"]
    assert_same_with_gradients(found + lost, method.components(lg)["nontarget"], lg)


def test_labels_that_are_ignored_need_not_be_stored() -> None:
    w = words()
    top = TopLogits.of(w.teacher, K, T, labels=w.target)
    assert top.best == K
    for method in (fr.methods.dkd(temperature=T), fr.methods.gdkd(k=K, temperature=T)):
        loss = fr.linear_loss(method, w.hidden, w.weight, w.target, teacher=top, chunk=3)
        assert bool(loss.isfinite())
    with pytest.raises(ValueError, match="lists the 5 best classes, and 4 are stored"):
        fr.linear_loss(fr.methods.gdkd(k=5, temperature=T), w.hidden, w.weight, w.target, teacher=top)


def test_the_advice_on_temperatures_works() -> None:
    w = words()
    top = TopLogits.of(w.teacher, K, T)
    method = fr.methods.dot(fr.methods.kd()).with_args(temperature=T)
    assert bool(fr.linear_loss(method, w.hidden, w.weight, w.target, teacher=top).isfinite())


@pytest.mark.usefixtures("unchecked")
def test_a_malformed_store_is_refused() -> None:
    values, indices, rest = torch.zeros(3, 2), torch.tensor([[0, 1]] * 3), torch.zeros(3)
    with pytest.raises(ValueError, match=r"rest \[...\], got \[3, 2\], \[3, 2\], \[2\]"):
        TopLogits(values, indices, rest[:2])
    with pytest.raises(ValueError, match="int32 or int64"):
        TopLogits(values, indices.float(), rest)
    with pytest.raises(ValueError, match="temperature must be positive"):
        TopLogits(values, indices, rest, 0.0)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.1"):
        TopLogits.of(values, 2)
    lg = Logits(torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"indices must lie in 0\.\.3, got 0\.\.7"):
        coarse(lg, TopLogits(values, torch.tensor([[0, 7]] * 3), rest))
    with pytest.raises(ValueError, match="expected 3 rows of fewer than 4"):
        coarse(lg, TopLogits(values[:2], indices[:2], rest[:2]))
