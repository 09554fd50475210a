"""SKD and SGDKD: random subsets that are a function of seed and step, and nothing else."""

from __future__ import annotations

import pytest
import torch

import fractionate as fr
from fractionate import Method, Progress
from fractionate.losses import by_target_random, kl_inside, random_classes
from tests import asserts, cases
from tests.reference import gdkd as twin

METHODS = [fr.methods.skd(), fr.methods.sgdkd()]
both = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)


def at(step: int, epoch: int = 30) -> Progress:
    return Progress(step=step, epoch=epoch)


def joined(lg: fr.Logits, part: fr.Partition, group: int) -> torch.Tensor:
    return fr.Partition((part.groups[group],), lg.classes).members(lg.rows, lg.teacher.device)


@both
def test_the_same_seed_and_step_give_the_same_rows_whatever_happened_before(method: Method) -> None:
    lg = cases.easy(strong=False)
    first = method.components(lg, at(7))
    method.components(lg, at(8))
    asserts.assert_same(method.with_args(temperature=4.0).components(lg, at(7)), first, rtol=0)


@both
def test_another_step_epoch_or_seed_draws_another_subset(method: Method) -> None:
    lg = cases.easy(strong=False)
    name = list(method.parts)[-1]
    first = method.components(lg, at(7))[name]
    for other, progress in ((method, at(8)), (method, at(7, 31)), (method.with_args(seed=1), at(7))):
        assert not torch.equal(other.components(lg, progress)[name], first)


@both
def test_the_global_random_state_is_neither_read_nor_moved(method: Method) -> None:
    lg, state = cases.easy(strong=False), torch.get_rng_state()
    first = method.components(lg, at(7))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12345)
    asserts.assert_same(method.components(lg, at(7)), first, rtol=0)


def test_a_class_joins_with_probability_eta() -> None:
    lg = cases.easy(n=200, c=50, strong=False)
    n = 200 * 50
    share = float(random_classes(lg, 0.3, 0, at(1)).double().mean())
    assert abs(share - 0.3) < 5 * (0.3 * 0.7 / n) ** 0.5
    joins = joined(lg, by_target_random(lg, 0.3, 0, at(1)), 1)
    assert abs(float(joins.sum()) / (n - 200) - 0.3) < 5 * (0.3 * 0.7 / n) ** 0.5


@pytest.mark.parametrize("eta", [0.0, 0.5, 0.9, 1.0])
def test_the_label_never_joins_and_one_non_target_always_stays(eta: float) -> None:
    lg = cases.easy(n=100, c=4, strong=False)
    joins = joined(lg, by_target_random(lg, eta, 0, at(1)), 1)
    assert not bool(joins.gather(1, lg.target[:, None]).any())
    assert int(joins.sum(1).max()) == {0.0: 0}.get(eta, 2)
    if eta == 1.0:
        assert joins.sum(1).tolist() == [2] * 100


def test_sgdkd_equals_the_twin_on_the_drawn_groups() -> None:
    lg = cases.easy(strong=False)
    joins = joined(lg, by_target_random(lg, 0.6, 3, at(5)), 1)
    expected = twin.sgdkd(lg.student, lg.teacher, lg.target, joins, temperature=4.0)
    found = fr.methods.sgdkd(eta=0.6, seed=3).components(lg, at(5))
    asserts.assert_same({name: found[name] for name in expected}, expected)


def test_skd_equals_the_twin_on_the_drawn_subset() -> None:
    lg = cases.easy(strong=False)
    keeps = random_classes(lg, 0.6, 3, at(5))
    expected = twin.skd(lg.student, lg.teacher, keeps, temperature=4.0)
    asserts.assert_equal(fr.methods.skd(eta=0.6, seed=3).components(lg, at(5))["kd"], expected)


def test_skd_on_all_classes_is_kd_and_on_none_is_zero() -> None:
    lg = cases.easy(strong=False)
    whole = fr.methods.skd(eta=1.0).components(lg, at(5))
    asserts.assert_same(whole, fr.methods.kd().components(lg))
    assert not bool(fr.methods.skd(eta=0.0).components(lg, at(5))["kd"].any())


@pytest.mark.parametrize("kl", ["forward", "reverse", "both"])
def test_kl_inside_is_the_within_term_of_the_split(kl: str) -> None:
    for _, lg in cases.graded():
        inside = lg.teacher > lg.teacher.mean(1, keepdim=True)
        every = torch.arange(lg.classes).expand(lg.rows, -1)
        part = fr.Partition((fr.losses.Group(every, inside),), lg.classes)
        expected = fr.split_kl(lg.student, lg.teacher, part, 2.0, kl).within[:, 0]
        asserts.assert_equal(kl_inside(lg.student, lg.teacher, inside, 2.0, kl), expected)


@both
def test_values_and_gradients_are_right_finite_and_shift_invariant(method: Method) -> None:
    def rows(lg: fr.Logits) -> dict[str, torch.Tensor]:
        return method.components(lg, at(3))

    asserts.assert_gradcheck(rows, cases.easy(n=3, strong=False))
    asserts.assert_shift_invariant(rows, cases.easy(strong=False))
    asserts.assert_no_teacher_gradient(rows, cases.easy(strong=False))
    asserts.assert_zero_at_teacher(rows, cases.easy(strong=False), [n for n in method.parts if n != "task"])
    for dtype in cases.LOW_PRECISION:
        asserts.assert_finite(rows, cases.cast(cases.huge(), dtype))
    asserts.assert_empty_batch_is_zero(lambda lg: method.loss(lg, at(3)), cases.easy(strong=False))
    assert not method.row_wise, "a row's subset depends on its place in the batch"


def test_deepkd_takes_sgdkd_by_role_and_refuses_skd_by_name() -> None:
    streams = {s.name: s.components for s in fr.methods.deepkd(fr.methods.sgdkd(), delta_nontarget=0.01).streams}
    assert streams == {"task": ("task",), "target": ("between",), "nontarget": ("random",)}
    with pytest.raises(ValueError, match="skd has components without a role"):
        fr.methods.deepkd(fr.methods.skd())


@pytest.mark.parametrize("wrong", [{"eta": 1.5}, {"eta": -0.1}, {"seed": -1}, {"temperature": 0.0}])
def test_wrong_arguments_are_refused(wrong: dict[str, float]) -> None:
    for build in (fr.methods.skd, fr.methods.sgdkd):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            build(**wrong)


@both
@pytest.mark.compiled
def test_compiles_and_draws_the_same_at_every_step(method: Method) -> None:
    lg = cases.easy(strong=False)
    asserts.assert_compiles_like_eager(lambda part: method.components(part, at(3)), lg)
    compiled = torch.compile(method.components, backend="aot_eager", fullgraph=True)
    for step in range(12):  # beyond the limit on recompilations
        asserts.assert_same(compiled(lg, at(step)), method.components(lg, at(step)))
