"""RLD: the teacher's confidence at the label and its order below it. Grouped KD: mass groups of KD."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Method, Progress
from fractionate.losses import by_mass
from tests import asserts, cases, golden
from tests.reference import rld as twin
from tests.reference.basics import ranked
from tests.reference.lskd import standardize
from tests.reference.split import split_kl, with_rest

LATE = Progress(epoch=100)
METHODS = {
    "rld": fr.methods.rld(),
    "rld at one temperature": fr.methods.rld(alpha_temperature=4.0),
    "grouped": fr.methods.grouped(temperature=2.0),
    "grouped, all terms": fr.methods.grouped(theta=0.5, w_secondary=1.0),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
GRADED = [pytest.param(lg, id=name) for name, lg in cases.graded()]


def rows_of(method: Method) -> asserts.Components:
    return lambda lg: method.components(lg, LATE)


@every_method
def test_values_and_gradients_are_right_and_finite(method: Method) -> None:
    asserts.assert_gradcheck(rows_of(method), cases.easy(n=3, strong=False))
    for dtype in cases.LOW_PRECISION:
        for size in (200, 1e4):
            asserts.assert_finite(rows_of(method), cases.cast(cases.huge(size=size), dtype))
    for _, lg in cases.graded():
        asserts.assert_finite(rows_of(method), lg)


@every_method
def test_rows_are_independent_and_shifts_change_nothing(method: Method) -> None:
    rows, lg = rows_of(method), cases.easy(strong=False)
    asserts.assert_equal_in_chunks(rows, lg, size=1)
    asserts.assert_shift_invariant(rows, lg)
    asserts.assert_class_permutation_invariant(rows, lg)
    asserts.assert_no_teacher_gradient(rows, lg)
    asserts.assert_empty_batch_is_zero(lambda lg: method.loss(lg, LATE), lg)


@pytest.mark.compiled
@every_method
def test_compiles(method: Method) -> None:
    asserts.assert_compiles_like_eager(rows_of(method), cases.easy(strong=False))


# -- RLD -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [c for c in golden.cases("losses") if c.method == "RLD"], ids=lambda c: c.id)
def test_rld_reproduces_the_published_loss(case: golden.Case) -> None:
    h, x = case.hyper, case.inputs()
    s, t = (standardize(x[n]) if h["logit_stand"] else x[n] for n in ("student", "teacher"))
    names = ("alpha", "beta", "temperature", "alpha_temperature")
    method = fr.methods.rld(**{n: h[n] for n in names}, warmup=1, ce_weight=0.0)
    lg = Logits(s, t, x["target"])
    rows = {name: r.mean() for name, r in method.components(lg).items()}
    golden.assert_matches(case, {"scd": rows["target"], "mcd": rows["nontarget"], "total": method.loss(lg)}, x)


@pytest.mark.parametrize("lg", GRADED)
@pytest.mark.parametrize("alpha_temperature", [1.0, 4.0])
def test_rld_equals_the_twin(lg: Logits, alpha_temperature: float) -> None:
    if not lg.rows:
        return
    found = fr.methods.rld(alpha_temperature=alpha_temperature).components(lg)
    expected = twin.rld(lg.student, lg.teacher, lg.target, temperature=4.0, alpha_temperature=alpha_temperature)
    asserts.assert_equal(found["target"], expected["scd"])
    asserts.assert_equal(found["nontarget"], expected["mcd"])


def test_rld_is_dkd_where_the_teacher_is_right() -> None:
    lg = cases.confident(right=True)
    asserts.assert_same(
        fr.methods.rld(alpha_temperature=4.0).components(lg), fr.methods.dkd().components(lg), rtol=1e-9
    )


def test_rld_is_zero_below_a_label_that_is_the_minimum() -> None:
    teacher = torch.tensor([[3.0, 2.0, 0.0, 1.0]])
    lg = asserts.with_leaf_students(Logits(torch.randn(1, 4), teacher, torch.tensor([2])))
    below = fr.methods.rld().components(lg)["nontarget"]
    assert float(below.detach()) == 0.0
    assert not bool(asserts.student_gradients(below.sum(), lg)[0].any())


def test_classes_that_tie_with_the_label_are_left_out() -> None:
    teacher = torch.tensor([[3.0, 2.0, 2.0, 1.0, 0.0]])
    a, b = torch.randn(2, 1, 5).double()
    b[:, 3:] = a[:, 3:]
    y = torch.tensor([1])
    rows = [fr.methods.rld().components(Logits(z, teacher.double(), y))["nontarget"] for z in (a, b)]
    assert torch.equal(*rows)


def test_the_gradient_of_the_confidence_is_the_printed_formula() -> None:
    lg, T = asserts.with_leaf_students(cases.easy(strong=False)), 2.0
    (grad,) = asserts.student_gradients(fr.methods.rld(alpha_temperature=T).components(lg)["target"].sum(), lg)
    p = torch.softmax(lg.student.detach() / T, 1)
    e = torch.nn.functional.one_hot(lg.target, lg.classes)
    sigma = (p * e).sum(1, keepdim=True)
    top = torch.softmax(lg.teacher / T, 1).amax(1, keepdim=True)
    asserts.assert_equal(grad, T * (sigma - top) * (e - p * (1 - e) / (1 - sigma)))


def test_rld_has_the_roles_of_dkd_and_no_mask() -> None:
    streams = {s.name: s.components for s in fr.methods.deepkd(fr.methods.rld(), delta_nontarget=0.01).streams}
    assert streams == {"task": ("task",), "target": ("target",), "nontarget": ("nontarget",)}
    with pytest.raises(ValueError, match="keep"):
        fr.methods.deepkd(fr.methods.rld(), keep=3)


# -- Grouped KD ------------------------------------------------------------------------------


def prefixes(teacher: Tensor, theta: float, temperature: float) -> list[list[int]]:
    """The shortest prefix of every row's ranking with a mass of theta, at most all but one class."""
    lists = []
    for row, p in zip(teacher, torch.softmax(teacher / temperature, 1), strict=True):
        order, mass, prefix = ranked(row), 0.0, []
        for c in order[:-1]:
            prefix.append(c)
            mass += float(p[c])
            if mass >= theta:
                break
        lists.append(prefix)
    return lists


