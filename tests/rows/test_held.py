"""Properties that small changes of the code had slipped past: rows."""

from __future__ import annotations

import torch

from fractionate import Logits, Progress
from fractionate.rows import blame


def test_the_end_of_all_schedules_is_the_last_step_of_all() -> None:
    end = Progress.end()
    assert end.steps == end.step + 1


def test_logits_that_are_not_finite_are_named_where_there_are_no_labels() -> None:
    lg = Logits(torch.zeros(2, 3), torch.tensor([[0.0, 1.0, 2.0], [torch.nan, 0.0, 0.0]]))
    assert blame(lg, 1) == "the teacher logits are not finite in row 1"
