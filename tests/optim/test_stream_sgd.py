"""StreamSGD is torch.optim.SGD where it can be, merges exactly, and aligns gradients by identity."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import fractionate as fr
from fractionate import Method, StreamSGD
from tests.asserts import assert_equal
from tests.optim.problem import DKD, buffer_sum, network, rows, step_once, trained

ONE_STREAM = DKD
THREE_EQUAL_STREAMS = fr.methods.deepkd(DKD, delta=0.0)
TWO_EQUAL_STREAMS = fr.methods.dot(DKD, delta=0.0)
EQUAL = pytest.mark.parametrize("method", [ONE_STREAM, THREE_EQUAL_STREAMS, TWO_EQUAL_STREAMS], ids=repr)
OPTIONS = [
    {},
    {"weight_decay": 0.05},
    {"weight_decay": 0.05, "dampening": 0.3},
    {"weight_decay": 0.05, "nesterov": True},
]


def assert_equal_parameters(a: nn.Module, b: nn.Module, rtol: float = 1e-12) -> None:
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        assert_equal(p.detach(), q.detach(), name, rtol)


def step_torch(net: nn.Module, opt: torch.optim.SGD, step: int) -> None:
    opt.zero_grad()
    DKD.loss(rows(net, step)).backward()
    opt.step()


# -- equal momenta are torch's SGD ---------------------------------------------------------------


@EQUAL
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("m", [0.9, 0.5])
def test_equal_momenta_equal_torch_sgd_in_parameters_and_buffers(method: Method, options: Any, m: float) -> None:
    net, opt = trained(method, m=m, merge=False, **options)
    other = network()
    reference = torch.optim.SGD(other.parameters(), lr=0.05, momentum=m, **options)
    for step in range(12):
        step_torch(other, reference, step)
    assert_equal_parameters(net, other)
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert len(opt.state[p]) == len(method.streams)
        assert_equal(buffer_sum(opt, p), reference.state[q]["momentum_buffer"], "buffer", 1e-12)


@EQUAL
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_momentum_zero_is_plain_gradient_descent_and_keeps_no_buffer(method: Method, decay: float) -> None:
    net, opt = trained(method, m=0.0, merge=False, weight_decay=decay)
    other = network()
    reference = torch.optim.SGD(other.parameters(), lr=0.05, weight_decay=decay)
    for step in range(12):
        step_torch(other, reference, step)
    assert_equal_parameters(net, other)
    assert all(not opt.state[p] for p in net.parameters())


def groups(net: nn.Sequential) -> list[dict[str, Any]]:
    """Weights decay, biases do not and move faster."""
    return [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0.0, "lr": 0.2, "nesterov": True},
    ]


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "none": lambda opt: None,
    "cosine": lambda opt: lr_scheduler.CosineAnnealingLR(opt, T_max=10),
    "one cycle": lambda opt: lr_scheduler.OneCycleLR(opt, max_lr=[0.3, 0.1], total_steps=13, cycle_momentum=False),
    "lambda": lambda opt: lr_scheduler.LambdaLR(opt, lambda step: 0.9**step),
    "steps": lambda opt: lr_scheduler.MultiStepLR(opt, [3, 7]),
}


@EQUAL
@pytest.mark.parametrize("schedule", SCHEDULERS.values(), ids=SCHEDULERS)
def test_parameter_groups_and_torch_schedulers_act_as_on_torch_sgd(method: Method, schedule: Any) -> None:
    net, other = network(), network()
    opt = StreamSGD(groups(net), lr=0.05, momentum=method.momenta(0.9, merge=False))
    reference = torch.optim.SGD(groups(other), lr=0.05, momentum=0.9)
    schedulers = [schedule(o) for o in (opt, reference)]
    for step in range(12):
        step_once(net, opt, method, step, merge=False)
        step_torch(other, reference, step)
        for scheduler in schedulers:
            if scheduler is not None:
                scheduler.step()
        assert [g["lr"] for g in opt.param_groups] == [g["lr"] for g in reference.param_groups]
    assert_equal_parameters(net, other)


def test_the_step_length_under_a_constant_gradient_grows_to_one_over_one_minus_m() -> None:
    """Heavy ball, no exponential average."""
    p = nn.Parameter(torch.zeros(1).double())
    opt = StreamSGD([p], lr=1.0, momentum={"loss": 0.75})
    for _ in range(200):
        before = float(p.detach())
        opt.step({"loss": [torch.ones(1).double()]})
    assert before - float(p.detach()) == pytest.approx(1 / (1 - 0.75))


# -- both rules of DeepKD, by hand ----------------------------------------------------------------


def three_steps(method: Method, grads: list[tuple[float, float, float]]) -> list[float]:
    p, seen = nn.Parameter(torch.ones(1).double()), []
    opt = StreamSGD([p], lr=0.1, momentum=method.momenta(0.9, merge=False), weight_decay=0.5)
    for step in grads:
        opt.step({n: [torch.tensor([g]).double()] for n, g in zip(("task", "target", "nontarget"), step, strict=True)})
        seen.append(float(p.detach()))
    return seen


GRADS = [(1.0, 2.0, 3.0), (-1.0, 0.5, 2.0), (0.25, -4.0, 1.0)]


def test_three_steps_of_the_paper_s_rule_by_hand() -> None:
    theta, task, target, nontarget, expected = 1.0, 0.0, 0.0, 0.0, []
    for g_task, g_target, g_nontarget in GRADS:
        task = 0.975 * task + g_task + 0.5 * theta
        target = 0.825 * target + g_target
        nontarget = 0.975 * nontarget + g_nontarget
        theta -= 0.1 * (task + target + nontarget)
        expected.append(theta)
    assert three_steps(fr.methods.deepkd(DKD), GRADS) == pytest.approx(expected, rel=1e-12)


def test_three_steps_of_the_published_code_by_hand() -> None:
    theta, task, target, nontarget, expected = 1.0, 0.0, 0.0, 0.0, []
    for g_task, g_target, g_nontarget in GRADS:
        task = 0.825 * task + g_task
        theta -= 0.1 * task
        nontarget = 0.975 * nontarget + g_nontarget
        theta -= 0.1 * nontarget
        target = 0.825 * target + g_target + 0.5 * theta
        theta -= 0.1 * target
        expected.append(theta)
    assert three_steps(fr.methods.deepkd(DKD, rule="published-code"), GRADS) == pytest.approx(expected, rel=1e-12)


def test_the_task_shift_moves_the_paper_s_rule_and_never_the_published_code() -> None:
    for rule, moves in (("paper", True), ("published-code", False)):
        runs = [
            trained(fr.methods.deepkd(DKD, rule=rule, delta_task=d), merge=False, weight_decay=0.02)[0]
            for d in (0.075, 0.01)
        ]
        a, b = (torch.cat([p.detach().flatten() for p in net.parameters()]) for net in runs)
        assert torch.equal(a, b) is not moves


def test_the_published_code_without_decay_is_dot_with_the_target_in_the_task() -> None:
    published = fr.methods.deepkd(DKD, rule="published-code")
    streams = {"both": ["task", "target"], "nontarget": ["nontarget"]}
    split = fr.resplit(DKD, streams, {"both": -0.075, "nontarget": 0.075})
    assert_equal_parameters(trained(published, 50)[0], trained(split, 50)[0])


def test_momentum_zero_switches_the_task_buffer_of_the_published_code_off() -> None:
    method = fr.methods.deepkd(DKD, rule="published-code", delta_task=-0.9)
    net, opt = trained(method, 1)
    assert all(set(opt.state[p]) == {"target", "nontarget"} for p in net.parameters())
    other, _ = trained(fr.methods.deepkd(DKD, rule="published-code"), 1)
    assert_equal_parameters(net, other)  # on the first step a buffer is the gradient itself


# -- merging --------------------------------------------------------------------------------------

MERGING = [
    fr.methods.deepkd(DKD),
    fr.methods.deepkd(DKD, decay_on="target"),
    fr.methods.deepkd(DKD, decay_on="decoupled"),
    fr.methods.deepkd(DKD, normalize_gain=True),
    fr.methods.deepkd(DKD, delta_task=-0.075),
    fr.methods.dot(DKD, delta=0.0),
    fr.methods.deepkd(fr.methods.gdkd(k=3, warmup=1)),
]


def skipping(step: int) -> str | None:
    """The nontarget component is missing on every third step."""
    return None if step % 3 else "nontarget"


@pytest.mark.parametrize("method", MERGING, ids=repr)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_merged_streams_equal_separate_ones_in_parameters_and_summed_buffers(method: Method, options: Any) -> None:
    (a, merged), (b, separate) = (trained(method, merge=merge, **options) for merge in (True, False))
    assert len(merged.momenta) < len(separate.momenta)
    assert_equal_parameters(a, b)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        for name, buffer in merged.state[p].items():
            parts = torch.stack([separate.state[q][part] for part in name.split("+")]).sum(0)
            assert_equal(buffer, parts, name, 1e-12)


def test_merged_equals_separate_when_a_loss_is_missing_on_some_steps() -> None:
    """A missing gradient decays its buffer; it does not freeze it."""
    method = fr.methods.deepkd(DKD, delta_nontarget=0.05)  # only task + target merge below
    method = fr.resplit(method, {"a": ["task"], "b": ["target"], "c": ["nontarget"]}, {"a": 0.05, "c": 0.05})
    merged = fr.resplit(DKD, {"a": ["task", "nontarget"], "b": ["target"]}, {"a": 0.05})
    one, _ = trained(method, merge=False, skip_at=skipping, weight_decay=0.02)
    two, _ = trained(merged, skip_at=skipping, weight_decay=0.02)
    assert_equal_parameters(one, two)


def test_the_published_code_merges_exactly_without_decay_and_says_otherwise_with_it() -> None:
    method = fr.methods.deepkd(DKD, rule="published-code")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equal_parameters(trained(method, merge=True)[0], trained(method, merge=False)[0])
    with pytest.warns(UserWarning, match="not bit-compatible with the published code"):
        merged, _ = trained(method, merge=True, weight_decay=0.02)
    exact, _ = trained(method, merge=False, weight_decay=0.02)
    pairs = zip(merged.parameters(), exact.parameters(), strict=True)
    gap = max(float((p - q).detach().abs().max()) for p, q in pairs)
    assert 1e-6 < gap < 3e-2
