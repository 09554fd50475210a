"""Every row of the contract table through every check, and a few laws for random rows of any shape and size."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Method, Progress
from fractionate.methods import catalog
from fractionate.rows import weighted_mean
from fractionate.testing import CHECKS, Contract, check_method
from fractionate.testing.inputs import with_leaf_students
from tests import asserts, cases
from tests.methods.contract_rows import METHODS, TABLE, WRAPPERS

M = fr.methods
OF_THE_CATALOG = {**METHODS, **WRAPPERS}
LATE = Progress(epoch=100)
Drawn = tuple[Tensor, Tensor, Tensor]


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("name", TABLE)
def test_the_method_keeps_its_contract(name: str, check: Callable[[Method, Contract], None]) -> None:
    check(TABLE[name].make(), TABLE[name].contract)


def test_the_table_has_one_row_for_every_name_of_the_catalog() -> None:
    assert list(METHODS) == list(catalog.METHODS)
    assert sorted(OF_THE_CATALOG) == sorted({*catalog.METHODS, *catalog.WRAPPERS})


@pytest.mark.parametrize("name", [name for name in TABLE if TABLE[name].twin])
def test_the_method_equals_its_slow_twin(name: str) -> None:
    """Values, or means where the twin gives these, and gradients."""
    method, contract, twin = TABLE[name].make(), TABLE[name].contract, TABLE[name].twin
    lg = with_leaf_students(contract.rows())
    rows, expected = contract.components_of(method)(lg), twin(lg)
    assert list(expected) == list(contract.components)
    for part, value in expected.items():
        found = rows[part].mean() if value.ndim == 0 else rows[part]
        asserts.assert_equal(found, value, part)
        for a, b in zip(*(asserts.student_gradients(x.sum(), lg) for x in (found, value)), strict=True):
            asserts.assert_equal(a, b, f"gradient of {part}")


# -- torch.compile: no graph break, the same values and gradients ----------------------------


@pytest.mark.compiled
@pytest.mark.parametrize("name", OF_THE_CATALOG)
def test_compiled_equals_eager(name: str) -> None:
    method, contract = TABLE[name].make(), TABLE[name].contract
    asserts.assert_compiles_like_eager(contract.components_of(method), contract.rows())


@pytest.mark.compiled
@pytest.mark.skipif(shutil.which("g++") is None, reason="the default backend of torch.compile needs a C++ compiler")
@pytest.mark.parametrize("name", ["kd", "gdkd", "dist"])
def test_compiled_by_the_default_backend_equals_eager(name: str) -> None:
    method, contract = TABLE[name].make(), TABLE[name].contract
    rows = contract.components_of(method)
    asserts.assert_compiles_like_eager(rows, contract.rows(), backend="inductor", rtol=1e-9)


# -- arguments that every method has ---------------------------------------------------------

UNWARMED = {"dist_gdkd": {"inter", "intra"}}  # its warm-up is GDKD's alone


def made(name: str, **arguments: object) -> Method:
    """The method of a row with further arguments."""
    return METHODS[name].make().with_args(**arguments)


@pytest.mark.parametrize("name", METHODS)
def test_the_warmup_multiplies_distillation_and_never_the_task(name: str) -> None:
    epoch = Progress(epoch=5, epochs=40)
    none, long = (made(name, warmup=w).parts for w in (1, 20))
    for part in none:
        factor = 1.0 if part in {"task", *UNWARMED.get(name, ())} else 0.25
        assert long[part].weight(epoch) == pytest.approx(factor * none[part].weight(epoch)), part


@pytest.mark.parametrize("name", METHODS)
def test_ce_weight_and_label_smoothing_concern_the_task_alone(name: str) -> None:
    contract = METHODS[name].contract
    plain, changed = made(name, ce_weight=1.0), made(name, ce_weight=3.0, label_smoothing=0.2)
    lg, at = contract.rows(), contract.progress
    a, b = plain.components(lg, at), changed.components(lg, at)
    assert not torch.equal(a.pop("task"), b.pop("task"))
    asserts.assert_same(a, b, rtol=0.0)
    ratio = {part: changed.parts[part].weight(at) / w for part, p in plain.parts.items() if (w := p.weight(at))}
    assert ratio.pop("task") == pytest.approx(3.0)
    assert set(ratio.values()) == {1.0}


@pytest.mark.parametrize("name", METHODS)
def test_hard_argmax_reads_the_best_class_of_soft_labels(name: str) -> None:
    contract = METHODS[name].contract
    lg, at = contract.rows(), contract.progress
    soft = asserts.with_target(lg, (5 * cases.random_logits(lg.rows, lg.classes, 1.0, 7)).softmax(1))
    best = asserts.with_target(lg, soft.target.argmax(1))
    found, expected = made(name, hard="argmax").components(soft, at), made(name).components(best, at)
    assert not torch.equal(found.pop("task"), expected.pop("task"))  # the cross-entropy uses the mixture
    asserts.assert_same(found, expected)


# -- laws for random rows --------------------------------------------------------------------


@st.composite
def any_rows(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and labels of any number, classes, spread and agreement; sometimes rounded, so that classes tie."""
    n, c = draw(st.integers(1, 5)), draw(st.integers(3, 9))
    scale = 10 ** draw(st.floats(-2, 3))
    student, teacher = (cases.random_logits(n, c, scale, draw(st.integers(0, 10**6))) for _ in range(2))
    if draw(st.booleans()):
        student, teacher = student.round(), teacher.round()
    target = torch.tensor(draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n)))
    return student, student if draw(st.booleans()) else teacher, target


