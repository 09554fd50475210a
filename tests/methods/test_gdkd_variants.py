"""GDKD with automatic weights, automatic k and standardised logits; ADKD; DIST + GDKD."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Method, Progress
from fractionate.losses import class_mean, confidence_ratio
from tests import asserts, cases, golden
from tests.reference import dist as dist_twin
from tests.reference import gdkd as twin

m = fr.methods
LATE = Progress(epoch=100)
COUNTS = [1, 2, 6, 3, 3, 1, 5]
VARIANTS: dict[str, Method] = {
    "auto weight v1": m.gdkd_auto_weight(version="v1", k=2),
    "auto weight v2": m.gdkd_auto_weight(version="v2", k=2),
    "auto weight v3": m.gdkd_auto_weight(version="v3", k=2),
    "auto k": m.gdkd_auto_k(),
    "class k": m.gdkd_class_k(counts=COUNTS),
    "class k of the batch": m.gdkd_class_k(),
    "LS global": m.ls_gdkd(mode="global", k=2),
    "LS both": m.ls_gdkd(mode="both", k=2),
    "LS other": m.ls_gdkd(mode="other", k=2),
    "ADKD": m.adkd(betas=[1.0, 2.0, 0.5, 8.0, 3.0, 1.0, 4.0]),
    "ADKD of the batch": m.adkd(),
    "DIST + GDKD": m.dist_gdkd(k=2),
}
every_variant = pytest.mark.parametrize("method", VARIANTS.values(), ids=VARIANTS)


def rows_of(method: Method) -> asserts.Components:
    return lambda lg: method.components(lg, LATE)


def without_task(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x for name, x in rows.items() if name != "task"}


# -- what every variant must satisfy ---------------------------------------------------------


@every_variant
def test_gradients_agree_with_finite_differences(method: Method) -> None:
    asserts.assert_gradcheck(rows_of(method), cases.easy(n=3, strong=False))


@every_variant
@pytest.mark.parametrize("dtype", cases.LOW_PRECISION)
def test_values_and_gradients_are_finite_for_huge_logits(method: Method, dtype: torch.dtype) -> None:
    for size in (200, 1e4):
        asserts.assert_finite(rows_of(method), cases.cast(cases.huge(size=size), dtype))


@every_variant
def test_values_are_finite_and_the_teacher_gets_no_gradient_on_graded_rows(method: Method) -> None:
    for _, lg in cases.graded():
        asserts.assert_finite(rows_of(method), lg)
    asserts.assert_no_teacher_gradient(rows_of(method), cases.easy(strong=False))
    asserts.assert_empty_batch_is_zero(lambda lg: method.loss(lg, LATE), cases.easy(strong=False))


@every_variant
def test_shifts_of_a_row_change_nothing(method: Method) -> None:
    asserts.assert_shift_invariant(rows_of(method), cases.easy(strong=False))


@every_variant
def test_distillation_vanishes_at_the_teacher(method: Method) -> None:
    names = [name for name in method.parts if name not in ("task", "inter", "intra")]
    asserts.assert_zero_at_teacher(rows_of(method), cases.easy(strong=False), names)


@every_variant
def test_rows_are_independent_where_the_method_says_so(method: Method) -> None:
    if method.row_wise:
        asserts.assert_equal_in_chunks(rows_of(method), cases.easy(strong=False), size=1)
    else:
        with pytest.raises(AssertionError):
            asserts.assert_equal_in_chunks(rows_of(method), cases.easy(strong=False), size=1)


@every_variant
def test_rows_of_weight_zero_are_not_there(method: Method) -> None:
    lg = cases.easy(strong=False)
    keep = torch.tensor([True, False, True, True, False, True])
    dropped = Logits(lg.student[keep], lg.teacher[keep], lg.target[keep])
    weighted = Logits(lg.student, lg.teacher, lg.target, weight=keep.double())
    asserts.assert_equal(method.loss(weighted, LATE), method.loss(dropped, LATE))


@every_variant
def test_deepkd_finds_a_role_for_every_component(method: Method) -> None:
    streams = {s.name: set(s.components) for s in m.deepkd(method).streams}
    names = set(method.parts)
    expected = {"task": {"task", "inter", "intra"}, "target": {"target", "between"}}
    expected = {role: names & members for role, members in expected.items()}
    assert streams == {**expected, "nontarget": names - expected["task"] - expected["target"]}


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["auto k", "class k of the batch", "LS both", "ADKD"])
def test_compiles(name: str) -> None:
    asserts.assert_compiles_like_eager(rows_of(VARIANTS[name]), cases.easy(strong=False))


# -- automatic weights -----------------------------------------------------------------------

GOLDEN = [c for c in golden.cases("losses") if c.method in ("GDKDAutoW", "LS_GDKD")]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case.id)
def test_reproduces_the_published_loss(case: golden.Case) -> None:
    h, x = dict(case.hyper), case.inputs()
    common = {name: h[name] for name in ("k", "w1", "w2", "temperature")} | {"warmup": 1, "ce_weight": 0.0}
    if case.method == "LS_GDKD":
        method = m.ls_gdkd(mode=h["norm_mode"], w0=h["w0"], **common)
    else:
        method = m.gdkd_auto_weight(version=h["mode"], m1=h["m1"], m2=h["m2"], **common)
    lg = Logits(x["student"], x["teacher"], x["target"])
    rows = {name: r.mean() for name, r in method.components(lg).items()}
    results = {"high": rows["between"], "top": rows["top"], "other": rows["other"], "total": method.loss(lg)}
    golden.assert_matches(case, results, x)


def test_v1_with_unit_factors_is_kd() -> None:
    lg = cases.easy(c=10, strong=False)
    auto = m.gdkd_auto_weight(version="v1", m1=1.0, m2=1.0, k=3, ce_weight=0.0)
    asserts.assert_equal(auto.loss(lg, LATE), m.kd(kd_weight=1.0, ce_weight=0.0).loss(lg, LATE))


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_each_version_carries_the_masses_of_its_groups(version: str) -> None:
    lg = cases.easy(c=10, strong=False)
    found = without_task(m.gdkd_auto_weight(version=version, k=3, temperature=2.0).components(lg))
    asserts.assert_same(found, twin.gdkd_autow(lg.student, lg.teacher, mode=version, k=3, temperature=2.0))


# -- standardised logits ---------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["global", "both", "other"])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_standardised_gdkd_equals_the_twin(mode: str, k: int) -> None:
    lg = cases.easy(strong=False)
    found = without_task(m.ls_gdkd(mode=mode, k=k, temperature=2.0).components(lg))
    asserts.assert_same(found, twin.ls_gdkd(lg.student, lg.teacher, mode=mode, k=k, temperature=2.0))


@pytest.mark.parametrize("mode", ["both", "other"])
def test_a_flat_group_contributes_nothing(mode: str) -> None:
    flat = torch.tensor([[5.0, 5.0, 1.0, 1.0, 1.0, 1.0]])
    lg = asserts.with_leaf_students(Logits(flat + 0.1, flat * 1e3, torch.tensor([0])))
    rows = m.ls_gdkd(mode=mode, k=2).components(lg)
    assert float(rows["other"].detach()) == 0.0
    assert not bool(asserts.student_gradients(rows["other"].sum(), lg)[0].any())


def test_the_weights_of_standardised_gdkd_are_multiplied_by_kd_weight() -> None:
    lg = cases.easy(strong=False)
    a, b = (m.ls_gdkd(kd_weight=w, ce_weight=0.0).loss(lg, LATE) for w in (1.0, 3.0))
    asserts.assert_equal(3 * a, b)


# -- ADKD and DIST + GDKD ----------------------------------------------------------------------


def test_adkd_has_the_class_mean_of_the_confidence_ratio_as_beta() -> None:
    lg = cases.easy(n=30, strong=False)
    at = Progress(epoch=31, epochs=240)
    beta = twin.adkd_beta(lg.teacher, lg.target, classes=7, temperature=4.0, epoch=31, epochs=240)
    terms = twin.adkd(lg.student, lg.teacher, lg.target, beta, temperature=4.0)
    expected = (terms["target"] + terms["nontarget"]).mean()
    asserts.assert_equal(m.adkd(ce_weight=0.0).loss(lg, at), expected)
    betas = class_mean(confidence_ratio(lg.teacher, 4.0), lg.target, 7).tolist()
    asserts.assert_equal(m.adkd(ce_weight=0.0, betas=betas).loss(lg, at), expected)


def test_adkd_works_under_the_mask_of_deepkd() -> None:
    lg, base = cases.easy(strong=False), VARIANTS["ADKD"]
    asserts.assert_same(m.deepkd(base, keep=7).components(lg), base.components(lg))
    assert not torch.equal(m.deepkd(base, keep=2).components(lg)["nontarget"], base.components(lg)["nontarget"])


def test_dist_gdkd_is_both_and_warms_up_gdkd_alone() -> None:
    lg = cases.easy(strong=False)
    rows = m.dist_gdkd(k=2).components(lg)
    parts = dist_twin.dist(lg.student, lg.teacher, temperature=4.0)
    asserts.assert_equal(rows["inter"], parts["inter"])
    asserts.assert_equal(rows["intra"].mean(), parts["intra"])
    gdkd = twin.gdkd(lg.student, lg.teacher, k=2, temperature=4.0)
    asserts.assert_same({name: rows[name] for name in gdkd}, gdkd)
    early = {name: part.weight(Progress(epoch=5)) for name, part in m.dist_gdkd().parts.items()}
    assert early == {"task": 1.0, "inter": 2.0, "intra": 2.0, "between": 0.25, "top": 0.25, "other": 2.0}


@pytest.mark.parametrize(
    ("build", "wrong"),
    [
        (m.gdkd_auto_weight, {"version": "v4"}),
        (m.gdkd_auto_weight, {"k": 0}),
        (m.ls_gdkd, {"mode": "globl"}),
        (m.adkd, {"betas": [1.0, float("nan")]}),
        (m.adkd, {"beta_max": 0.5}),
        (m.dist_gdkd, {"beta": -1.0}),
    ],
)
def test_wrong_arguments_are_refused(build: object, wrong: dict[str, object], unchecked: None) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        build(**wrong)


@pytest.mark.parametrize("build", [m.gdkd_auto_weight, m.ls_gdkd, m.dist_gdkd])
def test_a_top_group_of_all_classes_is_refused(build: object) -> None:
    with pytest.raises(ValueError, match=r"k must be an integer in 1\.\.6"):
        build(k=7).components(cases.easy(strong=False))
