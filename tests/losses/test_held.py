"""Properties that small changes of the code had slipped past: losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fractionate import Logits
from fractionate.losses.ranked import pair_divergence, top_support
from fractionate.losses.relations import gram_direction
from fractionate.losses.soft import gradient_coupling
from fractionate.losses.transforms import standardize, with_regions


def drawn(n: int = 5, c: int = 6, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(n, c, generator=g, dtype=torch.float64) for _ in range(2))
    return student, teacher, torch.randint(0, c, (n,), generator=g)


def test_regions_are_the_image_its_quarters_and_its_sixteenths_unless_others_are_asked_for() -> None:
    lg = Logits(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, 1]))
    maps = torch.zeros(2, 4, 8, 8), nn.Linear(4, 3)
    assert with_regions(lg, maps, maps).regions.rows == 2 * (1 + 4 + 16)


def test_a_row_of_weight_0_is_not_there_for_the_directions_of_gram_rows() -> None:
    student, teacher, _ = drawn()
    keep = torch.tensor([0, 2, 3])
    weight = torch.zeros(5).index_fill(0, keep, 2.0)
    found = gram_direction(student, teacher, ridge=None, weight=weight)
    torch.testing.assert_close(found[keep], gram_direction(student[keep], teacher[keep], ridge=None))
    assert found[[1, 4]].tolist() == [0.0, 0.0]


def test_a_weighted_coupling_scales_the_inner_part_by_the_teachers_rest() -> None:
    student, teacher, target = drawn()
    found = gradient_coupling(student, teacher, target, 2.0, "kd_weighted")
    for i, y in enumerate(target.tolist()):
        others = [j for j in range(6) if j != y]
        sigma, a = ((z[i] / 2).softmax(0)[y] for z in (student, teacher))
        q, p = ((z[i, others] / 2).softmax(0) for z in (student, teacher))
        u = (sigma - a) * q + (1 - a) * (q - p)
        torch.testing.assert_close(found[i], 4 * ((sigma - a) ** 2 + (u**2).sum()))


def test_pairs_weigh_2_exp_of_their_ranks_over_their_distance() -> None:
    student, teacher, _ = drawn(1)
    order = teacher.argsort(1, descending=True)
    expected = torch.zeros((), dtype=torch.float64)
    for i in range(1, 7):
        for j in range(i + 1, 7):
            a, b = order[0, i - 1], order[0, j - 1]
            t, s = ((z[0, a] - z[0, b]).sigmoid() for z in (teacher, student))
            binary = t * (t / s).log() + (1 - t) * ((1 - t) / (1 - s)).log()
            expected += 2 * math.exp(-0.05 * (i + j)) / (1.5 + j - i) * binary
    torch.testing.assert_close(pair_divergence(student, teacher, order, 1.0)[0], expected)


def test_the_support_of_one_class_is_the_students_at_1_and_the_teachers_at_0() -> None:
    student, teacher, target = drawn()
    lg = Logits(student, teacher, target)
    for beta, logits in ((0.0, teacher), (1.0, student)):
        found, valid = top_support(lg, 1, beta)
        assert valid is None
        assert found.tolist() == logits.argmax(1, keepdim=True).tolist()
    assert top_support(lg, 1, 0.5)[0].shape == (5, 2)


@pytest.mark.parametrize("classes", [3, 7, 10, 100])
def test_rows_of_one_number_are_standardised_to_exactly_0(classes: int) -> None:
    numbers = torch.tensor([0.1, 1 / 3, 1e4 / 7, -2.3e-3, 65.4321])
    assert not standardize(numbers[:, None].expand(5, classes)).any()
