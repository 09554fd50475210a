"""DGKD: the closed form is the double backward, bounded, and silent at epsilon 0."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits, Progress
from fractionate.losses import COUPLINGS, gradient_coupling
from tests import asserts, cases, golden
from tests.reference import dgkd as twin
from tests.reference.dkd import target_mass

LATE = Progress(epoch=100)
GRADED = [pytest.param(lg, id=name) for name, lg in cases.graded() if lg.rows]
READINGS = [{"coupling": c, "weights": w} for c in COUPLINGS for w in ("dkd", "kd")]


def quiet(**arguments: object) -> fr.Method:
    """A DGKD inside the safe range of every reading: it must not warn."""
    return fr.methods.dgkd(**{"epsilon": -0.5, **arguments})


def rows_of(method: fr.Method) -> asserts.Components:
    return lambda lg: method.components(lg, LATE)


@pytest.mark.parametrize("case", [c for c in golden.cases("losses") if c.method == "DGKD"], ids=lambda c: c.id)
@pytest.mark.filterwarnings("ignore:dgkd")
def test_reproduces_the_published_loss_by_the_documented_conversion(case: golden.Case) -> None:
    h, x = case.hyper, case.inputs()
    n, c = x["student"].shape
    if h["version"] == "2026-04":
        form, scale = {"normalize": "batch", "epsilon": h["epsilon"], "floor": 1e-8 * n**2 * c}, 1.0
    else:
        form, scale = {"epsilon": h["epsilon"] / (n**2 * c)}, 1 / (n**2 * c)
    method = fr.methods.dgkd(
        alpha=h["alpha"], beta=h["beta"], temperature=h["temperature"], warmup=1, ce_weight=0.0, **form
    )
    lg = Logits(x["student"], x["teacher"], x["target"])
    rows = {name: r.mean() for name, r in method.components(lg).items()}
    results = {"tckd": rows["target"], "nckd": rows["nontarget"], "total": method.loss(lg)}
    name = "normalised_coupling" if h["version"] == "2026-04" else "coupling_mse"
    golden.assert_matches(case, {**results, name: scale * rows["coupling"]}, x)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_closed_form_equals_double_backward(coupling: str, temperature: float) -> None:
    lg = asserts.with_leaf_students(cases.easy(strong=False))
    expected = twin.coupling(lg.student, lg.teacher, lg.target, temperature=temperature, reading=coupling)
    closed = gradient_coupling(lg.student, lg.teacher, lg.target, temperature, coupling)
    asserts.assert_equal(closed, expected, "G", 1e-12)
    grads = [torch.autograd.grad(g.sum(), lg.student, retain_graph=True)[0] for g in (closed, expected)]
    asserts.assert_equal(*grads, "dG/dz", 1e-12)


def test_gradient_is_the_printed_formula() -> None:
    lg, T = asserts.with_leaf_students(cases.easy(strong=False)), 4.0
    label = torch.nn.functional.one_hot(lg.target, lg.classes).double()
    p_s, p_t = (torch.softmax(z.detach() / T, 1) for z in (lg.student, lg.teacher))
    sigma, a = (p * label for p in (p_s, p_t))
    d, s = (sigma - a).sum(1, keepdim=True), sigma.sum(1, keepdim=True)
    q, p = (x * (1 - label) / (x * (1 - label)).sum(1, keepdim=True) for x in (p_s, p_t))
    u = (1 + d) * q - p
    c = (u * q).sum(1, keepdim=True)
    printed = T * (2 * (d + c) * s * (1 - s) * (label - q) + 2 * (1 + d) * q * (u - c))
    found = torch.autograd.grad(gradient_coupling(lg.student, lg.teacher, lg.target, T).sum(), lg.student)[0]
    asserts.assert_equal(found, printed, "dG/dz", 1e-12)


def test_the_two_gradients_add_up_to_that_of_kd() -> None:
    lg, T = asserts.with_leaf_students(cases.easy(strong=False)), 4.0
    g_t, g_n = twin.gradients(lg.student, lg.teacher, lg.target, temperature=T)
    rest = 1 - target_mass(lg.teacher, lg.target, T)
    kd = T * (torch.softmax(lg.student / T, 1) - torch.softmax(lg.teacher / T, 1))
    asserts.assert_equal(g_t + rest[:, None] * g_n, kd)


@pytest.mark.parametrize("lg", GRADED)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_coupling_lies_between_zero_and_six_temperatures_squared(lg: Logits, temperature: float) -> None:
    g = gradient_coupling(lg.student, lg.teacher, lg.target, temperature)
    assert bool(((g >= 0) & (g <= 6 * temperature**2 * (1 + 1e-12))).all())


def extreme() -> tuple[Tensor, Tensor, Tensor]:
    """Student sure of the label and of class 1, teacher sure of class 2."""
    y = torch.tensor([0])
    student, teacher = torch.tensor([[1e4, 0.0, -1e4]]), torch.tensor([[-1e4, -1e4, 1e4]])
    return student.double(), teacher.double(), y


def test_the_bound_is_attained() -> None:
    student, teacher, y = extreme()
    asserts.assert_equal(gradient_coupling(student, teacher, y, 4.0), torch.tensor([6 * 16.0]).double())


@pytest.mark.parametrize("lg", GRADED)
@pytest.mark.parametrize("reading", COUPLINGS)
def test_epsilon_zero_is_dkd_bit_for_bit(lg: Logits, reading: str) -> None:
    a, b = asserts.with_leaf_students(lg), asserts.with_leaf_students(lg)
    losses = fr.methods.dgkd(epsilon=0.0, coupling=reading).loss(a, LATE), fr.methods.dkd().loss(b, LATE)
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    assert torch.equal(a.student.grad, b.student.grad)


def test_the_coupling_is_subtracted() -> None:
    lg = cases.easy(strong=False)
    small, large = (fr.methods.dgkd(epsilon=e).loss(lg, LATE) for e in (0.1, 0.3))
    expected = 0.2 * gradient_coupling(lg.student, lg.teacher, lg.target).mean()
    asserts.assert_equal(small - large, expected)


def test_over_confidence_on_the_label_is_rewarded_not_punished() -> None:
    """G grows with d > 0, so a student above a wrong teacher lowers its loss: the text says the opposite (X6)."""
    y, teacher = torch.tensor([0]), torch.tensor([[0.0, 3.0, 0.0]]).double()
    g = [gradient_coupling(teacher + torch.tensor([[d, 0.0, 0.0]]), teacher, y, 1.0).item() for d in (0.0, 1.0, 3.0)]
    assert 0 <= g[0] < g[1] < g[2]


@pytest.mark.parametrize("reading", READINGS, ids=lambda r: f"{r['coupling']}-{r['weights']}")
def test_components_equal_the_twin_in_every_reading(reading: dict[str, str]) -> None:
    lg = asserts.with_leaf_students(cases.easy(strong=False))
    found = quiet(temperature=2.0, **reading).components(lg, LATE)
    expected = twin.dgkd(
        lg.student, lg.teacher, lg.target, temperature=2.0, reading=reading["coupling"], weights=reading["weights"]
    )
    del found["task"]
    asserts.assert_same(found, expected)


def test_kd_weights_without_coupling_are_kd() -> None:
    lg = cases.easy(strong=False)
    kd = fr.methods.kd(temperature=2.0, kd_weight=1.0, ce_weight=0.0)
    split = fr.methods.dgkd(epsilon=0.0, weights="kd", temperature=2.0, ce_weight=0.0)
    asserts.assert_equal(split.loss(lg, LATE), kd.loss(lg, LATE))


@pytest.mark.parametrize("lg", GRADED)
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 8.0), (1.0, 1.0), (0.3, 4.0)])
def test_within_the_safe_range_the_distillation_loss_is_not_negative(lg: Logits, alpha: float, beta: float) -> None:
    method = fr.methods.dgkd(alpha=alpha, beta=beta, epsilon=min(2 * alpha / 3, beta / 2), ce_weight=0.0)
    assert float(method.loss(lg, LATE)) >= -1e-9


@pytest.mark.parametrize(
    ("arguments", "warns"),
    [
        ({}, False),
        ({"epsilon": 2 / 3}, False),
        ({"epsilon": 0.667}, True),
        ({"beta": 1.0, "epsilon": 0.5}, False),
        ({"beta": 1.0, "epsilon": 0.51}, True),
        ({"epsilon": -100.0}, False),
        ({"weights": "kd", "epsilon": 0.01}, True),
        ({"weights": "kd", "coupling": "kd_weighted", "epsilon": 0.5}, False),
        ({"weights": "kd", "coupling": "kd_weighted", "epsilon": 0.51}, True),
        ({"normalize": "batch", "epsilon": 1e-3}, True),
        ({"normalize": "batch", "epsilon": 0.0}, False),
    ],
)
def test_warns_exactly_outside_the_proven_range(
    arguments: dict[str, object], warns: bool, recwarn: pytest.WarningsRecorder
) -> None:
    fr.methods.dgkd(**arguments)
    assert [w.category for w in recwarn] == [UserWarning] * warns


def test_kd_weights_with_the_full_coupling_have_no_safe_epsilon() -> None:
    """A teacher sure of the label leaves the non-targets without weight, but not without coupling."""
    teacher, y = torch.tensor([[9.0, 1.0, 0.0]]).double(), torch.tensor([0])
    lg = Logits(torch.tensor([[9.0, 0.0, 1.0]]).double(), teacher, y)
    with pytest.warns(UserWarning, match="above 0"):
        method = fr.methods.dgkd(weights="kd", epsilon=0.01, temperature=1.0, ce_weight=0.0)
    assert float(method.loss(lg, LATE)) < 0


def test_the_default_form_does_not_depend_on_the_batch_size() -> None:
    asserts.assert_equal_in_chunks(rows_of(fr.methods.dgkd()), cases.easy(strong=False), size=1)
    assert fr.methods.dgkd().row_wise


@pytest.mark.filterwarnings("ignore:dgkd")
def test_the_normalised_form_is_worth_about_one_and_pushes_away_from_the_teacher() -> None:
    method = fr.methods.dgkd(normalize="batch", epsilon=6.0, ce_weight=0.0, warmup=1)
    assert not method.row_wise
    lg = cases.easy(strong=False)
    asserts.assert_equal(method.components(lg)["coupling"].mean(), torch.tensor(1.0).double(), rtol=1e-6)
    near = asserts.with_leaf_students(Logits(lg.teacher + 0.01 * lg.student, lg.teacher, lg.target))
    (grad,) = torch.autograd.grad(method.loss(near), near.student)
    assert float((grad * (near.student.detach() - near.teacher)).sum()) < 0, (
        "a step downhill leads away from the teacher"
    )


@pytest.mark.parametrize("reading", READINGS, ids=lambda r: f"{r['coupling']}-{r['weights']}")
def test_values_and_gradients_are_right_finite_and_shift_invariant(reading: dict[str, str]) -> None:
    rows, lg = rows_of(quiet(**reading)), cases.easy(n=3, c=4, strong=False)
    asserts.assert_gradcheck(rows, lg)
    asserts.assert_shift_invariant(rows, lg)
    asserts.assert_class_permutation_invariant(rows, lg)
    asserts.assert_no_teacher_gradient(rows, lg)
    asserts.assert_zero_at_teacher(rows, lg, ["target", "nontarget", "coupling"])
    for dtype in cases.LOW_PRECISION:
        asserts.assert_finite(rows, cases.cast(cases.huge(), dtype))
        asserts.assert_finite(rows, cases.cast(cases.huge(size=200), dtype))


def test_no_rows_give_zero() -> None:
    asserts.assert_empty_batch_is_zero(lambda lg: fr.methods.dgkd().loss(lg, LATE), cases.easy(strong=False))


def test_under_deepkd_the_coupling_joins_the_nontarget_stream_and_sees_the_mask() -> None:
    lg = cases.easy(strong=False)
    streams = fr.methods.deepkd(fr.methods.dgkd(), delta_nontarget=0.01).streams
    assert {s.name: s.components for s in streams}["nontarget"] == ("nontarget", "coupling")
    full = fr.methods.deepkd(fr.methods.dgkd(), keep=lg.classes).components(lg, LATE)
    asserts.assert_same(full, fr.methods.dgkd().components(lg, LATE))
    masked = fr.methods.deepkd(fr.methods.dgkd(), keep=3).components(lg, LATE)
    assert not torch.allclose(masked["coupling"], full["coupling"])
    asserts.assert_same({"t": masked["target"]}, {"t": full["target"]})


@pytest.mark.parametrize(
    "wrong", [{"coupling": "ful"}, {"normalize": "batches"}, {"weights": "k"}, {"temperature": 0.0}, {"floor": 0.0}]
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], unchecked: None) -> None:
    with pytest.raises(ValueError, match="dgkd"):
        fr.methods.dgkd(**wrong)


@pytest.mark.compiled
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_compiles(coupling: str) -> None:
    asserts.assert_compiles_like_eager(rows_of(quiet(coupling=coupling)), cases.easy(strong=False))
