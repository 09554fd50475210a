"""Weights of rows are what they are called."""

from __future__ import annotations

import pytest
import torch

from fractionate import Logits, rows


def test_weights_of_labels_are_never_negative() -> None:
    with pytest.raises(ValueError, match="label_weight must not be negative, got -1 in row 1"):
        Logits(torch.zeros(2, 3), torch.zeros(2, 3), [0, 1], label_weight=torch.tensor([1.0, -1.0]))


def test_negative_weights_of_tokens_are_refused_before_sequences_divide_by_their_sum() -> None:
    with pytest.raises(ValueError, match="weight must not be negative"):
        rows.tokens(
            torch.zeros(1, 2, 3),
            torch.zeros(1, 2, 3),
            torch.zeros(1, 2, dtype=torch.int64),
            weight=-torch.ones(1, 2),
            mean_over="sequences",
        )