ROW_WISE = [
    M.kd(),
    M.dkd(),
    M.gdkd(k=2),
    M.gdkd3(k=2),
    M.gdkd_auto_k(),
    M.ls_gdkd(mode="both", k=2),
    M.rld(),
    M.grouped(),
    M.ttm(),
    M.wttm(),
    M.lskd(M.dkd()),
    M.deepkd(M.dkd(), keep=2),
]
any_row_wise = st.sampled_from(ROW_WISE)


@given(any_rows(), any_row_wise)
def test_divergences_are_finite_and_never_negative(drawn: Drawn, method: Method) -> None:
    lg = Logits(*drawn)
    asserts.assert_finite(lambda rows: method.components(rows, LATE), lg)
    for name, x in method.components(lg, LATE).items():
        assert bool((x >= -1e-9 * lg.student.abs().max()).all()), name


@given(any_rows(), any_row_wise)
def test_a_row_s_value_is_its_own(drawn: Drawn, method: Method) -> None:
    asserts.assert_equal_in_chunks(lambda rows: method.components(rows, LATE), Logits(*drawn), size=1)


@given(any_rows(), any_row_wise, st.data())
def test_the_loss_is_the_weighted_mean_of_weighted_components(
    drawn: Drawn, method: Method, data: st.DataObject
) -> None:
    lg = Logits(*drawn)
    weight = torch.tensor(data.draw(st.lists(st.floats(0, 8), min_size=lg.rows, max_size=lg.rows))).double()
    rows = method.components(lg, LATE)
    expected = sum(method.parts[name].weight(LATE) * weighted_mean(x, weight) for name, x in rows.items())
    asserts.assert_equal(method.loss(asserts.weighted(lg, weight), LATE), expected)


@given(any_rows(), st.floats(0.5, 20), st.floats(0, 1))
def test_every_split_with_the_masses_as_weights_is_kd(drawn: Drawn, temperature: float, theta: float) -> None:
    lg = Logits(*drawn)
    kd = M.kd(temperature=temperature, kd_weight=1.0, ce_weight=0.0).loss(lg, LATE)
    auto = M.gdkd_auto_weight(m1=1.0, m2=1.0, k=2, temperature=temperature, ce_weight=0.0).loss(lg, LATE)
    whole = M.grouped(theta=max(theta, 0.01), w_secondary=1.0, temperature=temperature, ce_weight=0.0).loss(lg, LATE)
    split = M.deepkd(M.kd(temperature=temperature, kd_weight=1.0, ce_weight=0.0)).loss(lg, LATE)
    for other in (auto, whole, split):
        asserts.assert_equal(other, kd, rtol=1e-9)


# -- the checks themselves -------------------------------------------------------------------


def liar(**claims: object) -> Contract:
    """KD's contract with some claims changed."""
    return Contract(**{"components": ("kd",), "zero_at_teacher": ("kd",), "roles": True, **claims})


@pytest.mark.parametrize(
    ("claims", "check"),
    [
        ({"components": ("kl",)}, "shapes"),
        ({"row_wise": False}, "shapes"),
        ({"needs_labels": True}, "shapes"),
        ({"shift_invariant": False}, "shifts change nothing"),
        ({"class_symmetric": False}, "classes have no names"),
        ({"zero_at_teacher": ()}, "zero at the teacher"),
        ({"streams": ("task", "kd")}, "streams"),
        ({"backward_passes": 2}, "backward passes"),
        ({"roles": False}, "under deepkd"),
        ({"deepkd_keeps_loss": False}, "under deepkd"),
    ],
)
def test_a_false_claim_is_named(claims: dict[str, object], check: str) -> None:
    with pytest.raises(AssertionError, match=f"^kd: {check}: "):
        check_method(M.kd(), liar(**claims))


@pytest.mark.parametrize(
    ("claims", "check"),
    [
        ({"row_wise": True}, "rows are independent"),
        ({"row_wise": True}, "chunks equal the whole"),
        ({"shift_invariant": True}, "shifts change nothing"),
        ({"zero_at_teacher": ("contrastive",)}, "zero at the teacher"),
        ({"needs_labels": False}, "labels"),
    ],
)
def test_a_claim_that_is_too_strong_fails(claims: dict[str, object], check: str) -> None:
    fields = {**vars(METHODS["topkd"].contract), **claims}
    with pytest.raises(AssertionError):
        CHECKS[check](METHODS["topkd"].make(), Contract(**fields))
