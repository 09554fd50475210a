"""How far AdamW over streams steps: seen by a monitor, bounded by an option."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fractionate as fr
from fractionate.monitors import update_rms
from tests.optim.kinds import EACH, assert_same
from tests.optim.problem import DKD, network, step_once

ADAMW = EACH.args[1][1]
DEEPKD = fr.methods.deepkd(DKD)


@pytest.mark.parametrize("gain", ["normalised", "heavy-ball"])
@pytest.mark.parametrize("clip_rms", [None, 0.2])
def test_the_monitor_shows_the_step_that_was_made(gain: str, clip_rms: float | None) -> None:
    net, opt = ADAMW.trained(DEEPKD, 3, weight_decay=0.0, gain=gain, clip_rms=clip_rms)
    before = [p.detach().clone() for p in net.parameters()]
    step_once(net, opt, DEEPKD, 3)
    moves = [(q - p.detach()) / 0.01 for p, q in zip(net.parameters(), before, strict=True)]
    found = update_rms(opt)
    assert found.overall == pytest.approx(float(torch.cat([m.flatten() for m in moves]).square().mean().sqrt()))
    assert found.largest == pytest.approx(max(float(m.square().mean().sqrt()) for m in moves))


def test_no_step_has_no_size() -> None:
    assert update_rms(ADAMW.make(network().parameters(), 0.9)).overall == 0.0


def cancelling(clip_rms: float | None) -> tuple[nn.Parameter, fr.StreamAdamW]:
    """Two streams of opposite gradients whose common sign flips: their sum is zero, their moments are not."""
    p = nn.Parameter(torch.zeros(8).double())
    opt = fr.StreamAdamW([p], lr=1e-3, betas={"a": 0.5, "b": 0.9}, weight_decay=0.0, clip_rms=clip_rms)
    for step in range(20):
        g = torch.full((8,), (-1.0) ** step).double()
        opt.step({"a": [g], "b": [-0.99 * g]})
    return p, opt


def test_streams_that_cancel_step_far_and_the_bound_holds_them() -> None:
    assert update_rms(cancelling(None)[1]).overall > 10
    p, opt = cancelling(1.0)
    assert update_rms(opt).overall == pytest.approx(1.0)
    assert float(p.detach().abs().max()) <= 20 * 1e-3 + 1e-12


def test_a_bound_that_is_never_met_changes_nothing() -> None:
    free, _ = ADAMW.trained(DEEPKD, 5, weight_decay=0.0)
    bound, _ = ADAMW.trained(DEEPKD, 5, weight_decay=0.0, clip_rms=1e6)
    for p, q in zip(free.parameters(), bound.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_rms": 0.0}, "clip_rms must be above 0"),
        ({"beta2": 1.0}, r"beta2 must lie in \[0, 1\)"),
        ({"eps": -1.0}, "eps must not be negative"),
        ({"betas": {"step": 0.9, "b": 0.5}}, "a stream cannot be called 'step'"),
        ({"betas": fr.methods.deepkd(DKD, rule="published-code").momenta(0.9)}, "SGD alone"),
        ({"betas": fr.methods.dot(DKD, orphan="mean").momenta(0.9)}, "SGD alone"),
        ({"betas": fr.methods.deepkd(DKD, normalize_gain=True).momenta(0.9)}, "normalize_gain"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fr.StreamAdamW(network().parameters(), **options)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [({"betas": (0.9, 0.999)}, "give the second as beta2"), ({"gain": "heavyball"}, "'heavy-ball'")],
    ids=str,
)
def test_a_pair_of_betas_or_an_unknown_gain_is_refused_in_words(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fr.StreamAdamW(network().parameters(), **options)


def test_the_base_of_the_heavy_ball_gain_is_the_method_s_momentum() -> None:
    """A shift of 0 has gain 1 at every base; a plain mapping is shifted from 0.9."""
    for base in (0.9, 0.8):
        plain, _ = ADAMW.trained(DKD, 4)
        gained = network()
        opt = fr.StreamAdamW(gained.parameters(), lr=0.01, betas=DKD.momenta(0.9), weight_decay=0.02, gain="heavy-ball")
        for step in range(4):
            step_once(gained, opt, DKD, step)
        assert_same(plain, gained)
        p = nn.Parameter(torch.zeros(1).double())
        momenta = fr.Momenta({"a": 0.5}, base=base)
        opt = fr.StreamAdamW([p], lr=1.0, betas=momenta, weight_decay=0.0, gain="heavy-ball")
        opt.step({"a": [torch.ones(1).double()]})
        assert float(-p.detach()) == pytest.approx((1 - base) / 0.5)
