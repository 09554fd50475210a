"""TopKD, a reconstruction: what its three parts satisfy, alone, together and as plug-ins."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fractionate as fr
from fractionate import Logits, Progress
from fractionate.losses import logit_contrast, scale_top, top_cosine
from fractionate.methods.catalog import describe
from tests import asserts, cases
from tests.reference import topkd as twin

m = fr.methods
LATE = Progress(epoch=100)
CLASSES = 8
GRADED = [pytest.param(lg, id=name) for name, lg in cases.graded(CLASSES)]
FORMS = [{"k": 2}, {"k": 4}, {"k": 1, "scaling": "literal"}, {"k": 3, "center": True}]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))


def easy(n: int = 6) -> Logits:
    return cases.easy(n=n, c=CLASSES, strong=False)


def rows_of(method: fr.Method) -> asserts.Components:
    return lambda lg: method.components(lg, LATE)


# -- scale_top -------------------------------------------------------------------------------


@pytest.mark.parametrize("lg", GRADED)
@pytest.mark.parametrize("scaling", ["sign_safe", "literal"])
@pytest.mark.parametrize("k", [1, 3, 7])
def test_the_scaled_teacher_equals_the_twin(lg: Logits, scaling: str, k: int) -> None:
    if lg.rows:
        expected = twin.scale_top(lg.teacher, lg.target, k=k, literal=scaling == "literal")
        asserts.assert_equal(scale_top(lg.teacher, lg.target, k=k, scaling=scaling), expected, rtol=1e-12)


def test_only_the_top_and_the_label_change_and_none_of_them_falls() -> None:
    lg = easy(40)
    change = scale_top(lg.teacher, lg.target, k=3) - lg.teacher
    raised = torch.zeros_like(change, dtype=torch.bool).scatter(1, lg.teacher.topk(3).indices, True)
    raised = raised.scatter(1, lg.target[:, None], True)
    assert bool((change[raised] > 0).all())
    assert not bool(change[~raised].any())


def test_the_literal_rule_lowers_negative_labels_and_agrees_elsewhere() -> None:
    lg = easy(60)
    change = scale_top(lg.teacher, lg.target, k=3, scaling="literal") - lg.teacher
    assert bool((change.gather(1, lg.target[:, None]) < 0).any())
    positive = lg.teacher - lg.teacher.amin(1, keepdim=True)
    both = [scale_top(positive, lg.target, k=3, scaling=s) for s in ("sign_safe", "literal")]
    asserts.assert_equal(*both)


def test_a_missed_label_is_raised_more_than_the_best_class() -> None:
    v = torch.tensor([[4.0, 4.0 - 1e-9, 0.0, 0.0]]).double()
    right, wrong = (scale_top(v, torch.tensor([y]), k=1, lam=0.0) - v for y in (0, 1))
    asserts.assert_equal(right[0, :2], torch.tensor([2.0, 0.0]).double(), rtol=1e-8)
    asserts.assert_equal(wrong[0, :2], torch.tensor([2.0, 4.0]).double(), rtol=1e-8)


# -- top_cosine ------------------------------------------------------------------------------


@pytest.mark.parametrize("lg", GRADED)
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_cosines_equal_the_twin(lg: Logits, center: bool, k: int) -> None:
    if lg.rows:
        scaled = scale_top(lg.teacher, lg.target, k=k)
        expected = twin.top_cosine(lg.student, scaled, lg.teacher, k=k, center=center)
        asserts.assert_equal(top_cosine(lg.student, scaled, lg.teacher, k=k, center=center), expected)


@given(k=st.integers(1, 4), scales=st.tuples(*[st.floats(0.1, 10.0)] * 3), seed=st.integers(0, 99))
def test_the_cosine_term_is_zero_iff_each_group_is_a_positive_multiple(
    k: int, scales: tuple[float, float, float], seed: int
) -> None:
    v = cases.random_logits(1, CLASSES, 3.0, seed)
    order = v.argsort(dim=1, descending=True, stable=True)
    group = torch.tensor([0] * k + [1] * (CLASSES - 2 * k) + [2] * k)
    factors = torch.ones_like(v).scatter(1, order, torch.tensor(scales).double()[group][None])
    assert abs(float(top_cosine(factors * v, v, v, k=k))) < 1e-12
    assert float(top_cosine(-factors * v, v, v, k=k)) > 1


def test_the_cosine_term_ignores_the_scale_of_the_student_and_its_origin_if_centred() -> None:
    lg = easy()
    rows = top_cosine(lg.student, lg.teacher, lg.teacher, k=2)
    asserts.assert_equal(top_cosine(7 * lg.student, lg.teacher, lg.teacher, k=2), rows)
    assert not torch.allclose(top_cosine(lg.student + 3, lg.teacher, lg.teacher, k=2), rows)
    centred = [top_cosine(z, lg.teacher, lg.teacher, k=2, center=True) for z in (lg.student, lg.student + 3)]
    asserts.assert_equal(*centred)


def test_a_student_without_direction_gets_no_gradient() -> None:
    student = torch.zeros(2, CLASSES, requires_grad=True)
    teacher = torch.randn(2, CLASSES)
    for rows in (top_cosine(student, teacher, teacher, k=2), logit_contrast(student, teacher)):
        (grad,) = torch.autograd.grad(rows.sum(), student)
        assert not bool(grad.any())


@pytest.mark.parametrize("k", range(1, 5))
def test_every_k_up_to_half_of_the_classes_is_finite_and_more_is_refused(k: int) -> None:
    asserts.assert_finite(rows_of(m.topkd(k=k)), easy())
    with pytest.raises(ValueError, match=r"k must be an integer in 1\.\.4"):
        m.topkd(k=5).components(easy())


# -- logit_contrast --------------------------------------------------------------------------


def test_the_contrast_equals_the_twin() -> None:
    lg = easy()
    expected = twin.logit_contrast(lg.student, lg.teacher, tau=0.3)
    asserts.assert_equal(logit_contrast(lg.student, lg.teacher, tau=0.3), expected)


def test_one_row_has_nothing_to_contrast_with() -> None:
    lg = easy(1)
    assert logit_contrast(lg.student, lg.teacher).tolist() == [0.0]


def test_the_contrast_ignores_the_scale_of_every_row() -> None:
    lg = easy()
    scale = torch.linspace(0.1, 9, lg.rows).double()[:, None]
    asserts.assert_equal(logit_contrast(scale * lg.student, lg.teacher), logit_contrast(lg.student, lg.teacher))


def test_a_row_of_weight_zero_is_no_candidate_and_weights_have_no_scale() -> None:
    lg, keep = easy(), torch.tensor([True, False, True, True, False, True])
    dropped = logit_contrast(lg.student[keep], lg.teacher[keep])
    for scale in (1.0, 5.0):
        found = logit_contrast(lg.student, lg.teacher, weight=scale * keep.double())
        asserts.assert_equal(found[keep], dropped)
    assert bool(logit_contrast(lg.student, lg.teacher, weight=torch.zeros(6)).isfinite().all())


def test_the_contrast_stays_in_float32_under_autocast() -> None:
    lg = cases.cast(easy(), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = logit_contrast(lg.student, lg.teacher)
    assert torch.equal(inside, logit_contrast(lg.student, lg.teacher))


# -- the method ------------------------------------------------------------------------------


@every_form
def test_values_and_gradients_are_right_and_finite(form: dict[str, object]) -> None:
    rows = rows_of(m.topkd(**form))
    asserts.assert_gradcheck(rows, easy(3))
    asserts.assert_class_permutation_invariant(rows, easy())
    asserts.assert_no_teacher_gradient(rows, easy())
    for dtype in cases.LOW_PRECISION:
        asserts.assert_finite(rows, cases.cast(cases.huge(CLASSES), dtype))
    for _, lg in cases.graded(CLASSES):
        asserts.assert_finite(rows, lg)
    asserts.assert_empty_batch_is_zero(lambda lg: m.topkd(**form).loss(lg), easy())


def test_the_method_is_the_sum_of_its_parts() -> None:
    lg = easy()
    rows = m.topkd(k=2).components(lg)
    scaled = twin.scale_top(lg.teacher, lg.target, k=2)
    asserts.assert_equal(rows["decoupled"], twin.top_cosine(lg.student, scaled, lg.teacher, k=2))
    asserts.assert_equal(rows["contrastive"], twin.logit_contrast(lg.student, lg.teacher))
    total = (rows["task"] + 0.5 * rows["contrastive"] + 3 * rows["decoupled"]).mean()
    asserts.assert_equal(m.topkd(k=2, lam_con=0.5, lam_tdl=3.0).loss(lg), total)


def test_everything_that_prints_the_method_says_reconstruction() -> None:
    wrapped = [m.with_scaled_teacher(m.kd()), m.with_contrast(m.kd()), m.with_top_cosine(m.kd())]
    for method in (m.topkd(), m.topkd(k=3).with_args(tau=0.1), m.dot(m.topkd()), *wrapped):
        assert "[reconstruction]" in repr(method)
    for name in ("topkd", "with_scaled_teacher", "with_contrast", "with_top_cosine"):
        assert "reconstruction" in describe(name).source


def test_without_roles_deepkd_refuses_and_dot_works() -> None:
    with pytest.raises(ValueError, match="contrastive"):
        m.deepkd(m.topkd())
    assert [s.components for s in m.dot(m.topkd()).streams] == [("task",), ("contrastive", "decoupled")]


@pytest.mark.parametrize("wrong", [{"k": 0}, {"tau": 0.0}, {"gamma": -1.0}, {"scaling": "signsafe"}, {"lam": -0.1}])
def test_wrong_arguments_are_refused(wrong: dict[str, object], unchecked: None) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        m.topkd(**wrong)


@pytest.mark.compiled
@every_form
def test_compiles(form: dict[str, object]) -> None:
    asserts.assert_compiles_like_eager(rows_of(m.topkd(**form)), easy())
