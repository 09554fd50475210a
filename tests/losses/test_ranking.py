"""The first k classes of a row are those of a stable sort, whichever way they are found."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fractionate.kernels import ranking
from fractionate.kernels.ranking import ranked_by_blocks, top_classes


def sorted_stably(logits: Tensor, k: int, largest: bool) -> Tensor:
    return logits.sort(dim=1, descending=largest, stable=True).indices[:, :k]


@st.composite
def ranked(draw: st.DrawFn) -> tuple[Tensor, int, bool]:
    """Rows with few distinct values, so that nearly every rank is shared, or with many."""
    n, c = draw(st.integers(0, 3)), draw(st.integers(1, 400))
    k = draw(st.one_of(st.integers(1, min(c, 6)), st.integers(1, c)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    values = draw(st.sampled_from([1, 2, 5, 10**6]))
    logits = torch.randint(-values, values + 1, (n, c), generator=generator) / 7
    dtype = draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]))
    return logits.to(dtype), k, draw(st.booleans())


@given(ranked())
def test_blocks_rank_like_a_stable_sort(problem: tuple[Tensor, int, bool]) -> None:
    assert torch.equal(ranked_by_blocks(*problem), sorted_stably(*problem))


@given(ranked())
def test_the_first_classes_are_those_of_a_stable_sort(problem: tuple[Tensor, int, bool]) -> None:
    logits, k, largest = problem
    assert torch.equal(top_classes(logits, k, largest=largest), sorted_stably(*problem))


@pytest.mark.parametrize("k", [1, 2, 7])
@pytest.mark.parametrize("largest", [True, False])
def test_all_classes_equal(k: int, largest: bool) -> None:
    """Also minus infinity, and zeros of either sign."""
    zeros = torch.zeros(2, 300)
    zeros[:, ::3] = -0.0
    for logits in (zeros, torch.full((2, 300), -torch.inf)):
        assert torch.equal(ranked_by_blocks(logits, k, largest), torch.arange(k).expand(2, k))
        assert torch.equal(top_classes(logits, k, largest=largest), torch.arange(k).expand(2, k))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_many_classes(dtype: torch.dtype) -> None:
    logits = torch.randn(3, 2 * ranking.MANY + 5).to(dtype)
    for largest in (True, False):
        assert torch.equal(top_classes(logits, 2, largest=largest), sorted_stably(logits, 2, largest))


def test_logits_need_not_lie_row_by_row() -> None:
    logits = torch.randn(300, 4).T
    assert torch.equal(ranked_by_blocks(logits, 3, True), sorted_stably(logits, 3, True))
    assert torch.equal(ranked_by_blocks(logits[:, 1::2], 3, True), sorted_stably(logits[:, 1::2], 3, True))


@pytest.mark.compiled
@pytest.mark.parametrize("k", [1, 3, 60])
def test_compiled_ranks_alike(k: int) -> None:
    compiled = torch.compile(top_classes, fullgraph=True, backend="aot_eager")
    for n in (3, 5):
        logits = torch.randn(n, 130).round()
        assert torch.equal(compiled(logits, k), sorted_stably(logits, k, True))
