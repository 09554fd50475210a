"""Weights of rows are what they are called."""

from __future__ import annotations

import pytest
import torch

import fractionate as fr
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


@pytest.mark.parametrize("view", ["strong", "token"])
def test_a_second_view_of_other_images_is_refused(view: str) -> None:
    """Rows that do not belong together: the labels of the two views tell."""
    z, y = torch.zeros(3, 4), torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match=r"row 1 of the .* has the label 3, and 1 here"):
        fr.Logits(z, z, y, **{view: fr.Logits(z, z, torch.tensor([0, 3, 2]))})
    fr.Logits(z, z, y, **{view: fr.Logits(z, z, y.int())})


def test_one_network_that_ends_in_a_softmax_is_named_once() -> None:
    """Where there is no teacher the student's own logits stand in its place, and nothing is said of a teacher."""
    z = torch.rand(3, 4).softmax(1)
    with pytest.warns(UserWarning, match="holds probabilities") as said:
        fr.Logits(z, z.detach(), torch.tensor([0, 1, 2]))
    assert [str(warning.message).split()[1] for warning in said] == ["student"]


def test_facts_of_a_teacher_that_ends_in_a_softmax_are_said_to_be_none() -> None:
    with pytest.warns(UserWarning, match="teacher_facts: logits holds probabilities"):
        fr.teacher_facts(torch.rand(3, 4).softmax(1))


def test_labels_of_anchors_and_sides_that_cannot_be_are_refused_with_the_remedy() -> None:
    z = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"rows\.anchors: target holds the label 3.*background=3"):
        fr.rows.anchors(z, z, torch.tensor([0, 3]))
    z = torch.zeros(1, 8)
    with pytest.raises(ValueError, match=r"rows\.sides: target holds distances that are not a number"):
        fr.rows.sides(z, z, torch.full((1, 4), float("nan")))
