"""Properties that small changes of the code had slipped past: the loss over a vocabulary."""

from __future__ import annotations

import pytest
import torch

import fractionate as fr
from fractionate.language.linear import sequence_weights


def test_a_vocabulary_beyond_the_output_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"vocabulary=8 must lie in 1\.\.7"):
        fr.linear_loss(
            fr.methods.kd(),
            torch.zeros(2, 3),
            torch.zeros(7, 3),
            torch.zeros(2, dtype=torch.int64),
            teacher=torch.zeros(2, 7),
            vocabulary=8,
        )


def test_sequences_packed_into_one_row_are_told_apart_by_their_numbers_alone() -> None:
    found = sequence_weights(torch.tensor([4, 4, 4, 9]), torch.ones(4, dtype=torch.bool))
    torch.testing.assert_close(found, torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0]))
