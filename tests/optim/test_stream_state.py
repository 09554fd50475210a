"""State dicts: resuming equals never stopping, and separate buffers may be merged but not the other way."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import fractionate as fr
from fractionate import Method, StreamSGD
from tests.asserts import assert_equal
from tests.optim.problem import DKD, network, step_once, trained

TRAINERS = [
    DKD,
    fr.methods.dot(DKD),
    fr.methods.deepkd(DKD),
    fr.methods.deepkd(DKD, rule="published-code"),
]
EACH = pytest.mark.parametrize("method", TRAINERS, ids=repr)


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """Saved and loaded as tensors alone."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def optimizer(net: nn.Module, method: Method) -> StreamSGD:
    return StreamSGD(net.parameters(), lr=0.05, momentum=method.momenta(0.9), weight_decay=0.02)


@EACH
def test_a_run_that_stops_and_resumes_equals_one_that_does_not(method: Method) -> None:
    whole, parts = network(), network()
    opt_whole, opt = optimizer(whole, method), optimizer(parts, method)
    plan_whole, plan = (CosineAnnealingLR(o, T_max=10) for o in (opt_whole, opt))
    for step in range(10):
        if step == 4:
            saved = through_a_file({"net": parts.state_dict(), "opt": opt.state_dict(), "plan": plan.state_dict()})
            parts = network(seed=9)
            parts.load_state_dict(saved["net"])
            opt = optimizer(parts, method)
            plan = CosineAnnealingLR(opt, T_max=10)
            opt.load_state_dict(saved["opt"])
            plan.load_state_dict(saved["plan"])
        for net, o, p in ((whole, opt_whole, plan_whole), (parts, opt, plan)):
            step_once(net, o, method, step)
            p.step()
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), parts.parameters(), strict=True))


@EACH
def test_a_state_dict_survives_the_round_trip(method: Method) -> None:
    net, opt = trained(method, 3)
    copy = optimizer(net, method)
    copy.load_state_dict(through_a_file(opt.state_dict()))
    for p in net.parameters():
        assert copy.state[p].keys() == opt.state[p].keys()
        assert all(torch.equal(copy.state[p][name], opt.state[p][name]) for name in opt.state[p])
    assert copy.param_groups[0]["lr"] == opt.param_groups[0]["lr"]


def test_momenta_come_from_the_new_optimizer_not_from_the_file() -> None:
    """Edited shifts take effect on resuming."""
    before, after = fr.methods.deepkd(DKD), fr.methods.deepkd(DKD, delta=0.02)
    net, opt = trained(before, 3)
    edited = optimizer(net, after)
    edited.load_state_dict(opt.state_dict())
    assert dict(edited.momenta) == dict(after.momenta(0.9))
    start = {p: {name: b.clone() for name, b in edited.state[p].items()} for p in net.parameters()}
    edited.param_groups[0]["weight_decay"] = 0.0
    zeros = [torch.zeros_like(p) for p in net.parameters()]
    edited.step({"target": zeros, "task+nontarget": zeros})
    for p in net.parameters():
        assert_equal(edited.state[p]["target"], 0.88 * start[p]["target"], "target", 1e-12)


@pytest.mark.parametrize("stop", [1, 5])
def test_separate_buffers_load_into_merged_streams_as_their_sum_and_training_goes_on_alike(stop: int) -> None:
    method = fr.methods.deepkd(DKD)
    separate, opt_separate = trained(method, stop, merge=False)
    merged = network()
    merged.load_state_dict(separate.state_dict())
    opt_merged = optimizer(merged, method)
    opt_merged.load_state_dict(through_a_file(opt_separate.state_dict()))
    for p, q in zip(merged.parameters(), separate.parameters(), strict=True):
        a, b = opt_merged.state[p], opt_separate.state[q]
        assert_equal(a["task+nontarget"], b["task"] + b["nontarget"], "sum", 1e-14)
        assert torch.equal(a["target"], b["target"])
    for step in range(stop, stop + 5):
        step_once(separate, opt_separate, method, step, merge=False)
        step_once(merged, opt_merged, method, step)
    for p, q in zip(merged.parameters(), separate.parameters(), strict=True):
        assert_equal(p.detach(), q.detach(), "parameter", 1e-12)


def test_every_stream_fits_into_the_one_stream_of_a_plain_method() -> None:
    net, opt = trained(fr.methods.deepkd(DKD, delta=0.0), 3, merge=False)
    plain = optimizer(net, DKD)
    plain.load_state_dict(opt.state_dict())
    for p in net.parameters():
        assert_equal(plain.state[p]["loss"], torch.stack(list(opt.state[p].values())).sum(0), "loss", 1e-14)


@pytest.mark.parametrize(
    ("saved", "loading", "message"),
    [
        (fr.methods.deepkd(DKD), fr.methods.deepkd(DKD, delta_task=0.05), r"'task\+nontarget' cannot be taken apart"),
        (DKD, fr.methods.deepkd(DKD), "'loss' cannot be taken apart"),
        (fr.methods.dot(DKD), fr.methods.deepkd(DKD), "'distillation' belongs to none of the streams"),
    ],
    ids=["merged", "plain", "other method"],
)
def test_what_was_never_stored_is_refused(saved: Method, loading: Method, message: str) -> None:
    net, opt = trained(saved, 2)
    other = optimizer(net, loading)
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(opt.state_dict())
    assert not other.state, "a refused state changes nothing"


def test_an_unstarted_optimizer_saves_and_loads() -> None:
    net = network()
    opt = optimizer(net, fr.methods.deepkd(DKD))
    opt.load_state_dict(through_a_file(opt.state_dict()))
    assert not opt.state
