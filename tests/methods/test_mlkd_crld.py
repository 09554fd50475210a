"""MLKD and CRLD: two views, masks per row or as fractions, and their decoupled twins."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Method, Progress
from fractionate.losses import batch_relation, class_relation
from tests import asserts, cases
from tests.reference import dkd as dkd_twin
from tests.reference import mlkd as twin
from tests.reference.basics import kd

M = fr.methods
LATE = Progress(epoch=200)
TEMPERATURES = (4.0, 3.0, 5.0, 2.0, 6.0)
METHODS = {
    "mlkd": M.mlkd(),
    "mlkd, published": M.mlkd(form="published-code"),
    "mlkd, one view": M.mlkd(form="one_view"),
    "mlkd of dkd": M.mlkd(beta=2.0),
    "mlkd+deepkd": M.deepkd(M.mlkd(), keep=3),
    "crld": M.crld(),
    "crld of dkd": M.crld(alpha=1.0, beta=2.0),
    "crld+deepkd": M.deepkd(M.crld(), keep=3),
    "crld+deepkd, published": M.deepkd(M.crld(), rule="published-code"),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
GRADED = [pytest.param(lg, id=name) for name, lg in cases.graded() if lg.rows]


def rows_of(method: Method) -> asserts.Components:
    return lambda lg: method.components(lg, LATE)


def views(lg: Logits) -> twin.Views:
    return twin.Views(lg.student, lg.strong.student, lg.teacher, lg.strong.teacher)


def half(lg: Logits) -> Logits:
    """Rows of which some have a confident teacher on the weak view, some on the strong one."""
    sure = cases.confident(lg.rows, lg.classes, right=True)
    pick = (torch.arange(lg.rows) % 2 == 0)[:, None]
    other = (torch.arange(lg.rows) % 3 == 0)[:, None]
    return cases.with_teacher(
        lg, torch.where(pick, sure.teacher, lg.teacher / 9), torch.where(other, sure.strong.teacher, lg.teacher / 9)
    )


@every_method
def test_values_and_gradients_are_right_and_finite(method: Method) -> None:
    asserts.assert_gradcheck(rows_of(method), cases.easy(n=2, c=4))
    for dtype in cases.LOW_PRECISION:
        asserts.assert_finite(rows_of(method), cases.cast(cases.huge(), dtype))


@every_method
def test_no_gradient_reaches_the_teacher_and_no_rows_give_zero(method: Method) -> None:
    asserts.assert_no_teacher_gradient(rows_of(method), cases.easy())
    asserts.assert_empty_batch_is_zero(lambda lg: method.loss(lg, LATE), cases.easy())


@every_method
def test_shifts_and_names_of_classes_change_nothing(method: Method) -> None:
    asserts.assert_shift_invariant(rows_of(method), cases.easy())
    asserts.assert_class_permutation_invariant(rows_of(method), cases.easy())


@every_method
def test_distillation_is_zero_where_the_student_equals_the_teacher(method: Method) -> None:
    """But for CRLD across the views, which compares logits of different images."""
    names = [n for n in method.parts if n != "task" and not n.startswith("cross")]
    asserts.assert_zero_at_teacher(rows_of(method), cases.easy(), names)


@pytest.mark.compiled
@every_method
def test_compiles(method: Method) -> None:
    asserts.assert_compiles_like_eager(rows_of(method), cases.easy())


@pytest.mark.parametrize("method", [M.mlkd(), M.crld()], ids=["mlkd", "crld"])
def test_a_missing_second_view_is_named(method: Method) -> None:
    with pytest.raises(ValueError, match="needs a second view"):
        method.components(cases.easy(strong=False))


@pytest.mark.parametrize("make", [M.mlkd, M.crld], ids=["mlkd", "crld"])
def test_labels_are_needed_by_the_decoupled_forms_only(make: object) -> None:
    lg = cases.easy()
    soft = asserts.with_target(lg, torch.nn.functional.one_hot(lg.target, lg.classes).double())
    make().components(soft)
    for method in (make(beta=2.0), M.deepkd(make())):
        with pytest.raises(ValueError, match="needs hard labels"):
            method.components(soft)


@pytest.mark.parametrize("make", [M.mlkd, M.crld], ids=["mlkd", "crld"])
def test_the_decoupled_twin_splits_the_method_and_changes_no_weight(make: object) -> None:
    """TCKD + (1 - a) NCKD is KD, row by row; with alpha and beta the twin is the method itself."""
    for lg in (cases.easy(), half(cases.easy())):
        for method in (make(), make(alpha=1.5, beta=2.0, warmup=300)):
            asserts.assert_equal(M.deepkd(method).loss(lg, LATE), method.loss(lg, LATE))


@pytest.mark.parametrize("make", [M.mlkd, M.crld], ids=["mlkd", "crld"])
def test_the_mask_acts_on_the_nontarget_stream_only(make: object) -> None:
    lg = cases.easy()
    plain, masked = (M.deepkd(make(beta=2.0), keep=k).stream_losses(lg, LATE, merge=False) for k in (None, 2))
    assert float((plain["nontarget"] - masked["nontarget"]).detach().abs()) > 1e-3
    for name in ("task", "target"):
        asserts.assert_equal(masked[name], plain[name], name)
    full = M.deepkd(make(beta=2.0), keep=lg.classes).stream_losses(lg, LATE, merge=False)
    asserts.assert_same(full, plain)


@pytest.mark.parametrize("arguments", [{"alpha": float("inf")}, {"beta": float("nan")}, {"temperature": 0.0}], ids=str)
def test_impossible_arguments_are_refused(arguments: dict[str, float]) -> None:
    for make in (M.mlkd, M.crld):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            make(**arguments)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_form_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'published-code'"):
        M.mlkd(form="published")


# -- MLKD ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lg", GRADED)
def test_masked_mlkd_equals_the_twin(lg: Logits) -> None:
    found, expected = M.mlkd().components(lg), twin.mlkd_masked(views(lg), TEMPERATURES)
    asserts.assert_equal(found["kd"], expected["weak"] + expected["strong"])
    asserts.assert_equal(found["class_correlation"].mean(), expected["cc"])
    asserts.assert_equal(found["batch_correlation"].mean(), expected["bc"])


@pytest.mark.parametrize("lg", GRADED)
def test_published_mlkd_equals_the_twin(lg: Logits) -> None:
    found = M.mlkd(form="published-code").components(lg)
    expected = twin.mlkd_published(views(lg), TEMPERATURES, views(lg))
    for name, short in (("kd", "kd"), ("class_correlation", "cc"), ("batch_correlation", "bc")):
        asserts.assert_equal(found[name].mean(), expected[short], name)


def test_one_view_is_masked_mlkd_without_the_strong_terms() -> None:
    lg = cases.easy()
    found, expected = M.mlkd(form="one_view").components(lg), twin.mlkd_masked(views(lg), TEMPERATURES)
    asserts.assert_equal(found["kd"], expected["weak"])
    asserts.assert_equal(found["task"], M.kd().components(lg)["task"])


def strong_gradient(method: Method, lg: Logits, name: str) -> Tensor:
    lg = asserts.with_leaf_students(lg)
    return asserts.student_gradients(method.components(lg, LATE)[name].sum(), lg)[1]


def test_the_strong_view_is_read_at_every_temperature_unless_as_published() -> None:
    lg = cases.easy()
    z = lg.strong.student.clone().requires_grad_()
    by_temperature = [torch.autograd.grad(kd(z, lg.strong.teacher, t).sum(), z)[0] for t in TEMPERATURES]
    asserts.assert_equal(strong_gradient(M.mlkd(), lg, "kd"), sum(by_temperature))
    asserts.assert_equal(strong_gradient(M.mlkd(form="published-code"), lg, "kd"), sum(by_temperature[:3]))
    for form in ("masked", "published-code"):  # DeepKD's code reads the strong view everywhere
        twin_method = M.deepkd(M.mlkd(form=form, alpha=1.0))
        z = lg.strong.student.clone().requires_grad_()
        terms = [dkd_twin.dkd(z, lg.strong.teacher, lg.target, temperature=t)["target"] for t in TEMPERATURES]
        (expected,) = torch.autograd.grad(sum(terms).sum(), z)
        asserts.assert_equal(strong_gradient(twin_method, lg, "target"), expected)


def test_only_unsure_rows_have_a_weak_gradient() -> None:
    lg = half(cases.easy())
    masked = asserts.with_leaf_students(lg)
    weak, _ = asserts.student_gradients(M.mlkd().components(masked)["kd"].sum(), masked)
    unsure = twin.unsure_rows(lg.teacher)
    assert torch.equal(weak.abs().sum(1) > 0, unsure)
    published = asserts.with_leaf_students(lg)
    weak, _ = asserts.student_gradients(M.mlkd(form="published-code").components(published)["kd"].sum(), published)
    assert bool((weak.abs().sum(1) > 0).all())


def test_fractions_multiply_batch_means_in_the_twin() -> None:
    lg = half(cases.easy())
    found = M.deepkd(M.mlkd(alpha=1.0, beta=1.0, form="one_view"), rule="published-code").components(lg, LATE)
    rows = twin.unsure_rows(lg.teacher).double().mean()
    expected = sum(dkd_twin.dkd(lg.student, lg.teacher, lg.target, temperature=t)["target"] for t in TEMPERATURES)
    asserts.assert_equal(found["target"], rows * expected)


def test_correlations_join_the_task_of_deepkd() -> None:
    method = M.deepkd(M.mlkd(ce_weight=0.5, kd_weight=0.25))
    streams = {s.name: s.components for s in method.streams}
    assert streams["task"] == ("task", "class_correlation", "batch_correlation")


def test_the_warmup_of_decoupled_mlkd_leaves_the_correlations_alone() -> None:
    half_way = Progress(epoch=10)
    for method, factor in ((M.mlkd(warmup=20), 0.5), (M.mlkd(beta=2.0, warmup=20), 1.0)):
        weights = {name: part.weight(half_way) for name, part in method.parts.items()}
        assert weights["class_correlation"] == pytest.approx(0.9 * factor)
        assert weights.get("kd", weights.get("target")) == pytest.approx(0.45)


@pytest.mark.parametrize("shape", [(3, 9), (9, 9), (12, 5)], ids=str)
def test_class_relation_is_the_same_by_rows_and_by_classes(shape: tuple[int, int]) -> None:
    lg = cases.easy(*shape)
    for student in (lg.student, lg.teacher + 1e-5 * lg.student):  # and where the two almost agree
        found = class_relation(student, lg.teacher, 2.0)
        expected = twin.class_correlation(student, lg.teacher, 2.0)
        assert float((found - expected).abs()) <= 1e-9 * float(expected)


@pytest.mark.parametrize("form", ["masked", "published-code", "one_view"])
def test_rows_of_weight_zero_are_not_there(form: str) -> None:
    lg, keep = cases.easy(n=9), torch.tensor([1, 0, 1, 1, 0, 1, 1, 0, 1]).bool()
    method = M.mlkd(form=form)
    expected = method.loss(lg[keep], LATE)
    asserts.assert_equal(method.loss(replace(lg, weight=keep.double()), LATE), expected)
    nothing = replace(lg, weight=torch.zeros(9).double())
    assert float(method.loss(nothing, LATE).detach()) == 0.0


def test_relations_of_one_row_and_of_one_class_mask() -> None:
    lg = cases.easy(n=5)
    only = torch.zeros(lg.classes).double()
    only[2] = 1
    p, q = (z.softmax(1)[:, 2] for z in (lg.teacher, lg.student))
    expected = (p.square().sum() - q.square().sum()).square() / lg.classes
    asserts.assert_equal(class_relation(lg.student, lg.teacher, classes=only), expected)
    one = lg[:1]
    p, q = (z.softmax(1).square().sum(1) for z in (one.teacher, one.student))
    asserts.assert_equal(batch_relation(one.student, one.teacher), (p - q).square())


# -- CRLD ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lg", GRADED)
def test_crld_equals_the_twin(lg: Logits) -> None:
    expected = twin.crld(views(lg), inner=lambda s, t: kd(s, t, 4.0), tau_weak=0.9, tau_strong=0.2)
    found = M.crld().components(lg)
    asserts.assert_same({name: found[name] for name in expected}, expected)


@pytest.mark.parametrize("name", ["target", "nontarget"])
def test_decoupled_crld_equals_the_twin_per_row_and_as_fractions(name: str) -> None:
    lg = half(cases.easy())

    def inner(s: Tensor, t: Tensor) -> Tensor:
        return dkd_twin.dkd(s, t, lg.target, temperature=4.0)[name]

    for rule, published in (("paper", False), ("published-code", True)):
        found = M.deepkd(M.crld(beta=2.0), rule=rule).components(lg, LATE)
        expected = twin.crld(views(lg), inner=inner, tau_weak=0.9, tau_strong=0.2, published=published)
        for outer in ("within", "cross"):
            asserts.assert_equal(found[f"{outer}_{name}"], expected[f"{outer}_view"])


def test_one_confident_row_is_the_only_one_with_a_gradient() -> None:
    lg = cases.easy(n=4)
    teacher = lg.teacher / 100
    teacher[2, 5] = 30.0
    lg = asserts.with_leaf_students(cases.with_teacher(lg, teacher, lg.strong.teacher / 100))
    for method, rows in (
        (M.deepkd(M.crld()), [False, False, True, False]),
        (M.deepkd(M.crld(), rule="published-code"), [True] * 4),
    ):
        within = method.components(lg)["within_target"].sum()
        for grad in asserts.student_gradients(within, lg):
            assert (grad.abs().sum(1) > 0).tolist() == rows


def test_crld_is_row_wise_unless_its_masks_are_fractions() -> None:
    asserts.assert_equal_in_chunks(rows_of(M.crld()), half(cases.easy()), size=1)
    assert M.crld().row_wise
    assert not M.deepkd(M.crld(), rule="published-code").row_wise
