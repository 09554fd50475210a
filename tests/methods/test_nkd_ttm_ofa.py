"""NKD, TTM, WTTM, the OFA loss and logit matching."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Method, Progress
from fractionate.losses import power_mass
from tests import asserts, cases
from tests.reference import nkd as twin

M = fr.methods
LATE = Progress(epoch=200)
METHODS = {
    "nkd": M.nkd(),
    "nkd+deepkd": M.deepkd(M.nkd(temperature=2.0), keep=3),
    "ttm": M.ttm(),
    "wttm": M.wttm(),
    "ofa": M.ofa(gamma=1.4),
    "logit_mse": M.logit_mse(),
    "logit_mse, centred": M.logit_mse(center=True),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
GRADED = [pytest.param(lg, id=name) for name, lg in cases.graded() if lg.rows]


def rows_of(method: Method) -> asserts.Components:
    return lambda lg: method.components(lg, LATE)


def gradient(method: Method, lg: Logits, name: str) -> Tensor:
    lg = asserts.with_leaf_students(replace(lg, strong=None))
    return asserts.student_gradients(method.components(lg, LATE)[name].sum(), lg)[0]


@every_method
def test_values_and_gradients_are_right_and_finite(method: Method) -> None:
    asserts.assert_gradcheck(rows_of(method), cases.easy(n=3, strong=False))
    for dtype in cases.LOW_PRECISION:
        for size in (200, 1e4):
            asserts.assert_finite(rows_of(method), cases.cast(cases.huge(size=size), dtype))
    for _, lg in cases.graded():
        asserts.assert_finite(rows_of(method), lg)


@every_method
def test_rows_are_independent_and_the_teacher_gets_no_gradient(method: Method) -> None:
    rows, lg = rows_of(method), cases.easy(strong=False)
    asserts.assert_equal_in_chunks(rows, lg, size=1)
    asserts.assert_rows_independent(rows, lg)
    asserts.assert_class_permutation_invariant(rows, lg)
    asserts.assert_no_teacher_gradient(rows, lg)
    asserts.assert_empty_batch_is_zero(lambda lg: method.loss(lg, LATE), lg)
    keep = torch.tensor([True, False, True, True, False, True])
    asserts.assert_ignored_rows_equal_dropped(lambda lg: method.loss(lg, LATE), lg, keep)


@pytest.mark.parametrize("name", [n for n in METHODS if n != "logit_mse"])
def test_a_shift_of_the_logits_changes_nothing(name: str) -> None:
    asserts.assert_shift_invariant(rows_of(METHODS[name]), cases.easy(strong=False))


@pytest.mark.compiled
@every_method
def test_compiles(method: Method) -> None:
    asserts.assert_compiles_like_eager(rows_of(method), cases.easy(strong=False))


# -- NKD -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lg", GRADED)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_nkd_equals_the_twin(lg: Logits, temperature: float) -> None:
    found = M.nkd(temperature=temperature).components(lg)
    expected = twin.nkd(lg.student, lg.teacher, lg.target, temperature=temperature)
    for name in expected:
        asserts.assert_equal(found[name], expected[name], name)


@pytest.mark.parametrize("keep", [None, 3])
def test_the_nontarget_gradient_of_nkd_is_that_of_nckd(keep: int | None) -> None:
    lg = cases.easy()
    a, b = (M.deepkd(m, keep=keep) for m in (M.nkd(temperature=4.0), M.dkd(temperature=4.0)))
    asserts.assert_equal(gradient(a, lg, "nontarget"), gradient(b, lg, "nontarget"))


def test_the_target_gradient_of_nkd_is_cross_entropy_weighted_by_the_teacher() -> None:
    lg = cases.easy()
    a = lg.teacher.softmax(1).gather(1, lg.target[:, None])
    label = torch.nn.functional.one_hot(lg.target, lg.classes)
    asserts.assert_equal(gradient(M.nkd(), lg, "target"), a * (lg.student.softmax(1) - label))


@pytest.mark.parametrize("make", [M.nkd, M.ofa], ids=["nkd", "ofa"])
def test_soft_labels_are_refused_or_reduced_to_their_best_class(make: object) -> None:
    lg = cases.easy(strong=False)
    soft = replace(lg, target=torch.nn.functional.one_hot(lg.target, lg.classes).double())
    with pytest.raises(ValueError, match="needs hard labels"):
        make().components(soft)
    asserts.assert_same(make(hard="argmax").components(soft), make().components(lg))


@pytest.mark.parametrize("make", [M.ttm, M.wttm, M.logit_mse], ids=["ttm", "wttm", "logit_mse"])
def test_label_free_methods_take_soft_labels_and_have_no_roles(make: object) -> None:
    lg = cases.easy(strong=False)
    soft = replace(lg, target=torch.full_like(lg.teacher, 1 / lg.classes))
    asserts.assert_same(*({n: x for n, x in make().components(r).items() if n != "task"} for r in (soft, lg)))
    with pytest.raises(ValueError, match="without a role"):
        M.deepkd(make())
    assert M.dot(make()).backward_passes == 2


# -- TTM and WTTM ----------------------------------------------------------------------------


@pytest.mark.parametrize("lg", GRADED)
@pytest.mark.parametrize("power", [0.1, 0.5, 1.0, 2.0])
def test_ttm_and_wttm_equal_the_twins(lg: Logits, power: float) -> None:
    for make, slow in ((M.ttm, twin.ttm), (M.wttm, twin.wttm)):
        found = make(l=power).components(lg)[make.__name__]
        asserts.assert_equal(found, slow(lg.student, lg.teacher, power=power))


def test_power_one_is_kd_at_temperature_one_with_unit_weights() -> None:
    lg = cases.easy()
    expected = M.kd(temperature=1.0).components(lg)["kd"]
    for make in (M.ttm, M.wttm):
        asserts.assert_equal(make(l=1.0).components(lg)[make.__name__], expected)


@pytest.mark.parametrize("power", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("lg", GRADED)
def test_the_weight_of_wttm_lies_between_one_and_its_bound(lg: Logits, power: float) -> None:
    u = power_mass(lg.teacher, power)
    assert bool((u >= 1 - 1e-12).all())
    assert bool((u <= lg.classes ** (1 - power) * (1 + 1e-12)).all())


def test_the_gradient_of_wttm_is_the_weighted_difference_of_probabilities() -> None:
    lg = cases.easy()
    gap = lg.student.softmax(1) - (0.2 * lg.teacher).softmax(1)
    expected = (lg.teacher.softmax(1) ** 0.2).sum(1, keepdim=True) * gap
    asserts.assert_equal(gradient(M.wttm(l=0.2), lg, "wttm"), expected)
    asserts.assert_equal(gradient(M.ttm(l=0.2), lg, "ttm"), gap)


# -- OFA -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lg", GRADED)
@pytest.mark.parametrize("gamma", [1.0, 1.5])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_ofa_equals_the_twin(lg: Logits, gamma: float, temperature: float) -> None:
    found = M.ofa(gamma=gamma, temperature=temperature).components(lg)["ofa"]
    asserts.assert_equal(found, twin.ofa(lg.student, lg.teacher, lg.target, gamma=gamma, temperature=temperature))


def test_ofa_with_exponent_one_is_soft_cross_entropy() -> None:
    lg = cases.easy()
    expected = -(lg.teacher.softmax(1) * lg.student.log_softmax(1)).sum(1)
    asserts.assert_equal(M.ofa().components(lg)["ofa"], expected)


@pytest.mark.parametrize("gamma", [1.0, 1.7])
def test_the_gradient_of_ofa_has_its_closed_form(gamma: float) -> None:
    lg, temperature = cases.easy(), 2.0
    p, q = ((z / temperature).softmax(1) for z in (lg.teacher, lg.student))
    label = torch.nn.functional.one_hot(lg.target, lg.classes)
    r = (p + label) ** gamma - label
    assert bool((r.gather(1, lg.target[:, None]) >= 0).all())
    expected = (r.sum(1, keepdim=True) * q - r) / temperature
    asserts.assert_equal(gradient(M.ofa(gamma=gamma, temperature=temperature), lg, "ofa"), expected)


# -- logit matching --------------------------------------------------------------------------


def test_logit_mse_has_its_closed_form_and_gradient() -> None:
    lg = cases.easy()
    gap = lg.student - lg.teacher
    centred = gap - gap.mean(1, keepdim=True)
    for center, expected in ((False, gap), (True, centred)):
        method = M.logit_mse(center=center)
        asserts.assert_equal(method.components(lg)["mse"], expected.square().mean(1))
        asserts.assert_equal(gradient(method, lg, "mse"), 2 * expected / lg.classes)
        asserts.assert_zero_at_teacher(rows_of(method), lg, ["mse"])


def test_kd_tends_to_half_the_centred_logit_mse() -> None:
    lg = cases.easy()
    kd = M.kd(temperature=1e4).components(lg)["kd"]
    asserts.assert_equal(kd, M.logit_mse(center=True).components(lg)["mse"] / 2, rtol=1e-3)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [(M.nkd, {"gamma": -1.0}), (M.ttm, {"l": 0.0}), (M.wttm, {"weight": -1.0}), (M.ofa, {"gamma": 0.0})],
    ids=["nkd", "ttm", "wttm", "ofa"],
)
def test_impossible_arguments_are_refused(make: object, arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        make(**arguments)
