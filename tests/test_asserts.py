"""Every named property accepts a loss that has it and rejects one that does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate import Logits
from tests import asserts, cases

Rows = dict[str, Tensor]


def kd(lg: Logits) -> Rows:
    return {"kd": fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), 2.0).total}


def distance(lg: Logits) -> Rows:
    """Not invariant to shifts."""
    return {"x": ((lg.student - lg.teacher) ** 2).sum(1)}


def first_class(lg: Logits) -> Rows:
    """Depends on the name of a class."""
    return {"x": lg.student[:, 0] - lg.student.mean(1)}


def centred_over_rows(lg: Logits) -> Rows:
    """A row's value depends on the batch."""
    rows = kd(lg)["kd"]
    return {"x": rows - rows.mean()}


def entropy_like(lg: Logits) -> Rows:
    """Not zero at the teacher."""
    return {"kd": kd(lg)["kd"] + 1}


def naive(lg: Logits) -> Rows:
    """log of a softmax that underflows."""
    return {"x": -lg.student.softmax(1).log().amin(1)}


def half_detached(lg: Logits) -> Rows:
    """The gradient misses a factor."""
    return {"x": (lg.student * lg.student.detach()).sum(1)}


EASY = cases.easy()
PROPERTIES: dict[str, tuple[Callable[[Callable[[Logits], Rows]], None], Callable[[Logits], Rows]]] = {
    "shift": (lambda f: asserts.assert_shift_invariant(f, EASY), distance),
    "classes": (lambda f: asserts.assert_class_permutation_invariant(f, EASY), first_class),
    "rows": (lambda f: asserts.assert_rows_independent(f, EASY), centred_over_rows),
    "chunks": (lambda f: asserts.assert_equal_in_chunks(f, EASY), centred_over_rows),
    "zero": (lambda f: asserts.assert_zero_at_teacher(f, EASY, ["kd"]), entropy_like),
    "finite": (lambda f: asserts.assert_finite(f, cases.huge()), naive),
    "gradcheck": (lambda f: asserts.assert_gradcheck(f, cases.easy(n=2, c=4)), half_detached),
    "ignored": (
        lambda f: asserts.assert_ignored_rows_equal_dropped(
            lambda lg: fr.rows.weighted_mean(next(iter(f(lg).values())), lg.weight), EASY, EASY.target > 2
        ),
        lambda lg: {"x": kd(lg)["kd"] * lg.rows},
    ),
    "empty": (
        lambda f: asserts.assert_empty_batch_is_zero(lambda lg: next(iter(f(lg).values())).sum(), EASY),
        lambda lg: {"x": lg.student.sum(1).sum()[None] + 1},
    ),
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_loss_with_the_property_passes(name: str) -> None:
    PROPERTIES[name][0](kd)


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_loss_without_it_fails(name: str) -> None:
    check, counterexample = PROPERTIES[name]
    with pytest.raises((AssertionError, RuntimeError)):  # gradcheck raises the latter
        check(counterexample)


def test_the_teacher_of_logits_is_out_of_reach() -> None:
    asserts.assert_no_teacher_gradient(kd, EASY)


def test_the_chain_rule_notices_a_wrong_mass() -> None:
    s = fr.split_kl(EASY.student, EASY.teacher, fr.by_target(EASY), 2.0)
    asserts.assert_chain_rule(s, EASY.student, EASY.teacher)
    wrong = fr.Split(s.between, s.within, s.mass.flip(1), s.log_mass, s.temperature)
    with pytest.raises(AssertionError, match="chain rule"):
        asserts.assert_chain_rule(wrong, EASY.student, EASY.teacher)


@pytest.mark.compiled
def test_compiled_equals_eager_notices_what_cannot_be_compiled() -> None:
    asserts.assert_compiles_like_eager(kd, EASY)

    def breaks(lg: Logits) -> Rows:
        return {"x": lg.student.sum(1) if bool(lg.student.detach().sum() > 0) else lg.student.sum(1) * 2}

    with pytest.raises(Exception, match=r"(?i)data-dependent"):
        asserts.assert_compiles_like_eager(breaks, EASY)


@pytest.mark.parametrize("name", dict(cases.graded()))
def test_graded_inputs_have_labels_and_two_views(name: str) -> None:
    lg = dict(cases.graded())[name]
    assert lg.student.dtype == torch.float64
    assert lg.strong.target is lg.target or torch.equal(lg.strong.target, lg.target)


@pytest.mark.parametrize("right", [True, False])
def test_confident_teachers_are_what_they_say(right: bool) -> None:
    lg = cases.confident(right=right)
    assert bool(((lg.teacher.argmax(1) == lg.target) == right).all())
    assert bool((lg.teacher.softmax(1).amax(1) > 0.99).all())


def test_tied_teachers_have_ties() -> None:
    assert bool((cases.tied().teacher.sort(1).values.diff() == 0).any(1).all())
