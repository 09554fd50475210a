"""The batched twins of the benchmarks equal the row-by-row ones that reproduce the golden numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fractionate.kernels import as_direction
from tests import cases
from tests.asserts import assert_equal, assert_same
from tests.reference import basics, directions, dkd, gdkd, optim
from tests.reference import published_operations as published
from tests.reference.published_step import ORDER, PublishedStep

LG = cases.easy(n=9, c=11)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_published_operations_equal_the_formulas(temperature: float) -> None:
    s, t, y = LG.student, LG.teacher, LG.target
    assert_same(published.kd(s, t, temperature), {"kd": basics.kd(s, t, temperature)}, 1e-9)
    assert_same(published.dkd(s, t, y, temperature), dkd.dkd(s, t, y, temperature=temperature), 1e-9)
    assert_same(published.gdkd(s, t, 3, temperature), gdkd.gdkd(s, t, k=3, temperature=temperature), 1e-9)


@pytest.mark.parametrize("text", ["reverse", "jsd(0.5)", "skew(0.1)", "skew_reverse(0.1)"])
def test_operations_of_other_directions_equal_the_definitions(text: str) -> None:
    s, t, way = LG.student, LG.teacher, as_direction(text)
    slow = torch.stack([directions.divergence(way, p.softmax(0), q.softmax(0)) for p, q in zip(t, s, strict=True)])
    assert_same(published.directed(s, t, way.name, 1.0), {"kd": slow}, 1e-9)


@pytest.mark.parametrize("rule", ["paper", "published-code"])
def test_the_published_step_equals_the_rules_one_tensor_at_a_time(rule: str) -> None:
    momenta = {"task": 0.975, "target": 0.825, "nontarget": 0.95}
    w = torch.linspace(-1, 1, 12).double().view(3, 4).requires_grad_()
    theta, buffers = w.detach().clone(), {}
    fast = PublishedStep([w], lr=0.1, momenta=momenta, weight_decay=0.02, rule=rule)
    for step in range(4):
        fast.step(fast.backward(losses(w, step)))
        theta.requires_grad_()
        grads = {name: torch.autograd.grad(loss, theta)[0] for name, loss in losses(theta, step).items()}
        theta = slow(rule, theta.detach(), buffers, grads, momenta)
        assert_equal(w.detach(), theta, "parameter", 1e-12)
        for name in ORDER:
            assert_equal(fast.buffers[name][0], buffers[name], name, 1e-12)


def losses(w: Tensor, step: int) -> dict[str, Tensor]:
    x = torch.randn(4, generator=torch.Generator().manual_seed(step)).double()
    return {name: (w @ x).sin().mul(i + 1).sum() for i, name in enumerate(("task", "target", "nontarget"))}


def slow(rule: str, theta: Tensor, buffers: optim.Buffers, grads: dict, momenta: dict[str, float]) -> Tensor:
    if rule == "paper":
        return optim.deepkd_paper(theta, buffers, grads, lr=0.1, momenta=momenta, weight_decay=0.02)
    named = {f"m_{name}": m for name, m in momenta.items()}
    return optim.deepkd_published(theta, buffers, grads, lr=0.1, weight_decay=0.02, **named)
