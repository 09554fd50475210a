"""GDKD with a k that the teacher decides: per row, or per class."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fractionate as fr
from fractionate.losses import auto_k, class_auto_k
from tests import asserts, cases
from tests.reference import gdkd as twin

m = fr.methods
COUNTS = [1, 2, 6, 3, 3, 1, 5]


def without_task(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x for name, x in rows.items() if name != "task"}


@pytest.mark.parametrize("classes", [3, 10, 200])
@pytest.mark.parametrize(("ratio", "cap"), [(2.0, 100), (1.5, 4), (5.0, 100)])
def test_auto_k_equals_the_loop_over_rows(classes: int, ratio: float, cap: int) -> None:
    teacher = cases.random_logits(40, classes, 6.0, seed=classes)
    expected = twin.auto_k(teacher, ratio=ratio, cap=cap, temperature=4.0)
    assert auto_k(teacher, 4.0, ratio=ratio, cap=cap).tolist() == expected


def test_a_teacher_sure_of_one_class_or_of_none_gives_k_one() -> None:
    sure = torch.eye(6).double() * 30
    assert auto_k(sure, 1.0).tolist() == [1] * 6
    assert auto_k(torch.zeros(2, 6), 1.0).tolist() == [1, 1]


def test_auto_k_lies_between_one_and_all_but_one() -> None:
    for _, lg in cases.graded():
        k = auto_k(lg.teacher.float(), 1.0, ratio=1.01)
        assert bool(((k >= 1) & (k <= lg.classes - 1)).all())


def test_auto_k_does_not_depend_on_whether_probabilities_underflow() -> None:
    jump = torch.tensor([[0.0, 0.1, 0.2, -500.0, -500.1, -500.2]])
    assert auto_k(jump.float(), 1.0).tolist() == auto_k(jump.double() / 20, 0.05 * 20).tolist() == [3]


def test_auto_k_uses_that_k_in_gdkd() -> None:
    lg = cases.easy(c=10, strong=False)
    ks = twin.auto_k(lg.teacher, ratio=2.0, cap=100, temperature=4.0)
    assert len(set(ks)) > 1
    found = without_task(m.gdkd_auto_k().components(lg))
    asserts.assert_same(found, twin.gdkd_k_per_row(lg.student, lg.teacher, ks, temperature=4.0))


def test_class_k_is_the_jump_of_the_class_mean() -> None:
    teacher, y = cases.random_logits(60, 10, 6.0, seed=3), cases.labels(60, 10, seed=3)
    expected = twin.per_class_k(teacher, y, ratio=2.0, cap=100, temperature=4.0)
    found = class_auto_k(teacher, y, 4.0).tolist()
    assert {c: found[c] for c in expected} == expected
    assert set(found) - {1}, "some class has a jump"


def test_a_label_without_rows_has_k_one() -> None:
    assert class_auto_k(torch.eye(4)[[0, 1]], torch.tensor([0, 1])).tolist()[2:] == [1, 1]


def test_class_k_looks_up_the_k_of_the_label() -> None:
    lg = cases.easy(strong=False)
    ks = [COUNTS[int(y)] for y in lg.target]
    found = without_task(m.gdkd_class_k(counts=torch.tensor(COUNTS)).components(lg))
    asserts.assert_same(found, twin.gdkd_k_per_row(lg.student, lg.teacher, ks, temperature=4.0))


def test_class_k_without_counts_takes_those_of_the_batch() -> None:
    lg = cases.easy(n=40, strong=False)
    counts = class_auto_k(lg.teacher, lg.target).tolist()
    asserts.assert_same(m.gdkd_class_k().components(lg), m.gdkd_class_k(counts=counts).components(lg))


@pytest.mark.parametrize(
    ("counts", "message"),
    [([1, 2, 3], "1..2"), ([0, 1, 1], "0..1"), ([1.0, 1.0, 2.0], "one integer per label"), ([], "one integer")],
)
def test_impossible_counts_are_refused(counts: list[int], message: str, unchecked: None) -> None:
    with pytest.raises(ValueError, match=message):
        m.gdkd_class_k(counts=counts)


def test_tables_of_another_number_of_classes_are_refused() -> None:
    for method in (m.gdkd_class_k(counts=[1, 1, 1]), m.adkd(betas=[1.0, 1.0, 1.0])):
        with pytest.raises(ValueError, match=r"hold 3 .* 7"):
            method.components(cases.easy(strong=False))


@pytest.mark.parametrize("wrong", [{"ratio": 1.0}, {"ratio": float("inf")}, {"cap": 0}])
def test_wrong_arguments_are_refused(wrong: dict[str, float]) -> None:
    for build in (m.gdkd_auto_k, m.gdkd_class_k):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            build(**wrong)
