"""The twins reproduce every golden case: this is what entitles them to judge the package."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests import golden
from tests.golden.network import SAVED_AFTER, Network, batches
from tests.reference import deepkd, dkd, lskd, optim, schedules
from tests.reference.basics import cross_entropy, kd, warmup
from tests.reference.golden_rows import ROWS

LOSSES = golden.cases("losses")
TRAJECTORIES = golden.cases("optim")


@pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.id)
def test_twin_reproduces_the_published_loss(case: golden.Case) -> None:
    inputs = case.inputs()
    golden.assert_matches(case, ROWS[case.method](case.hyper, inputs), inputs)


def test_every_golden_loss_has_a_twin() -> None:
    assert sorted({case.method for case in LOSSES} - set(ROWS)) == []


def stream_losses(h: dict, z: Tensor, teacher: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The weighted losses of one step, by stream, in the order of ``loss_columns``."""
    T = h["temperature"]
    task = h["ce_weight"] * cross_entropy(z, y).mean()
    if h["kind"] == "kd":
        return {"task": task, "distillation": h["kd_weight"] * kd(z, teacher, T).mean()}
    if h["kind"] == "deepkd-kd":
        rows = deepkd.kd_mode(z, teacher, y, temperature=T, form="batch_means")
        return {"task": task} | {name: x.mean() for name, x in rows.items()}
    rows = dkd.dkd(z, teacher, y, temperature=T)
    tckd, nckd = h["alpha"] * rows["target"].mean(), h["beta"] * rows["nontarget"].mean()
    if h["kind"] == "dkd":
        return {"task": task, "distillation": tckd + nckd}
    return {"task": task, "target": tckd, "nontarget": nckd}


def move(case: golden.Case, theta: Tensor, buffers: optim.Buffers, grads: dict, lr: float) -> Tensor:
    """One step of one parameter under the rule that the case is named after."""
    h, m, common = case.hyper, case.hyper["momentum"], {"lr": lr}
    common["weight_decay"] = h["weight_decay"]
    if case.method == "SGD-baseline":
        return optim.sgd(theta, buffers, {"loss": sum(grads.values())}, momenta={"loss": m}, **common)
    if case.method == "DOT":
        return optim.dot(theta, buffers, grads, momentum=m, delta=h["delta"], **common)
    moments = {
        name: m + h[f"delta_{short}"] for name, short in (("task", "tog"), ("target", "tcg"), ("nontarget", "ncg"))
    }
    if case.method == "DeepKD-paper":
        return optim.deepkd_paper(theta, buffers, grads, momenta=moments, **common)
    named = {f"m_{name}": value for name, value in moments.items()}
    return optim.deepkd_published(theta, buffers, grads, **named, **common)


@pytest.mark.parametrize("case", TRAJECTORIES, ids=lambda case: case.id)
def test_twin_reproduces_the_published_trajectory(case: golden.Case) -> None:
    net, columns = Network(case), []
    buffers: list[optim.Buffers] = [{} for _ in net.parameters()]
    for step, (x, y, teacher) in enumerate(batches(case), start=1):
        losses = stream_losses(case.hyper["loss"], net(x), teacher, y)
        columns.append(torch.stack([loss.detach() for loss in losses.values()]))
        grads = {
            name: torch.autograd.grad(loss, list(net.parameters()), retain_graph=True) for name, loss in losses.items()
        }
        for i, p in enumerate(net.parameters()):
            own = {name: g[i] for name, g in grads.items()}
            p.data = move(case, p.data, buffers[i], own, case.hyper["lr_per_step"][step - 1])
        if step in SAVED_AFTER:
            saved = case.array(case.outputs[f"params_after_{step}"])
            golden.assert_close(net.flat(), saved, f"{case.id} step {step}")
    golden.assert_close(torch.stack(columns), case.array(case.outputs["losses_per_step"]), f"{case.id} losses")


SCHEDULES = {
    "cosine-warmup": schedules.cosine_warmup,
    "step": lambda e, lr, lr_decay_stages, lr_decay_rate: schedules.steps(
        e, lr=lr, milestones=lr_decay_stages, rate=lr_decay_rate
    ),
    "distillation-warmup": lambda e, warmup_epochs: warmup(e, warmup_epochs),
    "ctkd-cosine": lambda e, decay_max, decay_min, decay_loops: schedules.ctkd_cosine(
        e, loops=decay_loops, start=decay_max, end=decay_min
    ),
    "ctkd-linear": lambda e, decay_max, decay_min, decay_loops: schedules.ctkd_linear(
        e, loops=decay_loops, start=decay_max, end=decay_min
    ),
}
CURVES = [c for c in golden.schedules() if c["method"] in SCHEDULES]


@pytest.mark.parametrize("record", CURVES, ids=lambda record: record["id"])
def test_twin_reproduces_the_published_schedule(record: dict) -> None:
    values = [SCHEDULES[record["method"]](e, **record["hyper"]) for e in record["epochs"]]
    golden.assert_close(
        torch.tensor(values, dtype=torch.float64),
        torch.tensor(record["values"], dtype=torch.float64),
        record["id"],
    )


def test_twin_reproduces_the_trajectory_of_the_learned_temperature() -> None:
    (record,) = (c for c in golden.schedules() if c["method"] == "ctkd-trajectory")
    h = record["hyper"]
    student, teacher = (torch.tensor(h[n], dtype=torch.float64) for n in ("student", "teacher"))
    theta = torch.tensor(h["initial_parameter"], dtype=torch.float64)
    buffers: optim.Buffers = {}
    found: dict[str, list[Tensor]] = {"parameter": [], "temperature": [], "loss": []}
    for epoch in record["epochs"]:
        theta = theta.detach().requires_grad_()
        temperature = lskd.ctkd_temperature(theta, start=h["t_start"], end=h["t_end"])
        loss = kd(student, teacher, temperature).mean()
        factor = schedules.ctkd_cosine(epoch, loops=h["decay_loops"])
        grad = lskd.ctkd_parameter_gradient(loss, theta, factor)
        for name, value in (("parameter", theta), ("temperature", temperature), ("loss", loss)):
            found[name].append(value.detach())
        theta = optim.sgd(
            theta.detach(),
            buffers,
            {"loss": grad},
            lr=h["lr"],
            momenta={"loss": h["momentum"]},
            weight_decay=h["weight_decay"],
        )
    for name, values in found.items():
        saved = torch.tensor(record[name], dtype=torch.float64)
        golden.assert_close(torch.stack(values), saved, f"{record['id']} {name}")
