"""Properties that small changes of the code had slipped past: the loss over a vocabulary."""

from __future__ import annotations

import pytest
import torch

import fractionate as fr
from fractionate.language.linear import sequence_weights
from fractionate.losses import SampledLogits


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


def test_a_drawn_teacher_of_all_classes_with_their_probabilities_teaches_as_its_logits_do() -> None:
    g = torch.Generator().manual_seed(0)
    hidden, weight, teacher = (torch.randn(n, m, generator=g) for n, m in ((4, 3), (6, 3), (4, 6)))
    log_p = (teacher / 2).log_softmax(1)
    drawn = SampledLogits(torch.arange(6).expand(4, -1), log_p, log_p.exp(), 2.0)
    found, expected = (
        fr.linear_loss(fr.methods.kd(temperature=2), hidden, weight, torch.tensor([0, 5, 2, 2]), teacher=t)
        for t in (drawn, teacher)
    )
    torch.testing.assert_close(found, expected)
