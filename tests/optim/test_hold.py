"""Loops that call step() themselves: gradients are held, added up, dropped, unscaled, and asked for where missing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fractionate as fr
from fractionate.optim import StreamGrads, StreamOptimizer, clip_total, unscale
from tests.optim.kinds import EACH, Kind, assert_same
from tests.optim.problem import DKD, Shifted, network, rows

DEEPKD = fr.methods.deepkd(DKD)


def grads_of(net: nn.Module, step: int, scale: float = 1.0) -> StreamGrads:
    losses = DEEPKD.stream_losses(rows(net, step))
    return fr.stream_grads({name: scale * loss for name, loss in losses.items()}, net)


def pair(kind: Kind) -> tuple[list[nn.Module], list[Any]]:
    nets = [network(), network()]
    return nets, [kind.make(net.parameters(), DEEPKD.momenta(0.9)) for net in nets]


@EACH
def test_every_stream_optimizer_has_the_protocol_s_names(kind: Kind) -> None:
    opt: StreamOptimizer = kind.make(network().parameters(), DEEPKD.momenta(0.9))
    assert set(opt.momenta) == {"task+nontarget", "target"}
    assert opt.merges_exactly
    assert callable(opt.hold)
    assert callable(opt.step)


@EACH
def test_held_gradients_step_as_given_ones(kind: Kind) -> None:
    nets, opts = pair(kind)
    for step in range(4):
        opts[0].step(grads_of(nets[0], step))
        opts[1].hold(grads_of(nets[1], step))
        opts[1].step()
    assert_same(*nets)


@EACH
def test_gradients_held_in_parts_add_up(kind: Kind) -> None:
    nets, opts = pair(kind)
    for step in range(3):
        before = grads_of(nets[0], step + 9)
        opts[0].step(fr.stream_grads(DEEPKD.stream_losses(rows(nets[0], step)), nets[0], onto=before))
        opts[1].hold(grads_of(nets[1], step + 9))
        opts[1].hold(grads_of(nets[1], step))
        opts[1].step()
    assert_same(*nets)


@EACH
def test_a_step_uses_up_what_is_held_and_says_what_is_missing(kind: Kind) -> None:
    net, opt = kind.trained(DEEPKD, 1)
    opt.hold(grads_of(net, 1))
    opt.step()
    net(torch.ones(1, 6).double()).sum().backward()
    with pytest.raises(ValueError, match=r"no gradients were given and none are held.*p\.grad is not read"):
        opt.step()
    assert opt.release() is None


@EACH
@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_drops_what_is_held_and_clears_p_grad(kind: Kind, set_to_none: bool) -> None:
    net, opt = kind.trained(DEEPKD, 1)
    before = [p.detach().clone() for p in net.parameters()]
    opt.hold(grads_of(net, 1))
    net(torch.ones(1, 6).double()).sum().backward()
    opt.zero_grad(set_to_none=set_to_none)
    assert all(p.grad is None if set_to_none else not p.grad.any() for p in net.parameters())
    with pytest.raises(ValueError, match="none are held"):
        opt.step()
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))


@EACH
def test_gradients_given_beside_held_ones_are_refused(kind: Kind) -> None:
    net, opt = kind.trained(DEEPKD, 1)
    opt.hold(grads_of(net, 1))
    with pytest.raises(ValueError, match="while others are held"):
        opt.step(grads_of(net, 1))


@EACH
def test_gradients_in_the_memory_of_those_held_are_refused(kind: Kind) -> None:
    """As AllReduce gives them back: adding would count the second part twice and the first never."""
    net, opt = kind.trained(DEEPKD, 1)
    grads = grads_of(net, 1)
    opt.hold(grads)
    with pytest.raises(ValueError, match="memory"):
        opt.hold(grads)


@EACH
def test_released_gradients_may_be_clipped_and_held_again(kind: Kind) -> None:
    nets, opts = pair(kind)
    opts[0].step(clip_total(grads_of(nets[0], 0), 0.01))
    opts[1].hold(grads_of(nets[1], 0))
    opts[1].hold(clip_total(opts[1].release(), 0.01))
    opts[1].step()
    assert_same(*nets)


@EACH
def test_what_is_released_is_added_onto_whatever_the_order_of_the_groups(kind: Kind) -> None:
    """Weights with decay and biases without it are the usual groups; or the head first, layers being of one shape."""
    for split in (lambda n, p: p.ndim > 1, lambda n, p: n.startswith("2")):
        nets = [network(), network()]
        for net in nets:
            net[0], net[2] = (nn.Linear(6, 6).double() for _ in range(2))
        nets[1].load_state_dict(nets[0].state_dict())
        opts = []
        for net in nets:
            one, two = ([p for n, p in net.named_parameters() if split(n, p) is first] for first in (True, False))
            groups = [{"params": one, "weight_decay": 0.1}, {"params": two, "weight_decay": 0.0}]
            opts.append(kind.make(groups, {"a": 0.9, "b": 0.8}))
        for step in range(3):
            parts = [[parts_of(net, step + i) for net in nets] for i in (0, 1)]
            opts[0].hold(fr.stream_grads(parts[0][0], nets[0]))
            opts[0].hold(fr.stream_grads(parts[1][0], nets[0]))
            opts[1].hold(fr.stream_grads(parts[0][1], nets[1]))
            opts[1].hold(fr.stream_grads(parts[1][1], nets[1], onto=opts[1].release()))
            for opt in opts:
                opt.step()
        assert_same(*nets)


def parts_of(net: nn.Module, seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    z = net(torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)).to(dtype))
    return {"a": z.square().mean(), "b": z[:, :3].sigmoid().sum()}


@EACH
@pytest.mark.parametrize("positional", [True, False])
def test_a_closure_is_called_with_gradients_and_gives_its_loss(kind: Kind, positional: bool) -> None:
    nets, opts = pair(kind)
    opts[0].step(grads_of(nets[0], 0))

    def closure() -> Tensor:
        opts[1].zero_grad()
        losses = DEEPKD.stream_losses(rows(nets[1], 0))
        opts[1].hold(fr.stream_grads(losses, nets[1]))
        return torch.stack(list(losses.values())).sum().detach()

    with torch.no_grad():
        loss = opts[1].step(closure) if positional else opts[1].step(closure=closure)
    assert float(loss) > 0
    assert_same(*nets)


# -- float16: scaled losses ------------------------------------------------------------------------


def scaler_of(scale: float = 1024.0) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)


@EACH
def test_scaled_losses_and_unscaled_streams_step_as_plain_ones(kind: Kind) -> None:
    """The scale is a power of two, so that not a bit differs."""
    nets, opts = pair(kind)
    scaler = scaler_of()
    for step in range(4):
        opts[0].step(clip_total(grads_of(nets[0], step), 0.5))
        losses = DEEPKD.stream_losses(rows(nets[1], step))
        grads = fr.stream_grads({name: scaler.scale(loss) for name, loss in losses.items()}, nets[1])
        opts[1].hold(clip_total(unscale(grads, scaler, opts[1]), 0.5))
        scaler.step(opts[1])
        scaler.update()
        opts[1].zero_grad()
    assert_same(*nets)
    assert scaler.get_scale() == 1024.0


@EACH
def test_a_stream_that_is_not_finite_leaves_the_step_out_and_lowers_the_scale(kind: Kind) -> None:
    net, opt = kind.trained(DEEPKD, 2)
    before = [p.detach().clone() for p in net.parameters()]
    scaler = scaler_of()
    for bad in (torch.inf, torch.nan, 1.0):
        losses = DEEPKD.stream_losses(rows(net, 2))
        losses["target"] = losses["target"] * bad
        grads = fr.stream_grads({name: scaler.scale(loss) for name, loss in losses.items()}, net)
        opt.hold(unscale(grads, scaler, opt))
        scaler.step(opt)
        scaler.update()
        opt.zero_grad()
        stayed = all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
        assert stayed is (bad != 1.0)
    assert scaler.get_scale() == 256.0  # halved twice


@EACH
@pytest.mark.parametrize("before", ["nothing", "unscale_"])
def test_a_scaler_that_was_told_nothing_of_the_streams_is_answered_with_what_to_write(kind: Kind, before: str) -> None:
    net, opt = kind.trained(DEEPKD, 1)
    scaler, old = scaler_of(), [p.detach().clone() for p in net.parameters()]
    scaler.scale(torch.ones(()))
    grads = grads_of(net, 1)
    opt.hold(grads)
    if before == "unscale_":
        scaler.unscale_(opt)
    with pytest.raises(ValueError, match=r"GradScaler .* fr\.optim\.unscale\(grads, scaler, optimizer\)"):
        scaler.step(opt)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), old, strict=True))


@EACH
def test_a_scaler_that_is_off_changes_nothing(kind: Kind) -> None:
    net, opt = kind.trained(DEEPKD, 1)
    scaler, grads = torch.amp.GradScaler("cpu", enabled=False), grads_of(net, 1)
    before = {name: [g.clone() for g in row] for name, row in grads.items()}
    assert unscale(grads, scaler, opt) is grads
    assert all(torch.equal(a, b) for name, row in grads.items() for a, b in zip(row, before[name], strict=True))
    opt.hold(grads)
    scaler.step(opt)


@EACH
def test_unscaling_and_stepping_read_no_number_from_the_device(kind: Kind) -> None:
    """Meta tensors hold no numbers: whatever waited for one would fail."""
    net, scaler = nn.Linear(3, 2, device="meta"), torch.amp.GradScaler("meta")
    opt = kind.make(net.parameters(), {"a": 0.9, "b": 0.5})
    z = net(torch.ones(4, 3, device="meta"))
    losses = {"a": scaler.scale(z.sum()), "b": scaler.scale(z.square().mean())}
    grads = clip_total(unscale(fr.stream_grads(losses, net), scaler, opt), 1.0)
    opt.hold(grads)
    opt.step()
    assert all(x.is_meta for p in net.parameters() for name, x in opt.state[p].items() if name != "step")


def test_unscaling_leaves_the_optimizer_s_groups_alone() -> None:
    net, opt = EACH.args[1][0].trained(DEEPKD, 1)
    groups, scaler = opt.param_groups, scaler_of()
    scaler.scale(torch.ones(()))
    unscale(grads_of(net, 1), scaler, opt)
    assert opt.param_groups is groups
    with pytest.raises(RuntimeError, match="already been called"):
        unscale(grads_of(net, 1), scaler, opt)
    assert opt.param_groups is groups


@EACH
@pytest.mark.parametrize("shape", [(5, 6), (30,)])
def test_gradients_of_two_parameters_in_one_memory_are_divided_once(kind: Kind, shape: tuple[int, ...]) -> None:
    net, scaler = Shifted(*shape), scaler_of()
    opt = kind.make(net.parameters(), {"a": 0.9, "b": 0.8})
    losses = parts_of(net, 0, torch.float32)
    plain = fr.stream_grads(losses, net, retain_graph=True)
    found = unscale(fr.stream_grads({k: scaler.scale(v) for k, v in losses.items()}, net), scaler, opt)
    for stream, row in found.items():
        assert all(torch.equal(g, wanted) for g, wanted in zip(row, plain[stream], strict=True))


@EACH
def test_gradients_in_p_grad_which_nobody_reads_are_said_once(kind: Kind) -> None:
    net = network()
    opt = kind.make(net.parameters(), DEEPKD.momenta(0.9))
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    nn.utils.clip_grad_norm_(net.parameters(), 0.5)
    opt.hold(grads_of(net, 1))
    with pytest.warns(UserWarning, match="p.grad, which streams do not read.*clip_grad_norm_.*clip_total"):
        opt.step()
    opt.step(grads_of(net, 2))  # a second time it would be an error here


@EACH
def test_zero_grad_lets_go_of_p_grad_as_torch_s_optimizers_do(kind: Kind) -> None:
    for words, left in (({}, None), ({"set_to_none": False}, 0.0)):
        net = network()
        opt = kind.make(net.parameters(), DEEPKD.momenta(0.9))
        (p, *_) = net.parameters()
        p.grad = torch.ones_like(p)
        opt.zero_grad(**words)
        assert (None if p.grad is None else float(p.grad.abs().max())) == left
