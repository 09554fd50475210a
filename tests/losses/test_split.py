"""split_kl: the chain rule of KL over partitions of the classes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fractionate as fr
from fractionate.losses.split import Split
from tests import cases
from tests.asserts import assert_chain_rule, assert_equal
from tests.losses.partitions import Problem, as_partition, problems
from tests.reference import split as twin
from tests.reference.basics import kd

DIRECTIONS = ("forward", "reverse", "both")


def split(p: Problem, kl: str = "forward") -> Split:
    return fr.split_kl(p.student, p.teacher, p.partition, p.temperature, kl)


@given(problems())
def test_the_chain_rule_holds_for_every_partition(p: Problem) -> None:
    assert_chain_rule(split(p), p.student, p.teacher)


@given(problems(), st.sampled_from(DIRECTIONS))
def test_every_part_equals_the_slow_twin(p: Problem, kl: str) -> None:
    fast = split(p, kl)
    slow = twin.split_kl(p.student, p.teacher, p.listed, p.temperature, kl)
    for name in ("between", "within", "mass"):
        a, b = getattr(fast, name), getattr(slow, name)
        assert_equal(a, b, name)
        if name != "mass":
            grads = (torch.autograd.grad(x.sum(), p.student, retain_graph=True)[0] for x in (a, b))
            assert_equal(*grads, f"gradient of {name}")


@given(problems(least_groups=1, most_groups=1))
def test_one_group_has_nothing_between(p: Problem) -> None:
    s = split(p)
    assert_equal(s.between, torch.zeros_like(s.between))
    assert_equal(s.within[:, 0], kd(p.student, p.teacher, p.temperature))


@given(problems())
def test_singleton_groups_have_nothing_within(p: Problem) -> None:
    n, c = p.teacher.shape
    singles = as_partition([list(range(c))] * n, c)
    s = fr.split_kl(p.student, p.teacher, singles, p.temperature)
    assert s.within.tolist() == [[0.0] * c] * n
    assert_equal(s.between, kd(p.student, p.teacher, p.temperature))


@given(problems(), st.sampled_from(DIRECTIONS))
def test_a_group_of_one_class_is_exactly_zero(p: Problem, kl: str) -> None:
    s = split(p, kl)
    for row, groups in enumerate(p.listed):
        for g, members in enumerate(groups):
            if len(members) == 1:
                assert float(s.within[row, g].detach()) == 0.0


@given(problems(least_groups=2), st.sampled_from(DIRECTIONS))
def test_an_empty_group_is_exactly_zero(p: Problem, kl: str) -> None:
    s = split(p, kl)
    for row, groups in enumerate(p.listed):
        for g, members in enumerate(groups):
            if not members:
                assert float(s.within[row, g].detach()) == 0.0
                assert float(s.mass[row, g].detach()) == 0.0


@given(problems(), st.randoms(use_true_random=False))
def test_renaming_the_classes_changes_nothing(p: Problem, random: object) -> None:
    order = list(range(p.teacher.shape[1]))
    random.shuffle(order)
    renamed = p._replace(
        student=p.student[:, order],
        teacher=p.teacher[:, order],
        assignment=[[row[c] for c in order] for row in p.assignment],
    )
    before, after = split(p), split(renamed)
    assert_equal(after.between, before.between)
    assert_equal(after.within, before.within)


@given(problems(), st.floats(-50, 50))
def test_shifting_a_row_changes_nothing(p: Problem, shift: float) -> None:
    before, after = split(p), split(p._replace(student=p.student + shift))
    assert_equal(after.between, before.between)
    assert_equal(after.within, before.within)


@given(problems(), st.floats(-50, 50), st.sampled_from(DIRECTIONS))
def test_a_student_that_is_the_shifted_teacher_loses_nothing(p: Problem, shift: float, kl: str) -> None:
    s = split(p._replace(student=p.teacher + shift), kl)
    assert_equal(s.between, torch.zeros_like(s.between))
    assert_equal(s.within, torch.zeros_like(s.within))


@given(problems(least_groups=3), st.data())
def test_merging_groups_keeps_the_total(p: Problem, data: st.DataObject) -> None:
    """Merging groups a and b moves their part from between to within; KD's weighted total stays."""
    a, b = data.draw(st.lists(st.integers(0, p.groups - 1), min_size=2, max_size=2, unique=True))
    merged = p._replace(assignment=[[a if g == b else g for g in row] for row in p.assignment])
    assert_equal(split(merged).total, split(p).total)


@given(problems(least_groups=2), st.data())
def test_coarsen_equals_the_coarser_split(p: Problem, data: st.DataObject) -> None:
    new = data.draw(st.lists(st.integers(0, 2), min_size=p.groups, max_size=p.groups))
    used = sorted(set(new))
    coarse = split(p).coarsen([[g for g, to in enumerate(new) if to == target] for target in used])
    direct = split(
        p._replace(
            assignment=[[used.index(new[g]) for g in row] for row in p.assignment],
            groups=len(used),
        )
    )
    for name in ("between", "within", "mass"):
        assert_equal(getattr(coarse, name), getattr(direct, name), name)
    for value in (coarse.between, coarse.within):
        other = direct.between if value is coarse.between else direct.within
        grads = [torch.autograd.grad(x.sum(), p.student, retain_graph=True)[0] for x in (value, other)]
        assert_equal(*grads, "gradient")


@given(problems(), st.integers(1, 3))
def test_rows_do_not_see_each_other(p: Problem, size: int) -> None:
    pieces = [
        split(
            p._replace(
                student=p.student[i : i + size],
                teacher=p.teacher[i : i + size],
                assignment=p.assignment[i : i + size],
            )
        )
        for i in range(0, len(p.teacher), size)
    ]
    whole = split(p)
    for name in ("between", "within", "mass"):
        joined = torch.cat([getattr(piece, name) for piece in pieces])
        assert_equal(joined, getattr(whole, name), name)


def test_no_rows_give_no_values_but_a_graph() -> None:
    student = torch.randn(0, 5, requires_grad=True)
    lg = fr.Logits(student, torch.randn(0, 5), torch.empty(0, dtype=torch.int64))
    for partition in (fr.by_target(lg), fr.by_top(lg, 2), fr.by_target_top(lg, 2)):
        s = fr.split_kl(lg.student, lg.teacher, partition)
        assert s.within.shape == (0, partition.size)
        (s.between.sum() + s.within.sum()).backward()
    assert student.grad.shape == (0, 5)


@pytest.mark.parametrize("kl", DIRECTIONS)
def test_the_student_may_be_given_without_a_graph(kl: str) -> None:
    lg = cases.easy()
    s = fr.split_kl(lg.student, lg.teacher, fr.by_top(lg, 3), 4.0, kl)
    assert not s.between.requires_grad
