"""Which gradient belongs to which parameter: by identity, with nothing left to order, flags or ``p.grad``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fractionate as fr
from fractionate import Momenta, StreamGrads, StreamSGD
from tests.asserts import assert_equal
from tests.optim.problem import DKD, network, rows, step_once, trained

DEEPKD = fr.methods.deepkd(DKD)


def parameters(seed: int = 0) -> list[nn.Parameter]:
    """Three parameters of equal shape, so that a mix-up would go unnoticed."""
    random = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(4, generator=random).double()) for _ in range(3)]


def random_grads(params: list[nn.Parameter], streams: str, seed: int = 5) -> dict[str, tuple[Tensor | None, ...]]:
    random = torch.Generator().manual_seed(seed)
    return {s: tuple(torch.randn(4, generator=random).double() for _ in params) for s in streams}


def test_the_order_of_the_optimizer_s_parameters_does_not_matter() -> None:
    a, b = parameters(), parameters()
    in_order, shuffled = (StreamSGD(p, lr=0.1, momentum={"a": 0.9, "b": 0.5}) for p in (a, [b[2], b[0], b[1]]))
    for step in range(3):
        grads = random_grads(a, "ab", step)
        in_order.step(StreamGrads(grads, tuple(a)))
        shuffled.step(StreamGrads(grads, tuple(b)))
    for p, q in zip(a, b, strict=True):
        assert torch.equal(p, q)


def test_a_plain_mapping_is_aligned_by_position_and_by_parameter_as_well() -> None:
    by_identity, by_position, by_key = parameters(), parameters(), parameters()
    grads = random_grads(by_identity, "ab")
    momentum = {"a": 0.9, "b": 0.5}
    StreamSGD(by_identity, lr=0.1, momentum=momentum).step(StreamGrads(grads, tuple(by_identity)))
    StreamSGD(by_position, lr=0.1, momentum=momentum).step(grads)
    keyed = {s: dict(zip(by_key, g, strict=True)) for s, g in grads.items()}
    StreamSGD(by_key, lr=0.1, momentum=momentum).step(keyed)
    for p, q, r in zip(by_identity, by_position, by_key, strict=True):
        assert torch.equal(p, q)
        assert torch.equal(p, r)


def test_frozen_parameters_get_none_and_stay_where_they_are() -> None:
    net = network()
    net[0].requires_grad_(False)
    before = [p.detach().clone() for p in net[0].parameters()]
    opt = StreamSGD(net.parameters(), lr=0.1, momentum=DEEPKD.momenta(0.9), weight_decay=0.5)
    grads = fr.stream_grads(DEEPKD.stream_losses(rows(net, 0)), net)
    assert all(g[0] is None and g[1] is None for g in grads.values())
    opt.step(grads)
    assert all(torch.equal(p, q) for p, q in zip(net[0].parameters(), before, strict=True))
    assert all(not opt.state.get(p) for p in net[0].parameters())


def test_freezing_in_the_middle_of_training_keeps_the_rest_going() -> None:
    net, opt = trained(DEEPKD, 3)
    net[2].bias.requires_grad_(False)
    frozen, moving = net[2].bias.detach().clone(), net[2].weight.detach().clone()
    step_once(net, opt, DEEPKD, 3)
    assert torch.equal(net[2].bias, frozen)
    assert not torch.equal(net[2].weight, moving)


def test_an_optimizer_of_some_parameters_moves_those_alone() -> None:
    net = network()
    opt = StreamSGD(net[2].parameters(), lr=0.1, momentum=DEEPKD.momenta(0.9))
    before = net[0].weight.detach().clone()
    with pytest.warns(UserWarning, match="2 of 4 differentiated parameters are in no stream optimizer"):
        step_once(net, opt, DEEPKD, 0)
    assert torch.equal(net[0].weight, before)


def test_a_missing_stream_and_a_missing_gradient_count_as_zero() -> None:
    one, two, three = parameters(), parameters(), parameters()
    opts = [StreamSGD(p, lr=0.1, momentum={"a": 0.9, "b": 0.5}, weight_decay=0.1) for p in (one, two, three)]
    for step in range(3):
        grads = random_grads(one, "ab", step)
        zeros = tuple(torch.zeros(4).double() for _ in one)
        absent = {"a": {"a": grads["a"]}, "b": {"b": grads["b"]}}["ab"[step % 2]]
        (present,) = absent
        other = "b" if present == "a" else "a"
        opts[0].step({present: grads[present], other: zeros})
        opts[1].step(absent)
        opts[2].step({present: grads[present], other: (None,) * 3})
    for p, q, r in zip(one, two, three, strict=True):
        assert_equal(q.detach(), p.detach(), "missing stream", 1e-14)
        assert_equal(r.detach(), p.detach(), "missing gradient", 1e-14)


def test_a_parameter_that_no_stream_reaches_does_not_even_decay() -> None:
    params = parameters()
    opt = StreamSGD(params, lr=0.1, momentum=Momenta({"a": 0.9, "b": 0.5}, decay_on="decoupled"), weight_decay=0.5)
    before = params[1].detach().clone()
    (a,) = random_grads(params, "a").values()
    opt.step({"a": (a[0], None, a[2])})
    assert torch.equal(params[1], before)
    assert not opt.state.get(params[1])


@pytest.mark.filterwarnings("ignore:StreamSGD.step")  # it says that p.grad is not read
@pytest.mark.parametrize("set_to_none", [True, False])
def test_p_grad_is_neither_read_nor_written(set_to_none: bool) -> None:
    net, other = network(), network()
    opts = [StreamSGD(n.parameters(), lr=0.1, momentum=DEEPKD.momenta(0.9)) for n in (net, other)]
    for p in other.parameters():
        p.grad = torch.full_like(p, 1e6)
    for step in range(3):
        for n, opt in zip((net, other), opts, strict=True):
            step_once(n, opt, DEEPKD, step)
        opts[1].zero_grad(set_to_none=set_to_none)
        for p in other.parameters():
            assert p.grad is None if set_to_none else bool((p.grad == 0).all())
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), other.parameters(), strict=True))
    assert all(p.grad is None for p in net.parameters())


def test_the_gradients_are_not_changed_by_a_step() -> None:
    params = parameters()
    opt = StreamSGD(params, lr=0.1, momentum={"a": 0.9, "b": 0.0}, weight_decay=0.1)
    grads = random_grads(params, "ab")
    before = {s: [g.clone() for g in gs] for s, gs in grads.items()}
    for _ in range(2):
        opt.step(grads)
    assert all(torch.equal(g, b) for s in grads for g, b in zip(grads[s], before[s], strict=True))


# -- orphans: parameters that one stream alone reaches ---------------------------------------------


@pytest.mark.parametrize(("orphan", "m"), [("own", 0.975), ("mean", 0.9)])
def test_an_orphan_uses_its_stream_s_coefficient_or_the_mean(orphan: str, m: float) -> None:
    """Two unit gradients without decay: theta = -(1 + 1 + m)."""
    method = fr.methods.dot(fr.methods.kd(), delta=0.075, orphan=orphan)
    p, q = (nn.Parameter(torch.zeros(1).double()) for _ in range(2))
    opt = StreamSGD([p, q], lr=1.0, momentum=method.momenta(0.9))
    one = torch.ones(1).double()
    for _ in range(2):
        opt.step({"task": [None, one], "distillation": [one, one]})
    assert float(p.detach()) == pytest.approx(-(2 + m))
    assert float(q.detach()) == pytest.approx(-(2 + 0.825) - (2 + 0.975))


# -- what is refused -------------------------------------------------------------------------------


def test_an_unknown_stream_names_the_nearest() -> None:
    opt = StreamSGD(parameters(), lr=0.1, momentum=DEEPKD.momenta(0.9, merge=False))
    with pytest.raises(ValueError, match="unknown stream 'nontargets': did you mean 'nontarget'"):
        opt.step({"nontargets": [None, None, None]})


def test_gradients_of_another_model_are_refused() -> None:
    opt = StreamSGD(network().parameters(), lr=0.1, momentum=DEEPKD.momenta(0.9))
    other = network()
    with pytest.raises(ValueError, match="belong to none of the optimizer's parameters"):
        opt.step(fr.stream_grads(DEEPKD.stream_losses(rows(other, 0)), other))


def test_the_wrong_number_of_gradients_is_refused() -> None:
    opt = StreamSGD(parameters(), lr=0.1, momentum={"a": 0.9})
    with pytest.raises(ValueError, match="stream 'a' has 2 gradients for 3 parameters"):
        opt.step({"a": [None, None]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr must not be negative"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"dampening": float("nan")}, "dampening must not be negative"),
        ({"momentum": 1.0}, r"stream 'loss' must lie in \[0, 1\), got 1"),
        ({"momentum": {"a": 0.9, "b": -0.1}}, r"stream 'b' must lie in \[0, 1\), got -0.1"),
        ({"momentum": {}}, "at least one stream"),
        ({"momentum": 0.9, "nesterov": True, "dampening": 0.1}, "nesterov needs dampening 0"),
        ({"momentum": {"a": 0.9, "b": 0.0}, "nesterov": True}, "momentum above 0 in every stream"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamSGD(parameters(), **{"lr": 0.1, **options})


def test_nesterov_does_not_go_with_streams_that_move_one_after_the_other() -> None:
    momenta = fr.methods.deepkd(DKD, rule="published-code").momenta(0.9)
    with pytest.raises(ValueError, match=r"moves the streams one after the other"):
        StreamSGD(parameters(), lr=0.1, momentum=momenta, nesterov=True)


def test_a_momentum_in_a_parameter_group_is_refused_as_it_would_be_ignored() -> None:
    p, q, _ = parameters()
    with pytest.raises(ValueError, match="momentum belongs to the streams"):
        StreamSGD([{"params": [p]}, {"params": [q], "momentum": 0.5}], lr=0.1, momentum=0.9)


def test_a_group_that_is_refused_later_leaves_the_optimizer_as_it_was() -> None:
    p, q, _ = parameters()
    opt = StreamSGD([p], lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match="lr must not be negative, got -1"):
        opt.add_param_group({"params": [q], "lr": -1})
    assert len(opt.param_groups) == 1
