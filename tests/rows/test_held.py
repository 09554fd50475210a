"""Properties that small changes of the code had slipped past: rows."""

from __future__ import annotations

import pytest
import torch

from fractionate import Logits, Progress, rows
from fractionate.rows import blame


def test_the_end_of_all_schedules_is_the_last_step_of_all() -> None:
    end = Progress.end()
    assert end.steps == end.step + 1


def test_logits_that_are_not_finite_are_named_where_there_are_no_labels() -> None:
    lg = Logits(torch.zeros(2, 3), torch.tensor([[0.0, 1.0, 2.0], [torch.nan, 0.0, 0.0]]))
    assert blame(lg, 1) == "the teacher logits are not finite in row 1"


def test_the_weight_of_an_anchor_goes_with_its_row_and_one_per_image_is_refused() -> None:
    z, y = torch.randn(2, 3, 4), torch.tensor([[2, -1, 0], [4, 3, -1]])
    weight = torch.arange(6.0).view(2, 3)
    kept = rows.anchors(z, z, y, background=4, weight=weight)
    assert kept.weight is not None
    assert kept.weight.tolist() == [0.0, 2.0, 4.0]
    with pytest.raises(ValueError, match=r"rows\.anchors"):
        rows.anchors(z, z, y, weight=weight[:, 0])
