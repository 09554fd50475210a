"""What holds for every stream optimizer: torch's own where coefficients are equal, merging, groups, copies, types."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import nn
from torch.optim import lr_scheduler

import fractionate as fr
from fractionate import Method
from fractionate.optim import StreamGrads
from fractionate.optim.momenta import fit_state
from tests.asserts import assert_equal
from tests.optim.kinds import EACH, Kind, assert_same
from tests.optim.problem import DKD, network, rows, step_once

DEEPKD = fr.methods.deepkd(DKD)


def assert_near(a: nn.Module, b: nn.Module, rtol: float = 1e-12) -> None:
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        assert_equal(p.detach(), q.detach(), name, rtol)


def step_torch(net: nn.Module, opt: torch.optim.Optimizer, step: int) -> None:
    opt.zero_grad()
    DKD.loss(rows(net, step)).backward()
    opt.step()


# -- equal coefficients ----------------------------------------------------------------------------


def groups(net: nn.Sequential) -> list[dict[str, Any]]:
    """Weights decay, biases do not and move faster."""
    return [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0.0, "lr": 0.02},
    ]


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "cosine": lambda opt: lr_scheduler.CosineAnnealingLR(opt, T_max=10),
    "one cycle": lambda opt: lr_scheduler.OneCycleLR(opt, max_lr=[0.3, 0.1], total_steps=13, cycle_momentum=False),
    "cyclic": lambda opt: lr_scheduler.CyclicLR(opt, 0.001, 0.02, step_size_up=3, cycle_momentum=False),
    "steps": lambda opt: lr_scheduler.MultiStepLR(opt, [3, 7]),
}


@EACH
@pytest.mark.parametrize("method", [DKD, fr.methods.deepkd(DKD, delta=0.0), fr.methods.dot(DKD, delta=0.0)], ids=repr)
@pytest.mark.parametrize("m", [0.9, 0.5, 0.0])
def test_equal_coefficients_are_torch_s_optimizer(kind: Kind, method: Method, m: float) -> None:
    net, other = network(), network()
    opt, reference = kind.make(net.parameters(), method.momenta(m, merge=False)), kind.plain(other.parameters(), m)
    for step in range(12):
        step_once(net, opt, method, step, merge=False)
        step_torch(other, reference, step)
    assert_near(net, other)


@EACH
@pytest.mark.parametrize("schedule", SCHEDULERS.values(), ids=SCHEDULERS)
def test_groups_and_torch_s_schedulers_act_as_on_torch_s_optimizer(kind: Kind, schedule: Any) -> None:
    net, other = network(), network()
    opt, reference = kind.make(groups(net), DKD.momenta(0.9)), kind.plain(groups(other), 0.9)
    schedulers = [schedule(o) for o in (opt, reference)]
    for step in range(10):
        step_once(net, opt, DKD, step)
        step_torch(other, reference, step)
        for scheduler in schedulers:
            scheduler.step()
        assert [g["lr"] for g in opt.param_groups] == [g["lr"] for g in reference.param_groups]
    assert_near(net, other)


@EACH
@pytest.mark.parametrize("make", [lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR])
def test_a_scheduler_that_cycles_the_momentum_is_refused_and_the_page_says_how_to_ask(kind: Kind, make: Any) -> None:
    opt = kind.make(network().parameters(), DEEPKD.momenta(0.9))
    options = {"total_steps": 10} if make is lr_scheduler.OneCycleLR else {"base_lr": 0.01}
    with pytest.raises(ValueError, match="cycle_momentum"):
        make(opt, max_lr=0.1, **options)
    assert "cycle_momentum=False" in type(opt).__doc__


@EACH
@pytest.mark.parametrize(("key", "value"), [("momentum", 0.95), ("betas", (0.95, 0.999))])
def test_a_coefficient_written_into_a_group_is_refused_when_it_would_be_ignored(
    kind: Kind, key: str, value: Any
) -> None:
    net, opt = kind.trained(DEEPKD, 1)
    opt.param_groups[0][key] = value
    with pytest.raises(ValueError, match="cycle_momentum=False"):
        step_once(net, opt, DEEPKD, 1)


@EACH
def test_parameters_that_thaw_and_join_later_move_as_under_torch_s_optimizer(kind: Kind) -> None:
    """A head alone first, then the body with options of its own; frozen again for a while, and resumed in the end."""
    nets = [network(), network()]
    makers = [lambda ps, **o: kind.make(ps, DKD.momenta(0.9), **o), lambda ps, **o: kind.plain(ps, 0.9, **o)]
    opts = [make(net[2].parameters()) for make, net in zip(makers, nets, strict=True)]

    def steps(several: range) -> None:
        for step in several:
            step_once(nets[0], opts[0], DKD, step)
            step_torch(nets[1], opts[1], step)

    for net in nets:
        net[0].requires_grad_(False)
    steps(range(3))
    for net, opt in zip(nets, opts, strict=True):
        net[0].requires_grad_(True)
        opt.add_param_group({"params": list(net[0].parameters()), "lr": 0.003, "weight_decay": 0.0})
    steps(range(3, 6))
    for net in nets:
        net[2].bias.requires_grad_(False)
    steps(range(6, 8))
    for net in nets:
        net[2].bias.requires_grad_(True)
    for i, make in enumerate(makers):
        fresh = make([{"params": list(nets[i][2].parameters())}, {"params": list(nets[i][0].parameters())}])
        fresh.load_state_dict(copy.deepcopy(opts[i].state_dict()))
        opts[i] = fresh
    steps(range(8, 11))
    assert_near(*nets)


@EACH
def test_recomputed_activations_change_no_step_and_averages_follow(kind: Kind) -> None:
    nets = [network(), network()]
    opts = [kind.make(net.parameters(), DEEPKD.momenta(0.9)) for net in nets]
    average = torch.optim.swa_utils.AveragedModel(nets[0], multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    expected = [p.detach().clone() for p in nets[0].parameters()]

    def recomputed(x: torch.Tensor) -> torch.Tensor:
        return nets[1][2](torch.utils.checkpoint.checkpoint(nets[1][:2], x, use_reentrant=False))

    for step in range(4):
        for net, opt, forward in zip(nets, opts, (nets[0], recomputed), strict=True):
            opt.step(fr.stream_grads(DEEPKD.stream_losses(rows(forward, step)), net))
        average.update_parameters(nets[0])
        new = [p.detach() for p in nets[0].parameters()]
        expected = [b.clone() if not step else (a + b) / 2 for a, b in zip(expected, new, strict=True)]
    assert_near(*nets)
    for p, q in zip(average.parameters(), expected, strict=True):
        assert_equal(p.detach(), q)


# -- merging ---------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize(
    "method",
    [
        DEEPKD,
        fr.methods.deepkd(DKD, delta_task=-0.075),
        fr.methods.dot(DKD, delta=0.0),
        fr.methods.deepkd(fr.methods.gdkd(k=3, warmup=1)),
    ],
    ids=repr,
)
def test_merged_streams_step_as_separate_ones(kind: Kind, method: Method) -> None:
    (a, merged), (b, separate) = (kind.trained(method, 12, merge=merge) for merge in (True, False))
    assert len(merged.momenta) < len(separate.momenta)
    assert merged.merges_exactly
    assert separate.merges_exactly
    assert_near(a, b)


def test_adamw_has_one_moment_per_coefficient_whether_merged_or_not() -> None:
    kind = EACH.args[1][1]
    for merge in (True, False):
        net, opt = kind.trained(DEEPKD, 2, merge=merge)
        for p in net.parameters():
            assert set(opt.state[p]) == {"task+nontarget", "target", "exp_avg_sq", "step"}


def test_streams_that_move_one_after_the_other_do_not_merge_exactly_with_decay() -> None:
    params, momenta = list(network().parameters()), fr.methods.deepkd(DKD, rule="published-code").momenta(0.9)
    assert not fr.StreamSGD(params, momentum=momenta, weight_decay=0.1).merges_exactly
    assert fr.StreamSGD(params, momentum=momenta).merges_exactly


# -- which streams and parameters ------------------------------------------------------------------


@EACH
def test_a_stream_left_out_is_a_stream_of_zeros(kind: Kind) -> None:
    nets = [network(), network()]
    opts = [kind.make(net.parameters(), DEEPKD.momenta(0.9)) for net in nets]
    for step in range(6):
        for net, opt, filled in zip(nets, opts, (False, True), strict=True):
            grads = dict(fr.stream_grads(DEEPKD.stream_losses(rows(net, step)), net))
            if step % 3 == 1:
                del grads["target"]
                if filled:
                    grads["target"] = tuple(torch.zeros_like(p) for p in net.parameters())
            opt.step(grads)
    assert_near(*nets)


@EACH
def test_frozen_and_unreached_parameters_stay_and_get_no_state(kind: Kind) -> None:
    net = network()
    net[0].requires_grad_(False)
    before = [p.detach().clone() for p in net[0].parameters()]
    opt = kind.make(net.parameters(), DEEPKD.momenta(0.9), weight_decay=0.5)
    for step in range(3):
        step_once(net, opt, DEEPKD, step)
    assert all(torch.equal(p, q) for p, q in zip(net[0].parameters(), before, strict=True))
    assert all(not opt.state.get(p) for p in net[0].parameters())


@EACH
def test_the_order_of_the_optimizer_s_parameters_does_not_matter(kind: Kind) -> None:
    net, other = network(), network()
    opts = [kind.make(ps, DEEPKD.momenta(0.9)) for ps in (net.parameters(), reversed(list(other.parameters())))]
    for step in range(3):
        for n, opt in zip((net, other), opts, strict=True):
            step_once(n, opt, DEEPKD, step)
    assert_same(net, other)


@EACH
def test_sparse_gradients_step_as_dense_ones(kind: Kind) -> None:
    torch.manual_seed(0)
    index = torch.tensor([[1], [3], [1], [0]])
    nets = [nn.Sequential(nn.Embedding(6, 4, sparse=sparse), nn.Flatten(), nn.Linear(4, 3)) for sparse in (True, False)]
    nets[1].load_state_dict(nets[0].state_dict())
    opts = [kind.make(net.parameters(), {"a": 0.9, "b": 0.5}) for net in nets]
    for _ in range(3):
        for net, opt in zip(nets, opts, strict=True):
            z = net(index)
            opt.step(fr.stream_grads({"a": z.square().mean(), "b": z.sum()}, net))
    assert_same(*nets)
    weight = nets[0][0].weight
    opts[0].step(
        {"a": {weight: torch.sparse_coo_tensor([[2, 2]], torch.ones(2, 4), (6, 4), check_invariants=True)}}
    )  # twice one place
    opts[1].step({"a": {nets[1][0].weight: torch.eye(6)[2][:, None] * 2 * torch.ones(6, 4)}})
    assert_same(*nets)


# -- state and copies ------------------------------------------------------------------------------


def through_torch_save(pair: Any) -> Any:
    file = io.BytesIO()
    torch.save(pair, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@EACH
@pytest.mark.parametrize(
    "again",
    [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair)), through_torch_save],
    ids=["deepcopy", "pickle", "torch.save"],
)
@pytest.mark.parametrize("steps", [0, 3])
def test_a_copy_goes_on_bit_for_bit(kind: Kind, again: Any, steps: int) -> None:
    net, opt = kind.trained(DEEPKD, steps)
    opt.hold(fr.stream_grads(DEEPKD.stream_losses(rows(net, steps)), net))
    net2, opt2 = again((net, opt))
    for n, o in ((net, opt), (net2, opt2)):
        o.step()
        for step in range(steps + 1, steps + 4):
            step_once(n, o, DEEPKD, step)
    assert_same(net, net2)
    assert dict(opt2.momenta) == dict(opt.momenta)


@EACH
def test_a_run_that_stops_and_resumes_equals_one_that_does_not(kind: Kind) -> None:
    whole, _ = kind.trained(DEEPKD, 10)
    parts, first = kind.trained(DEEPKD, 4)
    file = io.BytesIO()
    torch.save({"net": parts.state_dict(), "opt": first.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    parts = network(seed=9)
    parts.load_state_dict(saved["net"])
    second = kind.make(parts.parameters(), DEEPKD.momenta(0.9))
    second.load_state_dict(saved["opt"])
    for step in range(4, 10):
        step_once(parts, second, DEEPKD, step)
    assert_same(whole, parts)


@EACH
def test_a_separate_state_loads_into_merged_streams_and_training_goes_on_alike(kind: Kind) -> None:
    separate, opt = kind.trained(DEEPKD, 4, merge=False)
    merged = network()
    merged.load_state_dict(separate.state_dict())
    other = kind.make(merged.parameters(), DEEPKD.momenta(0.9))
    other.load_state_dict(copy.deepcopy(opt.state_dict()))  # as torch's, loading copies no tensor
    for step in range(4, 8):
        step_once(separate, opt, DEEPKD, step, merge=False)
        step_once(merged, other, DEEPKD, step)
    assert_near(separate, merged)


@EACH
def test_a_state_moves_with_the_parameters_of_the_optimizer_that_loads_it(kind: Kind) -> None:
    _, opt = kind.trained(DEEPKD, 2)
    single = network().float()
    into = kind.make(single.parameters(), DEEPKD.momenta(0.9))
    into.load_state_dict(opt.state_dict())
    for p in single.parameters():
        for name, x in into.state[p].items():
            assert name == "step" or (x.dtype == torch.float32 and x.shape == p.shape)
    elsewhere = network().to("meta")
    into = kind.make(elsewhere.parameters(), DEEPKD.momenta(0.9))
    into.load_state_dict(opt.state_dict())
    assert all(x.is_meta for p in elsewhere.parameters() for n, x in into.state[p].items() if n != "step")
    into.step({"target": tuple(torch.zeros_like(p) for p in elsewhere.parameters())})


@EACH
def test_what_a_state_does_not_hold_is_refused(kind: Kind) -> None:
    net, opt = kind.trained(DEEPKD, 2)
    other = kind.make(net.parameters(), fr.methods.deepkd(DKD, delta_task=0.05).momenta(0.9))
    with pytest.raises(ValueError, match=r"'task\+nontarget' cannot be taken apart"):
        other.load_state_dict(opt.state_dict())
    assert not other.state


@EACH
@pytest.mark.parametrize("state", [{}, {"optimizer": {}, "model": {}}, {"state": {}}, {"state": 1, "param_groups": 3}])
def test_what_is_no_optimizer_s_state_is_named(kind: Kind, state: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"load_state_dict: expected what state_dict\(\) of an optimizer gave.*found"):
        kind.trained(DEEPKD, 1)[1].load_state_dict(state)


@EACH
def test_what_are_no_parameters_and_no_momenta_are_named(kind: Kind) -> None:
    net = nn.Linear(2, 2)
    for given in (net, net.weight, net.state_dict()):
        with pytest.raises(ValueError, match=rf"params must be .*net.parameters\(\), got {type(given).__name__}"):
            kind.make(given, 0.9)
    with pytest.raises(ValueError, match=r"must be a number or a mapping, got the text '0\.9'"):
        kind.make(net.parameters(), "0.9")


def test_the_state_of_the_other_optimizer_is_refused() -> None:
    net, opt = EACH.args[1][0].trained(DEEPKD, 2)
    with pytest.raises(ValueError, match=r"saved by StreamSGD"):
        fr.StreamAdamW(net.parameters(), betas=DEEPKD.momenta(0.9)).load_state_dict(opt.state_dict())
    _, opt = EACH.args[1][1].trained(DEEPKD, 2)
    with pytest.raises(ValueError, match=r"saved by StreamAdamW"):
        fr.StreamSGD(net.parameters(), momentum=DEEPKD.momenta(0.9)).load_state_dict(opt.state_dict())


# -- layouts and kernels ---------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("momenta", [{"a": 0.9, "b": 0.5}, {"a": 0.9, "b": 0.9}], ids=["two", "one"])
def test_layouts_of_weights_and_gradients_change_no_step(kind: Kind, momenta: dict[str, float]) -> None:
    """Whichever of torch's kernels is taken."""
    start, last = torch.randn(6, 5, 3, 3, dtype=torch.float64), torch.channels_last
    plain, laid = start.clone(), start.clone().to(memory_format=last)
    made = [kind.make([p], momenta) for p in (plain, laid)]
    for _ in range(3):
        a, b = torch.randn_like(start), torch.randn_like(start)
        made[0].step({"a": [a], "b": [b]})
        made[1].step({"a": [a.to(memory_format=last)], "b": [b]})
    torch.testing.assert_close(plain, laid, rtol=1e-12, atol=1e-14)


