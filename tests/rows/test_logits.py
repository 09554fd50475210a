"""Logits: what belongs to a row stays with it, and what does not fit is refused with what was expected."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fractionate import Logits
from fractionate.rows import with_logits
from tests.rows.inputs import C, everything, labels, random

# -- picking rows ----------------------------------------------------------------------------------


PICKED = {
    "student": lambda lg: lg.student,
    "teacher": lambda lg: lg.teacher,
    "target": lambda lg: lg.target,
    "strong": lambda lg: lg.strong.student,
    "weight": lambda lg: lg.weight,
    "ranking": lambda lg: lg.ranking,
    "teachers": lambda lg: lg.teachers[0],
    "regions": lambda lg: lg.regions.student,
    "labels of regions": lambda lg: lg.regions.target,
    "extra": lambda lg: lg.extra["hint"],
}


@pytest.mark.parametrize(
    "rows",
    [slice(2, 5), slice(None), slice(-2, None), slice(None, None, 2), torch.tensor([5, 0]), torch.arange(7) % 3 == 0],
    ids=str,
)
def test_picking_rows_picks_all_that_belongs_to_them(rows: slice | Tensor) -> None:
    lg = everything(7)
    picked = lg[rows]
    for name, pick in PICKED.items():
        whole = pick(lg)
        expected = whole.view(7, 3, *whole.shape[1:])[rows].flatten(0, 1) if "regions" in name else whole[rows]
        assert torch.equal(pick(picked), expected), name


# -- Logits ----------------------------------------------------------------------------------------


def test_the_teacher_is_detached_and_transforms_keep_the_raw_ranking() -> None:
    teacher = random(3, C).requires_grad_()
    lg = Logits(random(3, C), teacher, labels(3), teachers=(teacher * 2,))
    assert not lg.teacher.requires_grad
    assert not lg.teachers[0].requires_grad
    changed = with_logits(with_logits(lg, lg.student, -lg.teacher), lg.student, lg.teacher * 0)
    assert torch.equal(changed.rank_by, lg.teacher)


def test_soft_labels_have_a_most_likely_class() -> None:
    soft = Logits(random(2, 3), random(2, 3), torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]]).double())
    assert (soft.soft, soft.labels.tolist()) == (True, [1, 0])
    hard = Logits(random(2, 3), random(2, 3), torch.tensor([2, 0]))
    assert (hard.soft, hard.labels.tolist()) == (False, [2, 0])


GOOD = {"student": random(3, C), "teacher": random(3, C), "target": labels(3)}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"teacher": random(3, 4)}, r"must both be \[n, c\]; got \[3, 5\] and \[3, 4\]. Flatten pixels"),
        ({"student": random(3, C, 1), "teacher": random(3, C, 1)}, r"must both be \[n, c\]"),
        ({"teacher": random(3, C).float()}, "one floating dtype, got torch.float64 and torch.float32; cast one"),
        ({"student": labels(3, C), "teacher": labels(3, C)}, "floating dtype, got torch.int64"),
        ({"teacher": random(3, C).to("meta")}, "student is on cpu, teacher on meta; move one"),
        ({"student": random(3, 1), "teacher": random(3, 1)}, "at least 2 classes are needed, got c=1"),
        ({"target": torch.tensor([0, 1])}, r"target must be int64 \[n\]=\[3\] or soft labels"),
        ({"target": torch.tensor([0, 1, 2], dtype=torch.int32)}, r"target must be int64.*got torch.int32"),
        ({"target": torch.tensor([0, 1, C])}, r"labels must lie in 0..4, got 0..5; ignored positions"),
        ({"target": torch.tensor([0, 1, -100])}, r"labels must lie in 0..4, got -100..1"),
        ({"target": random(3)}, r"holds soft labels \[n, c\]=\[3, 5\], got \[3\]"),
        ({"target": labels(3).to("meta")}, "target is on meta, student on cpu"),
        ({"weight": random(2)}, r"weight must be \[n\]=\[3\] on cpu, got \[2\]"),
        ({"extra": {"hint": random(3, 1)}}, r"hint must be \[n\]=\[3\] on cpu, got \[3, 1\]"),
        ({"ranking": random(3, 4)}, r"the ranking must have the rows and classes of the student \[3, 5\]"),
        ({"teachers": (random(2, C),)}, r"got \[3, 5\] and \[2, 5\]"),
        (
            {"strong": Logits(random(2, C), random(2, C), labels(2))},
            r"the strong view must have.*\[3, 5\], got \[2, 5\]",
        ),
        ({"regions": Logits(random(4, C), random(4, C), labels(4))}, r"regions must be \[n \* r, c\] with n=3, c=5"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_does_not_fit_is_refused_with_what_was_expected(
    wrong: dict[str, object], message: str, unchecked: None
) -> None:
    with pytest.raises(ValueError, match=message):
        Logits(**{**GOOD, **wrong})
