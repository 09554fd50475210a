"""StreamAdamW equals the slow rule, parameters and every moment, whichever stream reaches what; the rule is AdamW."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fractionate import Momenta, StreamAdamW
from tests import golden
from tests.asserts import assert_equal
from tests.golden.network import SAVED_AFTER, Network, batches
from tests.optim.test_golden import ADAMW, adamw_method_of
from tests.reference import optim_adamw as twin
from tests.reference.test_optim_rules import Presence, always, gradients, presences

LR, DECAY = 0.05, 0.02
STREAMS = {"task": 0.9, "target": 0.825, "nontarget": 0.975}


def assert_follows(betas: dict[str, float], presence: Presence, **options: Any) -> None:
    params = [torch.nn.Parameter(torch.linspace(-1, 1, 3).double() + i) for i in range(2)]
    thetas: list[Tensor] = [p.detach().clone() for p in params]
    moments: list[twin.Moments] = [{}, {}]
    fast = StreamAdamW(params, lr=LR, betas=betas, weight_decay=DECAY, **options)
    for grads in gradients(presence):
        fast.step(grads)
        for i, p in enumerate(params):
            own = {name: g[i] for name, g in grads.items()}
            thetas[i] = twin.stream_adamw(thetas[i], moments[i], own, lr=LR, betas=betas, weight_decay=DECAY, **options)
            assert_equal(p.detach(), thetas[i], f"parameter {i}", 1e-12)
            if moments[i]:
                assert fast.state[p]["step"] == moments[i]["t"]
                assert_equal(fast.state[p]["exp_avg_sq"], moments[i]["v"], f"second moment of {i}", 1e-12)
                for name in betas:
                    found = fast.state[p].get(name, torch.zeros_like(p))  # not there before its stream has come
                    assert_equal(found.detach(), moments[i][name], f"moment {name} of {i}", 1e-12)


@given(presences(tuple(STREAMS)), st.sampled_from(["normalised", "heavy-ball"]), st.sampled_from([None, 0.3]))
def test_every_stream_has_a_moment_and_the_sum_has_the_second(
    presence: Presence, gain: str, clip_rms: float | None
) -> None:
    assert_follows(STREAMS, presence, gain=gain, clip_rms=clip_rms)


@pytest.mark.parametrize("options", [{"beta2": 0.5}, {"eps": 0.1}, {"beta2": 0.0, "eps": 1e-3}], ids=str)
def test_the_second_moment_s_numbers_enter_as_in_the_rule(options: dict[str, float]) -> None:
    assert_follows({"a": 0.9, "b": 0.0}, always("a", "b"), **options)


@pytest.mark.parametrize("case", ADAMW, ids=lambda case: case.id)
def test_the_slow_rule_follows_the_golden_trajectory(case: golden.Case) -> None:
    h, net, method = case.hyper, Network(case), adamw_method_of(case)
    moments: list[twin.Moments] = [{} for _ in net.parameters()]
    betas = method.momenta(0.9, merge=False)
    from fractionate import Logits, stream_grads

    for step, (x, target, teacher) in enumerate(batches(case), start=1):
        grads = stream_grads(method.stream_losses(Logits(net(x), teacher, target), merge=False), net)
        for i, p in enumerate(net.parameters()):
            new = twin.stream_adamw(
                p.detach(),
                moments[i],
                {name: row[i] for name, row in grads.items()},
                lr=h["lr_per_step"][step - 1],
                betas=betas,
                beta2=h.get("beta2", 0.999),
                eps=h["eps"],
                weight_decay=h["weight_decay"],
                gain=h.get("gain", "normalised"),
            )
            p.data.copy_(new)
        if step in SAVED_AFTER:
            golden.assert_close(net.flat(), case.array(case.outputs[f"params_after_{step}"]), f"{case.id} step {step}")


@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_the_slow_rule_with_one_stream_is_torch_s_adamw(decay: float) -> None:
    p = torch.nn.Parameter(torch.linspace(-1, 1, 3).double())
    theta, moments = p.detach().clone(), {}
    reference = torch.optim.AdamW([p], lr=LR, weight_decay=decay)
    for grads in gradients(always("loss")):
        p.grad = grads["loss"][0]
        reference.step()
        theta = twin.stream_adamw(
            theta, moments, {"loss": grads["loss"][0]}, lr=LR, betas={"loss": 0.9}, weight_decay=decay
        )
        assert_equal(theta, p.detach(), "parameter", 1e-14)
        assert_equal(moments["loss"], reference.state[p]["exp_avg"], "first moment", 1e-14)
        assert_equal(moments["v"], reference.state[p]["exp_avg_sq"], "second moment", 1e-14)


def test_a_second_moment_per_stream_would_cancel_the_weights_of_losses() -> None:
    """Constant gradients 1 and -0.5: the sum goes on at full step, the form per stream stands still."""
    grads = {"a": torch.ones(1).double(), "b": -0.5 * torch.ones(1).double()}
    betas = {"a": 0.9, "b": 0.9}
    ours, other, moments, apart = torch.zeros(1).double(), torch.zeros(1).double(), {}, {}
    for _ in range(10):
        ours = twin.stream_adamw(ours, moments, grads, lr=0.01, betas=betas)
        other = twin.second_moment_per_stream(other, apart, grads, lr=0.01, betas=betas)
    assert float(ours) == pytest.approx(-0.1, rel=1e-5)
    assert abs(float(other)) < 1e-7


def test_a_shift_changes_memory_and_not_gain() -> None:
    """Under a constant gradient every coefficient steps by lr, and "heavy-ball" by (1 - b) / (1 - b_c) of it."""
    for b in (0.825, 0.9, 0.975):
        for gain, expected in (("normalised", 1.0), ("heavy-ball", 0.1 / (1 - b))):
            p = torch.nn.Parameter(torch.zeros(1).double())
            opt = StreamAdamW([p], lr=0.01, betas=Momenta({"a": b}, base=0.9), weight_decay=0.0, gain=gain)
            for _ in range(5):
                opt.step({"a": [torch.ones(1).double()]})
            assert float(-p.detach()) == pytest.approx(0.05 * expected, rel=1e-6)