@EACH
@pytest.mark.parametrize("momenta", [{"a": 0.9, "b": 0.5}, {"a": 0.9, "b": 0.9}], ids=["two", "one"])
def test_a_learning_rate_may_be_a_tensor(kind: Kind, momenta: dict[str, float]) -> None:
    start = [torch.randn(4, 5), torch.randn(3)]
    found = []
    for lr in (0.01, torch.tensor(0.01)):
        params = [x.clone() for x in start]
        opt = kind.make(params, momenta, lr=lr)
        for seed in range(3):
            torch.manual_seed(seed)
            opt.step({name: [torch.randn_like(p) for p in params] for name in momenta})
        found.append(params)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@EACH
def test_bfloat16_weights_stay_near_those_in_float32(kind: Kind) -> None:
    torch.manual_seed(0)
    wide = [torch.randn(64)]
    narrow = [wide[0].bfloat16()]
    opts = [kind.make(p, {"a": 0.9, "b": 0.5}) for p in (wide, narrow)]
    for _ in range(5):
        grads = {name: torch.randn(64) for name in "ab"}
        for p, opt in zip((wide, narrow), opts, strict=True):
            opt.step({name: [g.to(p[0].dtype)] for name, g in grads.items()})
    torch.testing.assert_close(narrow[0].float(), wide[0], rtol=0.02, atol=0.02)


