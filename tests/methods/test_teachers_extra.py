"""Several teachers, further losses as streams, and the loss-reweighted control."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import fractionate as fr
from fractionate import Logits, Method, Progress
from fractionate.losses import mixture_logits
from tests import asserts, cases

M = fr.methods
LATE = Progress(epoch=200)


def several(lg: Logits, further: int = 1) -> Logits:
    """The rows with further teachers, in both views."""
    teachers = tuple(cases.random_logits(lg.rows, lg.classes, 3.0, 20 + i) for i in range(further))
    strong = None if lg.strong is None else several(lg.strong, further)
    return replace(lg, teachers=teachers, strong=strong)


def taught_by(lg: Logits, k: int) -> Logits:
    """The rows with teacher k alone."""
    strong = None if lg.strong is None else taught_by(lg.strong, k)
    return replace(lg, teacher=[lg.teacher, *lg.teachers][k], teachers=(), strong=strong)


# -- a mixture -------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_mixture_has_the_weighted_mean_of_the_probabilities(temperature: float) -> None:
    teachers = [cases.random_logits(5, 7, 3.0, i) for i in range(3)]
    z = mixture_logits(teachers, [1.0, 2.0, 5.0], temperature)
    shares = [(t / temperature).softmax(1) for t in teachers]
    asserts.assert_equal((z / temperature).softmax(1), (shares[0] + 2 * shares[1] + 5 * shares[2]) / 8)


def test_a_teacher_of_weight_zero_is_not_there_and_one_teacher_is_itself() -> None:
    a, b = (cases.random_logits(5, 7, 3.0, i) for i in (1, 2))
    asserts.assert_equal(mixture_logits([a, b], [0.0, 3.0]), b - b.logsumexp(1, keepdim=True))


def test_the_mixture_is_finite_for_huge_logits() -> None:
    lg = cases.cast(cases.huge(), torch.float32)
    assert bool(mixture_logits([lg.teacher, lg.student], [1, 1], 0.5).isfinite().all())


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0]], ids=str)
def test_impossible_mixtures_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        mixture_logits([torch.zeros(2, 3)] * 2, weights)


@pytest.mark.parametrize("base", [M.kd(temperature=3.0), M.dkd(), M.gdkd(k=2), M.crld()], ids=lambda m: m.name)
def test_a_mixture_method_is_the_method_on_the_mixture_at_its_own_temperature(base: Method) -> None:
    lg = several(cases.easy(), 2)
    temperature = base.origin.value("temperature")
    mixtures = [mixture_logits([v.teacher, *v.teachers], [1, 1, 1], temperature) for v in (lg, lg.strong)]
    expected = base.components(cases.with_teacher(cases.easy(), *mixtures), LATE)
    asserts.assert_same(M.mixture_of_teachers(base).components(lg, LATE), expected)


def test_a_mixture_takes_weights_a_temperature_and_low_precision() -> None:
    lg = several(cases.easy(strong=False))
    method = M.mixture_of_teachers(M.kd(), weights=[3.0, 1.0], mixture_temperature=1.0)
    expected = replace(taught_by(lg, 0), teacher=mixture_logits([lg.teacher, *lg.teachers], [3, 1], 1.0))
    asserts.assert_equal(method.components(lg)["kd"], M.kd().components(expected)["kd"])
    half = replace(cases.cast(lg, torch.float16), teachers=(lg.teachers[0].half(),))
    asserts.assert_finite(method.components, half)


def test_equal_teachers_mix_to_one_and_lskd_sets_the_temperature_inside() -> None:
    lg = cases.easy(strong=False)
    twice = replace(lg, teachers=(lg.teacher,))
    asserts.assert_same(M.mixture_of_teachers(M.dkd()).components(twice), M.dkd().components(lg))
    method = M.lskd(M.mixture_of_teachers(M.kd()), temperature=2.0)
    asserts.assert_same(method.components(twice), M.lskd(M.kd(), temperature=2.0).components(lg))


def test_a_mixture_composes_with_deepkd_in_both_orders() -> None:
    lg = several(cases.easy())
    a, b = M.mixture_of_teachers(M.deepkd(M.dkd(), keep=3)), M.deepkd(M.mixture_of_teachers(M.dkd()), keep=3)
    asserts.assert_same(a.stream_losses(lg, LATE), b.stream_losses(lg, LATE))


@pytest.mark.parametrize("method", [M.mixture_of_teachers(M.kd()), M.per_teacher(M.kd())], ids=["mixture", "each"])
def test_missing_teachers_are_named(method: Method) -> None:
    with pytest.raises(ValueError, match="teachers="):
        method.components(cases.easy())


# -- a stream each ---------------------------------------------------------------------------


@pytest.mark.parametrize("base", [M.kd(), M.dkd(), M.lskd(M.dkd()), M.crld(), M.mlkd()], ids=lambda m: m.name)
def test_per_teacher_is_the_method_once_per_teacher(base: Method) -> None:
    lg, method = several(cases.easy(), 2), M.per_teacher(base, n=3, weights=[1.0, 2.0, 0.5])
    found = method.stream_losses(lg, LATE, merge=False)
    whole = [M.only(base, [n for n in base.parts if n != "task"]).loss(taught_by(lg, k), LATE) for k in range(3)]
    for k, factor in enumerate((1.0, 2.0, 0.5)):
        asserts.assert_equal(found[f"teacher_{k + 1}"], factor * whole[k])
    asserts.assert_equal(found["task"], M.only(base, "task").loss(lg, LATE))


def test_equal_teachers_with_equal_weights_are_one_teacher() -> None:
    lg = cases.easy(strong=False)
    twice = replace(lg, teachers=(lg.teacher,))
    asserts.assert_equal(M.per_teacher(M.dkd()).loss(twice, LATE), M.dkd().loss(lg, LATE))


def test_every_teacher_has_its_own_momentum_and_equal_ones_merge() -> None:
    method = M.per_teacher(M.kd(), n=3, shifts=[0.05, -0.1, 0.05], task_shift=-0.1)
    assert dict(method.momenta(0.8)) == pytest.approx({"task+teacher_2": 0.7, "teacher_1+teacher_3": 0.85})
    assert method.backward_passes == 2


@pytest.mark.parametrize("base", [M.kd(), M.dkd()], ids=["kd", "dkd"])
def test_deepkd_around_per_teacher_goes_by_role(base: Method) -> None:
    lg, method = several(cases.easy()), M.deepkd(M.per_teacher(base))
    assert {s.name: s.components for s in method.streams} == {
        "task": ("task",),
        "target": ("target_1", "target_2"),
        "nontarget": ("nontarget_1", "nontarget_2"),
    }
    asserts.assert_equal(method.loss(lg, LATE), M.per_teacher(base).loss(lg, LATE))


def test_transforms_inside_and_outside_per_teacher_agree() -> None:
    lg = several(cases.easy())
    for wrap in (M.lskd, M.swap):
        for base in (M.kd(), M.mlkd()):
            a, b = wrap(M.per_teacher(base)), M.per_teacher(wrap(base))
            asserts.assert_equal(a.loss(lg, LATE), b.loss(lg, LATE))


@pytest.mark.parametrize("arguments", [{"n": 0}, {"shifts": [0.1]}, {"weights": [1.0, float("nan")]}], ids=str)
def test_per_teacher_refuses_impossible_arguments(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"per_teacher: {next(iter(arguments))}"):
        M.per_teacher(M.kd(), **arguments)


# -- further losses --------------------------------------------------------------------------


def hinted(lg: Logits) -> Logits:
    return replace(lg, extra={"hint": lg.student.square().mean(1)})


@pytest.mark.parametrize(
    "base",
    [M.kd(), M.dot(M.dkd()), M.deepkd(M.dkd())],
    ids=["kd", "dot", "deepkd"],
)
def test_an_extra_without_a_role_has_a_stream_of_its_own(base: Method) -> None:
    lg = hinted(cases.easy())
    method = M.with_extra(base, name="hint", weight=0.5, shift=-0.3)
    found, before = (m.stream_losses(lg, LATE, merge=False) for m in (method, base))
    asserts.assert_equal(found.pop("hint"), 0.5 * lg.extra["hint"].mean())
    asserts.assert_same(found, before)
    momenta = dict(method.momenta(0.9, merge=False))
    assert momenta.pop("hint") == pytest.approx(0.6)
    assert momenta == dict(base.momenta(0.9, merge=False))


def test_the_published_update_takes_an_extra_by_role_only() -> None:
    base, lg = M.deepkd(M.dkd(), rule="published-code"), hinted(cases.easy())
    with pytest.raises(ValueError, match="three streams"):
        M.with_extra(base)
    method = M.with_extra(base, role="nontarget", weight=0.5)
    found, before = (m.stream_losses(lg, LATE, merge=False) for m in (method, base))
    asserts.assert_equal(found["nontarget"], before["nontarget"] + 0.5 * lg.extra["hint"].mean())
    assert method.update == base.update


@pytest.mark.parametrize(("role", "stream"), [("task", "task"), ("target", "target"), ("nontarget", "nontarget")])
def test_an_extra_with_a_role_joins_its_stream_in_both_orders(role: str, stream: str) -> None:
    lg = hinted(cases.easy())
    a, b = M.with_extra(M.deepkd(M.dkd()), role=role), M.deepkd(M.with_extra(M.dkd(), role=role))
    asserts.assert_same(a.stream_losses(lg, LATE, merge=False), b.stream_losses(lg, LATE, merge=False))
    assert [s.name for s in a.streams if "hint" in s.components] == [stream]


def test_deepkd_refuses_an_extra_without_a_role() -> None:
    with pytest.raises(ValueError, match=r"without a role.*hint"):
        M.deepkd(M.with_extra(M.kd()))


def test_gradients_reach_the_extra_s_own_parameters() -> None:
    lg = cases.easy(strong=False)
    projection = torch.nn.Linear(4, 3).double()
    gap = projection(cases.random_logits(lg.rows, 4, 1.0, 0)).square().mean(1)
    losses = M.with_extra(M.kd()).stream_losses(replace(lg, extra={"hint": gap}), merge=False)
    (grad,) = torch.autograd.grad(losses["hint"], projection.weight)
    assert float(grad.abs().sum()) > 0


def test_the_weight_of_an_extra_may_be_a_schedule() -> None:
    method = M.with_extra(M.kd(), weight=fr.schedules.warmup(2.0, epochs=10))
    assert method.parts["hint"].weight(Progress(epoch=5)) == 1.0


def test_wrong_extras_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'hint'"):
        M.with_extra(M.kd(), name="hints").components(hinted(cases.easy()))
    with pytest.raises(ValueError, match="already has"):
        M.with_extra(M.kd(), name="kd")
    with pytest.raises(ValueError, match="momentum of its stream"):
        M.with_extra(M.kd(), role="task", shift=0.1)


def test_transforms_leave_an_extra_alone() -> None:
    lg = hinted(cases.easy())
    for method in (M.lskd(M.with_extra(M.kd()), weight=1.0), M.swap(M.with_extra(M.mlkd()))):
        asserts.assert_equal(method.components(lg)["hint"], lg.extra["hint"])


# -- the control -----------------------------------------------------------------------------


def displacement(method: Method, steps: int = 400) -> torch.Tensor:
    """How far a constant gradient moves the weights per step, once the buffers are full."""
    z = torch.zeros(1, 5).double()
    lg = Logits(z, torch.arange(5.0)[None].double(), torch.tensor([1]))
    p = torch.nn.Parameter(z.clone())
    optimizer = fr.StreamSGD([p], lr=1.0, momentum=method.momenta(0.9, merge=False))
    student = z.clone().requires_grad_()
    losses = method.stream_losses(replace(lg, student=student), LATE, merge=False)
    fixed = {name: torch.autograd.grad(x, student, retain_graph=True)[0] for name, x in losses.items()}
    for _ in range(steps):
        before = p.detach().clone()
        optimizer.step(fr.stream_grads({name: (g * p).sum() for name, g in fixed.items()}, [p]))
    return p.detach() - before


@pytest.mark.parametrize("base", [M.deepkd(M.dkd()), M.deepkd(M.kd()), M.dot(M.kd())], ids=lambda m: m.name)
def test_reweighted_has_the_gain_of_the_streams_without_their_memory(base: Method) -> None:
    control = M.reweighted(base, momentum=0.9)
    assert [s.name for s in control.streams] == ["loss"]
    assert dict(control.momenta(0.9)) == {"loss": 0.9}
    asserts.assert_equal(displacement(control), displacement(base), rtol=1e-4)


def test_reweighted_without_gains_is_plain_sgd() -> None:
    lg = cases.easy()
    for base in (M.deepkd(M.dkd(), normalize_gain=True), M.deepkd(M.dkd(), delta=0.0)):
        asserts.assert_equal(M.reweighted(base).loss(lg, LATE), M.dkd().loss(lg, LATE))


def test_reweighted_needs_momenta_below_one() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        M.reweighted(M.deepkd(M.dkd(), delta=0.2))


@pytest.mark.parametrize("role", ["task", "target", "nontarget"])
def test_an_extra_of_a_reweighted_method_has_the_weight_of_its_role_s_stream(role: str) -> None:
    base = M.deepkd(M.dkd(beta=8.0))
    before = M.reweighted(M.with_extra(base, name="hint", weight=0.5, role=role), momentum=0.9)
    after = M.with_extra(M.reweighted(base, momentum=0.9), name="hint", weight=0.5, role=role)
    weights = [{name: part.weight(LATE) for name, part in m.parts.items()} for m in (before, after)]
    assert weights[0] == pytest.approx(weights[1])
    assert weights[1]["hint"] == pytest.approx(0.5 * weights[1][role] / base.parts[role].weight(LATE))


def test_an_extra_of_its_own_stream_keeps_its_weight_beside_a_reweighted_method() -> None:
    method = M.with_extra(M.reweighted(M.deepkd(M.dkd())), name="hint", weight=0.5)
    assert method.parts["hint"].weight(LATE) == 0.5


def test_a_bound_on_the_gradient_grows_by_the_largest_weight_that_a_reweighted_method_carries() -> None:
    assert M.reweighted(M.deepkd(M.dkd())).update.magnified == pytest.approx(4)
    assert M.reweighted(M.dot(M.kd(ce_weight=1.0), delta=0.05)).update.magnified == pytest.approx(2)
    assert M.reweighted(M.dkd()).update.magnified == M.deepkd(M.dkd()).update.magnified == 1
    assert M.reweighted(M.dkd()).update == M.dkd().update


def test_what_is_reweighted_twice_carries_what_it_carried_once() -> None:
    once = M.reweighted(M.deepkd(M.dkd()))
    assert M.reweighted(once).update.carried == pytest.approx(once.update.carried)
    assert M.reweighted(M.reweighted(M.dkd())).update.carried == {}


def test_a_reweighted_method_carries_as_much_under_each_of_several_teachers() -> None:
    once = M.reweighted(M.deepkd(M.dkd()))
    assert M.per_teacher(once, n=2).update.carried == once.update.carried
