"""Partitions: which classes belong together, in agreement with the slow twins, ties included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import fractionate as fr
from fractionate import Logits
from fractionate.kernels.plain import Partition
from fractionate.kernels.ranking import top_classes
from tests import cases
from tests.reference import split as twin

Rows = list[list[int]]


def written_out(partition: Partition, lg: Logits) -> list[list[set[int]]]:
    """For each row the members of every group, the rest included."""
    rows = []
    members = partition.members(lg.rows, lg.student.device)
    for i in range(lg.rows):
        groups = []
        for group in partition.groups:
            valid = torch.ones_like(group.index[i], dtype=torch.bool)
            valid = valid if group.valid is None else group.valid[i]
            groups.append(set(group.index[i][valid].tolist()))
        rows.append([*groups, set((~members[i]).nonzero()[:, 0].tolist())])
    return rows


def as_sets(rows: list[twin.Groups]) -> list[list[set[int]]]:
    return [[set(group) for group in groups] for groups in rows]


def of(teacher: Rows, target: list[int]) -> Logits:
    z = torch.tensor(teacher, dtype=torch.float64)
    return Logits(torch.zeros_like(z), z, torch.tensor(target))


# Small integers as logits: most rows have ties.
few = st.integers(3, 7).flatmap(
    lambda c: st.tuples(
        st.lists(st.lists(st.integers(0, 2), min_size=c, max_size=c), min_size=1, max_size=4),
        st.integers(0, c - 1),
    )
)


@given(few, st.data())
def test_every_partition_equals_its_twin(drawn: tuple[Rows, int], data: st.DataObject) -> None:
    teacher, y = drawn
    lg, c = of(teacher, [y] * len(teacher)), len(teacher[0])
    z, target = lg.teacher, lg.target
    k, k3 = data.draw(st.integers(1, c - 1)), data.draw(st.integers(2, c - 1))
    pairs = [
        (fr.by_target(lg), twin.by_target(z, target)),
        (fr.by_teacher_top1(lg), twin.by_teacher_top1(z)),
        (fr.by_top(lg, k), twin.by_top(z, k)),
        (fr.by_top(lg, k, largest=False), twin.by_top(z, k, largest=False)),
        (fr.by_top1_top(lg, k3), twin.by_top1_top(z, k3)),
        (fr.by_target_top(lg, k), twin.by_target_top(z, target, k)),
        (
            fr.by_target_top(lg, k, count_target=False),
            twin.by_target_top(z, target, k, count_target=False),
        ),
    ]
    for fast, slow in pairs:
        assert written_out(fast, lg) == as_sets(slow)


@given(few, st.integers(1, 3))
def test_groups_of_a_row_are_disjoint_and_complete(drawn: tuple[Rows, int], k: int) -> None:
    teacher, y = drawn
    lg, c = of(teacher, [y] * len(teacher)), len(teacher[0])
    for partition in (fr.by_target(lg), fr.by_top(lg, min(k, c - 1)), fr.by_target_top(lg, k)):
        for groups in written_out(partition, lg):
            assert sorted(c for group in groups for c in group) == list(range(c))


@pytest.mark.parametrize(
    ("row", "k", "largest", "expected"),
    [
        ([1.0, 2.0, 2.0, 0.0], 1, True, [1]),
        ([2.0, 2.0, 2.0, 2.0], 2, True, [0, 1]),
        ([0.0, 3.0, 3.0, 3.0, 9.0], 3, True, [4, 1, 2]),
        ([0.0, 1.0, 0.0, 0.0], 2, False, [0, 2]),
        ([5.0, 5.0, 5.0], 3, False, [0, 1, 2]),
    ],
)
def test_ties_go_to_the_lower_index(row: list[float], k: int, largest: bool, expected: list[int]) -> None:
    assert top_classes(torch.tensor([row]), k, largest=largest).tolist() == [expected]


@given(few, st.booleans(), st.data())
def test_top_classes_equals_a_stable_sort_of_every_row(
    drawn: tuple[Rows, int], largest: bool, data: st.DataObject
) -> None:
    teacher, _ = drawn
    k = data.draw(st.integers(1, len(teacher[0])))
    expected = [twin.ranked(torch.tensor(row), largest=largest)[:k] for row in teacher]
    found = top_classes(torch.tensor(teacher, dtype=torch.float32), k, largest=largest)
    assert found.tolist() == expected


@given(few)
def test_ranking_ignores_temperature_and_affine_maps(drawn: tuple[Rows, int]) -> None:
    teacher, _ = drawn
    z = torch.tensor(teacher, dtype=torch.float64)
    k = len(teacher[0]) - 1
    for mapped in (z / 4, z * 3 + 7, z - z.mean(1, keepdim=True)):
        rounded = (mapped * 2**20).round()  # equal logits must stay equal under rounding
        assert top_classes(rounded, k).tolist() == top_classes(z, k).tolist()


# -- DeepKD's mask ---------------------------------------------------------------------------


def kept(lg: Logits, k: int, *, count_target: bool = True) -> list[set[int]]:
    partition = fr.by_target_top(lg, k, count_target=count_target)
    return [groups[1] for groups in written_out(partition, lg)]


def test_counting_the_target_keeps_one_fewer_where_it_ranks_high() -> None:
    """Row 0: the label ranks second, k = 3 keeps 2 others. Row 1: it ranks last, k = 3 keeps 3."""
    lg = of([[9, 8, 7, 6, 5], [9, 8, 7, 6, 5]], [1, 4])
    assert kept(lg, 3) == [{0, 2}, {0, 1, 2}]


def test_not_counting_the_target_always_keeps_k() -> None:
    lg = of([[9, 8, 7, 6, 5], [9, 8, 7, 6, 5]], [1, 4])
    assert kept(lg, 3, count_target=False) == [{0, 2, 3}, {0, 1, 2}]


def test_one_non_target_is_always_kept() -> None:
    """k = 1 and a teacher that is right leave nothing: the best non-target stays."""
    lg = of([[9, 8, 7], [7, 8, 9], [5, 5, 5]], [0, 0, 0])
    assert kept(lg, 1) == [{1}, {2}, {1}]


@given(few, st.integers(1, 7), st.booleans())
def test_the_label_is_never_kept_and_something_always_is(drawn: tuple[Rows, int], k: int, count_target: bool) -> None:
    teacher, y = drawn
    lg = of(teacher, [y] * len(teacher))
    k = min(k, lg.classes if count_target else lg.classes - 1)
    for classes in kept(lg, k, count_target=count_target):
        assert classes
        assert y not in classes


@pytest.mark.parametrize("count_target", [True, False])
def test_keeping_all_classes_equals_no_mask(count_target: bool) -> None:
    lg = cases.easy(c=6)
    k = 6 if count_target else 5
    masked = fr.split_kl(lg.student, lg.teacher, fr.by_target_top(lg, k, count_target=count_target), 4.0)
    plain = fr.split_kl(lg.student, lg.teacher, fr.by_target(lg), 4.0)
    assert torch.allclose(masked.within[:, 1], plain.within[:, 1], rtol=1e-12, atol=0)


@given(few, st.integers(1, 5))
def test_a_larger_k_never_drops_a_kept_class(drawn: tuple[Rows, int], k: int) -> None:
    teacher, y = drawn
    lg = of(teacher, [y] * len(teacher))
    k = min(k, lg.classes - 1)
    for count_target in (True, False):
        most = lg.classes if count_target else lg.classes - 1
        small = kept(lg, min(k, most), count_target=count_target)
        large = kept(lg, min(k + 1, most), count_target=count_target)
        assert all(a <= b for a, b in zip(small, large, strict=True))


# -- partitions come from raw logits -----------------------------------------------------------


@pytest.mark.parametrize("make", [lambda lg: fr.by_top(lg, 3), lambda lg: fr.by_target_top(lg, 3), fr.by_teacher_top1])
def test_a_transformed_teacher_keeps_its_raw_ranking(make: Callable[[Logits], Partition]) -> None:
    lg = cases.easy()
    turned: Tensor = -lg.teacher
    seen = fr.rows.with_logits(lg, lg.student, turned)
    assert written_out(make(seen), seen) == written_out(make(lg), lg)