# -- what is refused -------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize(
    ("grads", "message"),
    [
        ({"nontargets": [None] * 4}, "unknown stream 'nontargets': did you mean"),
        ({"target": [None]}, "stream 'target' has 1 gradients for 4 parameters"),
        (StreamGrads({"target": (torch.ones(2),)}, (torch.zeros(2),)), "none of the optimizer's parameters"),
    ],
    ids=["name", "number", "parameters"],
)
def test_gradients_that_do_not_fit_are_refused(kind: Kind, grads: Any, message: str) -> None:
    opt = kind.make(network().parameters(), DEEPKD.momenta(0.9, merge=False))
    for call in (opt.step, opt.hold):
        with pytest.raises(ValueError, match=message) as raised:
            call(grads)
        assert str(raised.value).startswith(kind.name)


@EACH
@pytest.mark.parametrize("option", ["lr", "weight_decay"])
@pytest.mark.parametrize("value", [1e300, float("inf")])
def test_options_that_float32_cannot_hold_are_refused(kind: Kind, option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{option} must be at most"):
        kind.make(network().parameters(), 0.9, **{option: value})


@EACH
@pytest.mark.parametrize("option", ["lr", "weight_decay"])
def test_options_below_zero_are_refused_in_groups_too(kind: Kind, option: str) -> None:
    p, q = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    with pytest.raises(ValueError, match=f"{option} must not be negative, got -1"):
        kind.make([p], 0.9, **{option: -1.0})
    opt = kind.make([p], 0.9)
    with pytest.raises(ValueError, match=f"{option} must not be negative, got -1"):
        opt.add_param_group({"params": [q], option: -1.0})
    assert len(opt.param_groups) == 1


# -- names with a plus -----------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("names", [("kd+ce", "kd"), ("kd", "kd+ce"), ("ce+kd", "kd+ce")])
def test_streams_whose_names_contain_each_other_keep_their_own_buffers(kind: Kind, names: tuple[str, str]) -> None:
    """In a step, and when they are loaded."""
    p, q = (nn.Parameter(torch.ones(3)) for _ in range(2))
    for x, called in ((p, ("a", "b")), (q, names)):
        opt = kind.make([x], dict(zip(called, (0.9, 0.8), strict=True)))
        opt.step({called[0]: [torch.ones(3)], called[1]: [torch.full((3,), -5.0)]})
        again = kind.make([x], dict(zip(called, (0.9, 0.8), strict=True)))
        again.load_state_dict(opt.state_dict())
        assert again.state[x].keys() == opt.state[x].keys()
        for name, value in opt.state[x].items():
            torch.testing.assert_close(again.state[x][name], value, rtol=0, atol=0)
        again.step({called[0]: [torch.ones(3)], called[1]: [torch.full((3,), 2.0)]})
    assert torch.equal(p, q)


@EACH
def test_a_stream_with_a_plus_may_share_its_coefficient_with_its_part(kind: Kind) -> None:
    p, q = (nn.Parameter(torch.ones(3)) for _ in range(2))
    for x, called in ((p, ("a", "b")), (q, ("kd+ce", "kd"))):
        opt = kind.make([x], dict.fromkeys(called, 0.9))
        opt.step({called[0]: [torch.ones(3)], called[1]: [torch.full((3,), -5.0)]})
    assert torch.equal(p, q)


def test_buffers_that_were_merged_are_loaded_into_the_narrowest_stream_that_has_them_all() -> None:
    saved = {"a+b": torch.ones(1), "c": torch.full((1,), 2.0)}
    assert fit_state("StreamSGD", saved, ["a+b+c+d", "b+a", "c"]).keys() == {"b+a", "c"}
    assert fit_state("StreamSGD", saved, ["d", "a+b+c"])["a+b+c"].item() == 3


def test_streams_whose_joined_names_are_a_third_s_are_refused_in_words() -> None:
    p = nn.Parameter(torch.ones(3))
    with pytest.raises(
        ValueError, match=r"streams 'kd', 'ce' share a first moment called 'kd\+ce', as another .*renam"
    ):
        fr.StreamAdamW([p], betas={"kd": 0.9, "ce": 0.9, "kd+ce": 0.8})
