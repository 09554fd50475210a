"""Every golden trajectory through method, stream_grads and the optimizer of its case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

import fractionate as fr
from fractionate import Logits, Method
from tests import golden
from tests.golden.network import SAVED_AFTER, Network, batches

TRAJECTORIES = golden.cases("optim")
ADAMW = [golden.Case(record) for record in golden.table("optim_adamw.json")["cases"]]


def base(loss: Mapping[str, Any]) -> Method:
    """The losses that ``hyper.loss`` describes."""
    common = {"ce_weight": loss.get("ce_weight", 1.0), "temperature": loss["temperature"]}
    if loss["kind"] == "kd":
        return fr.methods.kd(kd_weight=loss["kd_weight"], **common)
    if loss["kind"] == "deepkd-kd":
        return fr.methods.kd(kd_weight=1.0, **common)
    return fr.methods.dkd(alpha=loss["alpha"], beta=loss["beta"], warmup=1, **common)


def shifts(h: Mapping[str, Any]) -> dict[str, float]:
    return {
        "delta_task": h["delta_tog"],
        "delta_target": h["delta_tcg"],
        "delta_nontarget": h["delta_ncg"],
    }


def method_of(case: golden.Case) -> Method:
    """The trainer the case is named after, over the losses it describes."""
    h, over = case.hyper, base(case.hyper["loss"])
    if case.method == "DOT":
        return fr.methods.dot(over, delta=h["delta"])
    if case.method == "SGD-baseline":
        return over
    rule = {"DeepKD-paper": "paper", "DeepKD-published": "published-code"}[case.method]
    return fr.methods.deepkd(over, rule=rule, kd_form="batch_means", **shifts(h))


def adamw_method_of(case: golden.Case) -> Method:
    """Streams whose coefficients are those of the case, shifted from 0.9."""
    over = base(case.hyper["loss"])
    deltas = [b - 0.9 for b in case.hyper.get("beta1", dict.fromkeys(case.record["loss_columns"], 0.9)).values()]
    if len(deltas) == 2:
        return fr.methods.dot(over, delta=deltas[1])
    names = ("delta_task", "delta_target", "delta_nontarget")
    return fr.methods.deepkd(over, kd_form="batch_means", **dict(zip(names, deltas, strict=True)))


def optimizer_of(case: golden.Case, net: Network, method: Method, merge: bool | None) -> fr.StreamSGD | fr.StreamAdamW:
    h = case.hyper
    common = {"lr": h["lr_per_step"][0], "weight_decay": h["weight_decay"]}
    if "momentum" in h:
        return fr.StreamSGD(net.parameters(), momentum=method.momenta(h["momentum"], merge=merge), **common)
    moments = {"beta2": h.get("beta2", 0.999), "eps": h["eps"], "gain": h.get("gain", "normalised")}
    return fr.StreamAdamW(net.parameters(), betas=method.momenta(0.9, merge=merge), **moments, **common)


def assert_follows(case: golden.Case, method: Method, merge: bool | None) -> None:
    """20 steps; parameters after steps 1, 5, 10 and 20 at the golden tolerance."""
    h, net = case.hyper, Network(case)
    opt = optimizer_of(case, net, method, merge)
    columns = []
    for step, (x, target, teacher) in enumerate(batches(case), start=1):
        opt.param_groups[0]["lr"] = h["lr_per_step"][step - 1]
        losses = method.stream_losses(Logits(net(x), teacher, target), merge=merge)
        columns.append(torch.stack([loss.detach() for loss in losses.values()]))
        opt.step(fr.stream_grads(losses, net))
        if step in SAVED_AFTER:
            saved = case.array(case.outputs[f"params_after_{step}"])
            golden.assert_close(net.flat(), saved, f"{case.id} step {step}")
    golden_losses = case.array(case.outputs["losses_per_step"])
    if len(columns[0]) == golden_losses.shape[1]:
        golden.assert_close(torch.stack(columns), golden_losses, f"{case.id} losses")
    else:  # merged streams: their sum is left to compare
        total = torch.stack(columns).sum(1)
        golden.assert_close(total, golden_losses.sum(1), f"{case.id} summed losses")


@pytest.mark.parametrize("case", TRAJECTORIES, ids=lambda case: case.id)
def test_the_package_follows_the_golden_trajectory(case: golden.Case) -> None:
    assert_follows(case, method_of(case), merge=None)


@pytest.mark.parametrize("merge", [None, False], ids=["merged", "separate"])
@pytest.mark.parametrize("case", ADAMW, ids=lambda case: case.id)
def test_adamw_over_streams_follows_its_golden_trajectory(case: golden.Case, merge: bool | None) -> None:
    assert_follows(case, adamw_method_of(case), merge)


@pytest.mark.parametrize("case", [c for c in TRAJECTORIES if c.method != "SGD-baseline"], ids=lambda case: case.id)
def test_unmerged_streams_follow_it_too(case: golden.Case) -> None:
    assert_follows(case, method_of(case), merge=False)


@pytest.mark.parametrize(
    "case",
    [c for c in TRAJECTORIES if c.method == "DeepKD-published" and c.hyper["weight_decay"] == 0],
    ids=lambda case: case.id,
)
def test_the_published_rule_merges_exactly_without_weight_decay(case: golden.Case) -> None:
    method = method_of(case)
    assert len(method.momenta(0.9, merge=True)) == 2
    assert_follows(case, method, merge=True)


@pytest.mark.parametrize("case", [c for c in TRAJECTORIES if c.method == "DeepKD-published"], ids=lambda case: case.id)
def test_the_task_shift_has_no_effect_under_the_published_rule(case: golden.Case) -> None:
    moved = method_of(case).with_args(delta_task=0.01)
    assert_follows(case, moved, merge=None)


@pytest.mark.parametrize("case", [c for c in TRAJECTORIES if c.hyper.get("delta_tog") == 0.0], ids=lambda case: case.id)
def test_equal_shifts_need_one_backward_pass(case: golden.Case) -> None:
    assert method_of(case).backward_passes == 1