@pytest.mark.parametrize("theta", [0.01, 0.5, 0.9, 1.0])
def test_the_primary_group_is_the_shortest_prefix_with_the_mass(theta: float) -> None:
    lg = cases.easy(n=20, strong=False)
    group = by_mass(lg, theta, 2.0).groups[0]
    found = [row[valid].tolist() for row, valid in zip(group.index, group.valid, strict=True)]
    assert found == prefixes(lg.teacher, theta, 2.0)


def test_grouped_weighs_the_primary_group_with_its_mass() -> None:
    lg = cases.easy(strong=False)
    rows = fr.methods.grouped(theta=0.6, temperature=2.0, w_secondary=1.0).components(lg)
    listed = with_rest([[prefix] for prefix in prefixes(lg.teacher, 0.6, 2.0)], lg.classes)
    split = split_kl(lg.student, lg.teacher, listed, 2.0)
    shared = split.mass * split.within
    expected = {"between": split.between, "primary": shared[:, 0], "secondary": shared[:, 1]}
    asserts.assert_same({name: rows[name] for name in expected}, expected)


@pytest.mark.parametrize("theta", [0.1, 0.9, 1.0])
def test_with_the_secondary_term_restored_grouped_kd_is_kd(theta: float) -> None:
    lg = cases.easy(strong=False)
    grouped = fr.methods.grouped(theta=theta, w_secondary=1.0, ce_weight=0.0)
    asserts.assert_equal(grouped.loss(lg), fr.methods.kd(kd_weight=1.0, ce_weight=0.0).loss(lg))


def test_the_secondary_term_is_dropped_by_default() -> None:
    assert list(fr.methods.grouped().parts) == ["task", "between", "primary"]


def test_grouped_reads_no_label_and_says_that_its_constants_are_a_reconstruction() -> None:
    method = fr.methods.grouped()
    assert not method.needs_labels
    assert "reconstruction" in repr(method)
    assert "reconstruction" in repr(fr.methods.dot(method.with_args(theta=0.8)))


@pytest.mark.parametrize(
    ("build", "wrong"),
    [
        (fr.methods.grouped, {"theta": 0.0}),
        (fr.methods.grouped, {"theta": 1.1}),
        (fr.methods.grouped, {"w_primary": float("nan")}),
        (fr.methods.rld, {"alpha_temperature": 0.0}),
        (fr.methods.rld, {"kl": "forwards"}),
    ],
)
def test_wrong_arguments_are_refused(build: object, wrong: dict[str, object], unchecked: None) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        build(**wrong)


@pytest.mark.parametrize("method", [fr.methods.rld(), fr.methods.sgdkd(), fr.methods.dgkd(), fr.methods.topkd(k=2)])
def test_methods_that_need_labels_refuse_soft_ones_and_say_what_to_do(method: Method) -> None:
    lg = cases.easy(strong=False)
    soft = Logits(lg.student, lg.teacher, torch.nn.functional.one_hot(lg.target, lg.classes).double())
    with pytest.raises(ValueError, match=r"hard='argmax'"):
        method.components(soft)
    found = method.with_args(hard="argmax").components(soft)
    asserts.assert_same(found, method.components(lg))
