"""Norms of stream gradients never exceed their bounds, and directions stay."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import fractionate as fr
from fractionate.optim import StreamGrads, clip_streams, clip_total

BOUND = 0.5


def grads(streams: int = 2) -> tuple[StreamGrads, nn.Module]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x = torch.randn(7, 4, dtype=torch.float64)
    losses = {f"s{i}": 10 * (net(x) - i).square().mean() for i in range(streams)}
    return fr.stream_grads(losses, net), net


def norm(row: tuple[torch.Tensor | None, ...]) -> float:
    return math.sqrt(sum(float(g.square().sum()) for g in row if g is not None))


def test_clipping_one_stream_is_torchs_clipping() -> None:
    found, net = grads(1)
    for p, g in zip(net.parameters(), found["s0"], strict=True):
        p.grad = None if g is None else g.clone()
    nn.utils.clip_grad_norm_(net.parameters(), BOUND)
    for clip in (clip_streams, clip_total):
        for p, g in zip(net.parameters(), clip(found, BOUND)["s0"], strict=True):
            torch.testing.assert_close(g, p.grad, rtol=1e-12, atol=0)


def test_every_stream_is_bounded_by_itself() -> None:
    found, _ = grads()
    clipped = clip_streams(found, BOUND)
    for name in found:
        assert norm(clipped[name]) == pytest.approx(BOUND, rel=1e-5)


def test_the_sum_is_bounded_and_the_shares_stay() -> None:
    found, _ = grads()
    clipped = clip_total(found, BOUND)
    total = tuple(a + b for a, b in zip(*clipped.values(), strict=True))  # type: ignore[operator]
    assert norm(total) == pytest.approx(BOUND, rel=1e-5)
    before, after = (norm(g["s0"]) / norm(g["s1"]) for g in (found, clipped))
    assert after == pytest.approx(before, rel=1e-12)


def test_small_gradients_are_left_alone() -> None:
    found, _ = grads()
    for clip in (clip_streams, clip_total):
        for name, row in clip(found, 1e6).items():
            assert all(torch.equal(a, b) for a, b in zip(row, found[name], strict=True))  # type: ignore[arg-type]


def test_streams_that_reach_nothing_stay_none() -> None:
    found = StreamGrads({"a": (None, torch.ones(2)), "b": (None, None)}, (torch.zeros(1), torch.zeros(2)))
    for clip in (clip_streams, clip_total):
        clipped = clip(found, BOUND)
        assert clipped["b"] == (None, None)
        assert clipped["a"][0] is None
        assert norm(clipped["a"]) == pytest.approx(BOUND, rel=1e-5)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan])
def test_a_bound_must_be_above_zero(bound: float) -> None:
    found, _ = grads()
    for clip in (clip_streams, clip_total):
        with pytest.raises(ValueError, match="must be above 0"):
            clip(found, bound)


def test_a_gradient_keeps_its_dtype_beside_wider_ones() -> None:
    """As the learnt temperature of a float64 student, a scalar in float32, does."""
    row = (torch.full((3,), 4.0, dtype=torch.float64), torch.tensor(3.0))
    for clip in (clip_streams, clip_total):
        (found,) = clip(StreamGrads({"loss": row}, row), 1.0).values()
        assert [g.dtype for g in found] == [torch.float64, torch.float32]
