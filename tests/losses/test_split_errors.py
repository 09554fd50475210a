"""Wrong input to rows, partitions and split_kl: a ValueError that says what, where and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch

import fractionate as fr
from fractionate import Logits
from tests import cases

pytestmark = pytest.mark.usefixtures("unchecked")
N, C = 4, 5


def z(n: int = N, c: int = C, **kind: object) -> torch.Tensor:
    return torch.zeros(n, c, **kind)


def y(*values: int) -> torch.Tensor:
    return torch.tensor(values or (0,) * N)


LOGITS = {
    "classes differ": (lambda: Logits(z(), z(c=6), y()), r"student and teacher.*\[4, 5\].*\[4, 6\]"),
    "rows differ": (lambda: Logits(z(), z(n=3), y()), r"student and teacher.*\[4, 5\].*\[3, 5\]"),
    "not flat": (lambda: Logits(z()[None], z()[None], y()), r"\[n, c\].*fractionate\.rows"),
    "dtypes differ": (lambda: Logits(z(), z().double(), y()), r"dtype.*float32.*float64"),
    "integer logits": (lambda: Logits(z().long(), z().long(), y()), r"floating dtype.*int64"),
    "devices differ": (lambda: Logits(z(), z(device="meta"), y()), r"student is on cpu.*meta"),
    "target elsewhere": (
        lambda: Logits(z(), z(), y().to("meta")),
        r"target is on meta, student on cpu",
    ),
    "one class": (lambda: Logits(z(c=1), z(c=1), y()), r"at least 2 classes.*c=1"),
    "label too large": (lambda: Logits(z(), z(), y(0, 1, 2, 5)), r"labels.*0\.\.4.*got 0\.\.5"),
    "label negative": (lambda: Logits(z(), z(), y(0, -1, 2, 3)), r"labels.*0\.\.4.*got -1\.\.3"),
    "label count": (lambda: Logits(z(), z(), y(0, 1)), r"target.*\[n\]=\[4\].*\[2\]"),
    "label dtype": (lambda: Logits(z(), z(), y().bool()), r"integers.*bool"),
    "soft shape": (lambda: Logits(z(), z(), z(c=6)), r"soft labels.*\[4, 5\].*\[4, 6\]"),
    "weight shape": (lambda: Logits(z(), z(), y(), weight=torch.ones(3)), r"weight.*\[4\].*\[3\]"),
    "strong shape": (
        lambda: Logits(z(), z(), y(), strong=Logits(z(n=1), z(n=1), y(0))),
        r"strong view.*\[4, 5\].*\[1, 5\]",
    ),
}


@pytest.mark.parametrize("name", LOGITS)
def test_rows_that_do_not_fit_are_refused(name: str) -> None:
    make, message = LOGITS[name]
    with pytest.raises(ValueError, match=f"(?s)^Logits: .*{message}"):
        make()


def rows(c: int = C) -> Logits:
    return Logits(z(c=c), z(c=c), y())


K = [
    (fr.by_top, 0, C, r"by_top: k .*1\.\.4.*got 0"),
    (fr.by_top, C, C, r"by_top: k .*1\.\.4.*got 5"),
    (fr.by_top, 2.0, C, r"by_top: k must be an integer.*got 2\.0"),
    (fr.by_top, True, C, r"by_top: k must be an integer.*got True"),
    (fr.by_top1_top, 1, C, r"by_top1_top: k .*2\.\.4.*got 1"),
    (fr.by_top1_top, C, C, r"by_top1_top: k .*2\.\.4.*got 5"),
    (fr.by_top1_top, 2, 2, r"by_top1_top: "),
    (fr.by_target_top, 0, C, r"by_target_top: k .*1\.\.5.*got 0"),
    (fr.by_target_top, C + 1, C, r"by_target_top: k .*1\.\.5.*got 6"),
    (fr.by_target_top, 1, 2, r"by_target_top: at least 3 classes.*c=2"),
]


@pytest.mark.parametrize(("partition", "k", "c", "message"), K)
def test_k_out_of_range_is_refused(
    partition: Callable[[Logits, object], object], k: object, c: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        partition(rows(c), k)


def test_k_that_counts_non_targets_ends_at_c_minus_1() -> None:
    with pytest.raises(ValueError, match=r"by_target_top: k .*1\.\.4.*got 5"):
        fr.by_target_top(rows(), C, count_target=False)


@pytest.mark.parametrize("partition", [fr.by_target, fr.by_teacher_top1])
def test_a_rest_needs_three_classes(partition: Callable[[Logits], object]) -> None:
    with pytest.raises(ValueError, match=rf"{partition.__name__}: at least 3 classes.*c=2"):
        partition(rows(2))


def test_split_kl_refuses_another_number_of_classes() -> None:
    with pytest.raises(ValueError, match=r"split_kl: student \[4, 6\].*\[n, 5\]"):
        fr.split_kl(z(c=6), z(c=6), fr.by_target(rows()))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_split_kl_refuses_a_temperature_that_is_not_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"split_kl: temperature must be positive, got"):
        fr.split_kl(z(), z(), fr.by_target(rows()), temperature)


def test_a_misspelled_direction_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"revers.*'reverse'"):
        fr.split_kl(z(), z(), fr.by_target(rows()), 1.0, "revers")


@pytest.mark.parametrize("groups", [[[0], [1]], [[0], [1, 1], [2]], [[0, 1, 2], []], [[0, 1, 3]]])
def test_coarsen_wants_every_group_once(groups: list[list[int]]) -> None:
    split = fr.split_kl(z(), z(), fr.by_target_top(rows(), 2))
    with pytest.raises(ValueError, match=r"coarsen: every group 0\.\.2 .*once"):
        split.coarsen(groups)


def test_coarsen_refuses_other_directions() -> None:
    split = fr.split_kl(z(), z(), fr.by_target_top(rows(), 2), 1.0, "reverse")
    with pytest.raises(ValueError, match=r"coarsen: .*forward.*'reverse'"):
        split.coarsen([[0], [1, 2]])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["student", "teacher"])
def test_a_value_that_is_not_finite_is_traced_to_its_row(where: str, value: float) -> None:
    lg = cases.easy(strong=False)
    logits = {"student": lg.student.clone(), "teacher": lg.teacher.clone()}
    logits[where][2, 3] = value
    broken = Logits(**logits, target=lg.target)
    for method in (fr.methods.kd(), fr.methods.dkd(), fr.methods.gdkd(k=2)):
        with pytest.raises(ValueError, match=rf"{re.escape(method.name)}: .*{where} logits .*row 2"):
            method.components(broken)


def test_soft_labels_are_accepted_as_rows() -> None:
    lg = Logits(z(), z(), z().softmax(1))
    assert lg.soft
    assert lg.labels.shape == (N,)


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize("rows", [1, 3, 5])
def test_a_partition_of_other_rows_is_refused(rows: int, fused: bool | None) -> None:
    z = torch.randn(4, 5)
    other = torch.randn(rows, 5)
    part = fr.by_target(fr.Logits(other, other, torch.zeros(rows).long()))
    with pytest.raises(ValueError, match=f"of {rows} rows, and the logits have 4; make it from the same Logits"):
        fr.split_kl(z, z, part, fused=fused)
