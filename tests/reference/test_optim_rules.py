"""StreamSGD equals the slow rules, parameters and every buffer, whichever stream reaches what."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import fractionate as fr
from fractionate import Momenta, StreamSGD
from tests.asserts import assert_equal
from tests.reference import optim as twin

LR, DECAY, M = 0.05, 0.02, 0.9
Presence = list[dict[str, list[bool]]]  # step -> stream -> does it reach parameter i
Slow = Callable[[Tensor, twin.Buffers, twin.Grads], Tensor]


def presences(streams: tuple[str, ...]) -> st.SearchStrategy[Presence]:
    """Four steps of two parameters; streams come and go."""
    reach = st.lists(st.booleans(), min_size=2, max_size=2)
    return st.lists(st.fixed_dictionaries(dict.fromkeys(streams, reach)), min_size=4, max_size=4)


def gradients(presence: Presence) -> list[dict[str, list[Tensor | None]]]:
    random = torch.Generator().manual_seed(7)
    return [
        {
            name: [torch.randn(3, generator=random).double() if r else None for r in reached]
            for name, reached in step.items()
        }
        for step in presence
    ]


def assert_follows(momenta: Momenta, slow: Slow, presence: Presence, **options: object) -> None:
    """The optimizer and the slow rule agree after every step."""
    params = [torch.nn.Parameter(torch.linspace(-1, 1, 3).double() + i) for i in range(2)]
    thetas: list[Tensor] = [p.detach().clone() for p in params]
    buffers: list[twin.Buffers] = [{}, {}]
    fast = StreamSGD(params, lr=LR, momentum=momenta, weight_decay=DECAY, **options)
    for grads in gradients(presence):
        fast.step(grads)
        for i, p in enumerate(params):
            thetas[i] = slow(thetas[i], buffers[i], {name: g[i] for name, g in grads.items()})
            assert_equal(p.detach(), thetas[i], f"parameter {i}", 1e-12)
            for name, buffer in buffers[i].items():
                assert_equal(fast.state[p][name], buffer, f"buffer {name} of {i}", 1e-12)


def always(*streams: str) -> Presence:
    return [{name: [True, True] for name in streams}] * 4


ROLES = ("task", "target", "nontarget")


@given(presences(("task", "distillation")), st.sampled_from(["own", "mean"]))
def test_dot(presence: Presence, orphan: str) -> None:
    method = fr.methods.dot(fr.methods.kd(), delta=0.075, orphan=orphan)

    def slow(theta: Tensor, buffers: twin.Buffers, grads: twin.Grads) -> Tensor:
        return twin.dot(theta, buffers, grads, lr=LR, momentum=M, delta=0.075, weight_decay=DECAY, orphan=orphan)

    stable = [presence[0]] * 4 if orphan == "mean" else presence
    assert_follows(method.momenta(M), slow, stable)


@given(presences(ROLES), st.sampled_from(["task", "target", "decoupled"]))
def test_deepkd_as_in_the_paper(presence: Presence, decay_on: str) -> None:
    method = fr.methods.deepkd(fr.methods.dkd(), delta=0.05, delta_task=0.02, decay_on=decay_on)
    momenta = {"task": M + 0.02, "target": M - 0.05, "nontarget": M + 0.05}

    def slow(theta: Tensor, buffers: twin.Buffers, grads: twin.Grads) -> Tensor:
        if all(g is None for g in grads.values()):
            return theta
        return twin.deepkd_paper(
            theta,
            buffers,
            grads,
            lr=LR,
            momenta=momenta,
            weight_decay=DECAY,
            decay_on=decay_on,
        )

    assert_follows(method.momenta(M, merge=False), slow, presence)


@given(presences(ROLES), st.sampled_from([0.075, 0.0, -M]))
def test_deepkd_as_published(presence: Presence, delta_task: float) -> None:
    """Coefficients and decay by which losses reach a parameter; m_task = 0 switches its buffer off."""
    method = fr.methods.deepkd(
        fr.methods.dkd(),
        rule="published-code",
        delta_task=delta_task,
        delta_target=-0.1,
        delta_nontarget=0.05,
    )

    def slow(theta: Tensor, buffers: twin.Buffers, grads: twin.Grads) -> Tensor:
        return twin.deepkd_published(
            theta,
            buffers,
            grads,
            lr=LR,
            m_task=M + delta_task,
            m_target=M - 0.1,
            m_nontarget=M + 0.05,
            weight_decay=DECAY,
        )

    assert_follows(method.momenta(M), slow, presence)


@pytest.mark.parametrize(
    ("options", "coefficients"),
    [
        ({"dampening": 0.3}, {"a": 0.9, "b": 0.5}),
        ({"dampening": 0.3}, {"a": 0.0, "b": 0.5}),
        ({"nesterov": True}, {"a": 0.9, "b": 0.5}),
        ({}, {"a": 0.0, "b": 0.99, "c": 0.8}),
    ],
)
def test_nesterov_and_dampening(options: dict[str, object], coefficients: dict[str, float]) -> None:
    def slow(theta: Tensor, buffers: twin.Buffers, grads: twin.Grads) -> Tensor:
        return twin.sgd(theta, buffers, grads, lr=LR, momenta=coefficients, weight_decay=DECAY, **options)

    names = always(*coefficients)
    params_only = {n: m for n, m in coefficients.items() if m > 0}
    if len(params_only) == len(coefficients):
        assert_follows(Momenta(coefficients), slow, names, **options)
    else:
        assert_follows_without_buffers(coefficients, slow, names, **options)


def assert_follows_without_buffers(
    coefficients: Mapping[str, float], slow: Slow, presence: Presence, **options: object
) -> None:
    """As `assert_follows`, for streams at momentum 0, which need no buffer."""

    def forgetful(theta: Tensor, buffers: twin.Buffers, grads: twin.Grads) -> Tensor:
        theta = slow(theta, buffers, grads)
        for name, m in coefficients.items():
            if m == 0:
                del buffers[name]
        return theta

    assert_follows(Momenta(coefficients), forgetful, presence, **options)


def test_normalized_gain_scales_the_step_of_each_stream() -> None:
    method = fr.methods.deepkd(fr.methods.dkd(), delta=0.05, normalize_gain=True)
    momenta = {"task": M + 0.05, "target": M - 0.05, "nontarget": M + 0.05}
    gains = {name: twin.normalized_gain(m, M) for name, m in momenta.items()}

    def slow(theta: Tensor, buffers: twin.Buffers, grads: twin.Grads) -> Tensor:
        return twin.sgd(
            theta,
            buffers,
            grads,
            lr=LR,
            momenta=momenta,
            weight_decay=DECAY,
            decay_stream="task",
            gains=gains,
        )

    assert_follows(method.momenta(M, merge=False), slow, always(*ROLES))


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("dampening", [0.0, 0.4])
@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_the_slow_rule_with_one_stream_is_torch_sgd(nesterov: bool, dampening: float, decay: float) -> None:
    """What entitles the slow nesterov and dampening to judge: torch's own optimizer."""
    if nesterov and dampening:
        return
    options = {"nesterov": nesterov, "dampening": dampening, "weight_decay": decay}
    p = torch.nn.Parameter(torch.linspace(-1, 1, 3).double())
    theta, buffers = p.detach().clone(), {}
    reference = torch.optim.SGD([p], lr=LR, momentum=M, **options)
    for grads in gradients(always("loss")):
        p.grad = grads["loss"][0]
        reference.step()
        own = {"loss": grads["loss"][0]}
        theta = twin.sgd(theta, buffers, own, lr=LR, momenta={"loss": M}, **options)
        assert_equal(theta, p.detach(), "parameter", 1e-14)
        assert_equal(buffers["loss"], reference.state[p]["momentum_buffer"], "buffer", 1e-14)
